"""Figures are filed under the code that was measured, and say if it was edited."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys

import pytest
from asv.machine import Machine

from asv_bench import json_lines, provenance, run
from asv_bench.provenance import ROOT, Code

CLEAN, EDITED = Code("a" * 40, ""), Code("a" * 40, "some digest")


# That it is this checkout


@pytest.fixture
def imported_from(tmp_path, monkeypatch):
    """Has Python import packages of that text."""

    def imported_from(**packages):
        for name, text in packages.items():
            (tmp_path / name).mkdir()
            (tmp_path / name / "__init__.py").write_text(text)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        return tmp_path

    return imported_from


def test_this_checkout_can_be_measured(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    provenance.check_imports()


def test_what_is_installed_from_elsewhere_is_refused(imported_from):
    folder = imported_from(sam="", ann_backends="")
    with pytest.raises(SystemExit) as refused:
        provenance.check_imports()
    message = str(refused.value)
    assert f"sam: got {folder / 'sam'}" in message
    assert f"expected {ROOT / 'sam'}" in message
    assert "pip install --no-deps -e" in message


def test_one_of_two_packages_from_elsewhere_is_refused_too(imported_from, tmp_path):
    folder = imported_from(ann_backends="")
    (folder / "sam").mkdir()
    (folder / "sam" / "__init__.py").touch()
    with pytest.raises(SystemExit, match="ann_backends: got"):
        provenance.check_imports(root=link_to(folder, tmp_path / "checkout", "sam"))


def link_to(folder, root, name):
    """A checkout that has a package of `folder`."""
    root.mkdir()
    (root / name).symlink_to(folder / name)
    return root


@pytest.mark.parametrize(
    "text", ["raise RuntimeError('broken')", "import no_such", "(", "import os; os._exit(3)"]
)
def test_a_checkout_that_cannot_be_imported_is_refused(imported_from, text):
    imported_from(sam=text, ann_backends="")
    with pytest.raises(SystemExit, match="cannot be imported, so there is nothing to measure"):
        provenance.check_imports()


@pytest.mark.parametrize(
    "command",
    [
        [str(ROOT / "asv_bench" / "run.py")],
        ["-m", "asv_bench.frontier"],
        ["-m", "asv_bench.learning.curves"],
    ],
)
def test_every_command_that_measures_looks_first(imported_from, monkeypatch, command):
    folder = imported_from(sam="")
    (folder / "ann_backends").symlink_to(ROOT / "ann_backends")
    monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{ROOT}")
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "sam: got" in done.stderr
    assert "Install it with" in done.stderr


# What it is


@pytest.fixture
def checkout(tmp_path):
    """A repository with a module, and git's commands on it."""

    def git(*arguments):
        subprocess.run(
            ["git", "-c", "user.name=test", "-c", "user.email=test", *arguments],
            cwd=tmp_path,
            capture_output=True,
            check=True,
        )

    (tmp_path / "sam").mkdir()
    (tmp_path / "sam" / "known.py").write_text("one = 1\n")
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "first")
    return tmp_path, git


def test_a_clean_checkout_is_its_commit(checkout):
    code = provenance.code(checkout[0])
    assert len(code.commit) == 40
    assert code.changes == ""
    assert str(code) == code.commit


@pytest.mark.parametrize("kind", ["edited", "staged", "removed", "unknown to git", "binary"])
def test_whatever_differs_from_the_commit_counts(checkout, kind):
    root, git = checkout
    before, known = provenance.code(root), root / "sam" / "known.py"
    match kind:
        case "edited":
            known.write_text("one = 2\n")
        case "staged":
            known.write_text("one = 2\n")
            git("add", ".")
        case "removed":
            known.unlink()
        case "unknown to git":
            (root / "sam" / "more.py").write_text("two = 2\n")
        case "binary":
            (root / "sam" / "more.bin").write_bytes(b"\xff\x00")
    after = provenance.code(root)
    assert after.commit == before.commit
    assert after.changes
    git("add", ".")
    git("commit", "--quiet", "--message", "second")
    assert provenance.code(root).changes == ""


def test_two_edits_are_told_apart(checkout):
    root, _ = checkout
    found = []
    for text in ("one = 2\n", "one = 3\n"):
        (root / "sam" / "known.py").write_text(text)
        found.append(provenance.code(root).changes)
        (root / "sam" / "more.py").write_text(text)
        found.append(provenance.code(root).changes)
    assert len(set(found)) == 4


@pytest.mark.parametrize(
    "kind", ["Latin-1 text", "name not UTF-8", "name of spaces", "ignored module", "own diff"]
)
def test_odd_changes_count_as_well(checkout, kind):
    root, git = checkout
    match kind:
        case "Latin-1 text":
            (root / "sam" / "known.py").write_bytes(b"# -*- coding: latin-1 -*- \xe9\n")
        case "name not UTF-8":
            (root / "sam" / os.fsdecode(b"\xff.py")).write_text("two = 2\n")
        case "name of spaces":
            (root / "sam" / " ").write_text("two = 2\n")
        case "ignored module":
            (root / ".git" / "info" / "exclude").write_text("local.py\n")
            (root / "sam" / "local.py").write_text("two = 2\n")
        case "own diff":
            git("config", "diff.external", "true")
            (root / "sam" / "known.py").write_text("one = 2\n")
    assert provenance.code(root).changes


def test_a_copy_within_another_repository_is_not_filed_under_its_commits(checkout):
    root, _ = checkout
    (root / ".gitignore").write_text("copy\n")
    (root / "copy" / "sam").mkdir(parents=True)
    with pytest.raises(SystemExit, match="only lies within"):
        provenance.code(root / "copy")


def test_a_hook_of_another_repository_does_not_lend_its_commit(checkout, monkeypatch):
    before = provenance.code(checkout[0])
    monkeypatch.setenv("GIT_DIR", str(ROOT / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(ROOT))
    assert provenance.code(checkout[0]) == before


def test_a_missing_git_is_said(checkout, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit, match="git, which is not installed"):
        provenance.code(checkout[0])


def test_outside_a_repository_it_is_said(tmp_path):
    with pytest.raises(SystemExit, match="figures are filed by commit, so a git clone is needed"):
        provenance.code(tmp_path)


@pytest.mark.parametrize(
    ("begun", "now", "edited"),
    [(CLEAN, CLEAN, False), (EDITED, EDITED, True), (CLEAN, EDITED, True), (EDITED, CLEAN, True)],
)
def test_what_changes_during_a_run_counts(monkeypatch, begun, now, edited):
    monkeypatch.setattr(provenance, "code", lambda: now)
    found = provenance.origin(begun)
    assert found["uncommitted_changes"] is edited
    assert found["commit"] == begun.commit
    assert {"torch", "numpy", "numba"} <= found["versions"].keys()


# For each result


@pytest.fixture
def measure(tmp_path, monkeypatch):
    """Runs suites on some code, with an asv that measures nothing; returns the machine's folder."""
    calls = []

    def asv(*arguments, **options):
        calls.append(arguments)
        return 0

    monkeypatch.setattr(run, "RESULTS", tmp_path)
    monkeypatch.setattr(run, "asv", asv)
    monkeypatch.setattr(provenance, "check_imports", lambda: None)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SAM_BENCH_PROFILE", "quick")
    (tmp_path / "home").mkdir()

    def measure(code, *suites, fresh=False):
        monkeypatch.setattr(provenance, "code", lambda: code)
        options = [part for suite in suites for part in ("--suite", suite)]
        arguments = ["run.py", "--machine", "box", *options, *(["--fresh"] if fresh else [])]
        monkeypatch.setattr(sys, "argv", arguments)
        assert run.main() == 0
        return tmp_path / "box"

    measure.calls = calls
    return measure


def environment(folder):
    return json.loads((folder / "environment.jsonl").read_text())


def test_figures_of_an_edited_tree_stay_marked_when_others_are_measured_on_a_clean_one(measure):
    folder = measure(EDITED, "traces")
    assert environment(folder)["uncommitted_changes"]
    measure(CLEAN, "backends")
    assert environment(folder)["uncommitted_changes"]
    measure(CLEAN, "traces")
    assert not environment(folder)["uncommitted_changes"]
    measure(EDITED, "traces")
    assert environment(folder)["uncommitted_changes"]
    lines = json_lines.read(folder / "provenance.jsonl")
    assert [line["uncommitted_changes"] for line in lines] == [True] * 2 + [False] * 2 + [True] * 2
    first = lines[0]
    assert first["suite"] == "traces"
    assert ["Traces", "lsh", "copy-end"] in first["points"]
    assert first["profile"] == "quick"
    assert first["commit"] == EDITED.commit
    assert first["versions"]["numba"]


def test_what_asv_may_have_kept_of_a_run_that_was_stopped_is_marked(measure, monkeypatch):
    folder = measure(CLEAN, "traces")

    def stopped(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "asv", stopped)
    with pytest.raises(KeyboardInterrupt):
        measure(EDITED, "traces")
    assert environment(folder)["uncommitted_changes"]


def test_code_that_is_edited_while_it_is_measured_is_marked_and_the_run_ends(measure, monkeypatch):
    folder = measure(CLEAN, "backends")

    def edits(*arguments, **options):
        monkeypatch.setattr(provenance, "code", lambda: EDITED)
        return 0

    monkeypatch.setattr(run, "asv", edits)
    with pytest.raises(SystemExit, match="traces: the code was changed while it was measured"):
        measure(CLEAN, "traces", "step_time")
    assert environment(folder)["uncommitted_changes"]
    assert {line["suite"] for line in json_lines.read(folder / "provenance.jsonl")} == {
        "backends",
        "traces",
    }


def test_a_run_on_the_same_code_goes_on_and_on_other_code_starts_anew(measure):
    measure(CLEAN, "traces")
    measure(CLEAN, "traces")
    assert len(measure.calls) == 1
    measure(CLEAN, "traces", fresh=True)
    measure(EDITED, "traces")
    assert len(measure.calls) == 3


@pytest.mark.parametrize(
    ("lines", "edited"),
    [
        ([], False),
        ([("a", [1, 2], True)], True),
        ([("a", [1, 2], True), ("a", [1], False)], True),
        ([("a", [1, 2], True), ("a", [1], False), ("a", [2], False)], False),
        ([("a", [1], True), ("b", [1], False)], True),
        ([("a", [1], False), ("a", [1], True)], True),
    ],
)
def test_the_last_measurement_of_each_point_counts(lines, edited):
    lines = [
        {
            "commit": CLEAN.commit,
            "suite": suite,
            "points": [["Class", number] for number in numbers],
            "uncommitted_changes": changes,
        }
        for suite, numbers, changes in lines
    ]
    others = [{"commit": "b" * 40, "suite": "a", "points": [], "uncommitted_changes": True}]
    assert provenance.any_edited(lines + others, CLEAN.commit) is edited


def test_a_line_that_was_cut_short_spoils_no_other(tmp_path):
    path = tmp_path / "lines.jsonl"
    json_lines.append(path, [{"a": 1}])
    for rest in (b'{"a": ', b"\xff\xfe", b"[1]", b"null"):
        path.write_bytes(path.read_bytes() + rest)
        json_lines.append(path, [{"a": 2}])
    assert json_lines.read(path) == [{"a": 1}] + [{"a": 2}] * 4
    assert json_lines.read(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize("left", [b"", b'{"a": ["b"', b"\xff", b"[]", b'{"a": 3}'])
def test_a_note_of_what_is_finished_that_was_cut_short_counts_for_nothing(tmp_path, left):
    path = tmp_path / "finished-quick.jsonl"
    assert run.read_finished(path) == {}
    path.write_bytes(left)
    assert run.read_finished(path) == {}
    run.write_json(path, {"code": ["suite"]})
    assert run.read_finished(path) == {"code": ["suite"]}
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["-x", "--fresh", "benchmarks.json", "x" * 300])
def test_a_name_that_would_be_asv_s_own_or_too_long_is_refused(name):
    with pytest.raises(argparse.ArgumentTypeError, match="expected letters, digits"):
        run.machine_name(name)


# The machine


@pytest.mark.parametrize("name", ["box", "ci-2", "a.b_c", "_"])
def test_a_machine_can_be_named(tmp_path, monkeypatch, name):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(run, "RESULTS", tmp_path / "results")
    for _ in range(2):
        assert run.machine_folder(run.machine_name(name)) == tmp_path / "results" / name
    known = json.loads((tmp_path / ".asv-machine.json").read_text())[name]
    assert known["machine"] == name
    assert known["cpu"] == Machine.get_defaults()["cpu"]
    assert Machine.load(machine_name=name).machine == name


def test_a_second_name_is_another_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(run, "RESULTS", tmp_path / "results")
    host = Machine.get_unique_machine_name()
    for name in ("box", host):
        run.machine_folder(name)
        assert Machine.load(machine_name=name).machine == name


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "/x", ".x", "a b", "a\nb"])
def test_a_name_that_is_no_folder_s_is_refused(name):
    with pytest.raises(argparse.ArgumentTypeError, match="expected letters, digits"):
        run.machine_name(name)
