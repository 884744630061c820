"""A full disk: one line that says what is needed, the old files, and nothing beside them."""

import errno
import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sam import files
from sam.training import json_files

ROOT = Path(__file__).parent.parent.parent
MOUNT = 'mount -t tmpfs -o size=512k t "$1" && exec "$2" tests/training/full_disk.py "$1" "$3"'
LINE = re.compile(
    r"(python -m sam: )?/[^\n]+/(?P<file>[\w. ]+): No space left on device: "
    r"(?P<needed>[\d,]+) bytes are needed, (?P<free>[\d,]+) are free"
    r"(?P<kept>; the old file is kept)?\n"
)


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """What the kernel itself makes of them, on a file system of half a megabyte."""
    disk, elsewhere = (tmp_path_factory.mktemp(name) for name in ("disk", "elsewhere"))
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    test = subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", disk], check=False)
    if test.returncode:
        pytest.skip("no file system can be mounted here")
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", MOUNT, "sh", disk, sys.executable, elsewhere],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def named(cases, name):
    return [each for each in cases if each["name"] == name]


def assert_told(case, file):
    assert case["status"] == 2, case
    told = LINE.fullmatch(case["error"])
    assert told, case
    assert told["file"] == file, case
    needed, free = (int(told[name].replace(",", "")) for name in ("needed", "free"))
    assert needed > 0
    assert free <= case["room"]
    assert case["is_readable"]
    return bool(told["kept"])


def test_a_run_that_cannot_begin_leaves_nothing(cases):
    assert len(named(cases, "new")) == 4
    for case in named(cases, "new"):
        assert not assert_told(case, "checkpoint.pt")
        assert case["changed"] == []


def test_a_run_that_cannot_go_on_is_as_before(cases):
    full = [each for each in named(cases, "resume") if each["status"]]
    assert 7 <= len(full) < len(named(cases, "resume"))  # with room enough it goes on
    for case in full:
        assert assert_told(case, "checkpoint.pt")
        assert case["changed"] == []


def test_what_fills_midway_costs_what_came_after_the_checkpoint(cases):
    """The line of the hundredth minibatch, or the last checkpoint, found no room."""
    first, second = named(cases, "midway")
    assert not assert_told(first | {"room": 0}, "metrics.jsonl")
    assert assert_told(second | {"room": 0}, "checkpoint.pt")
    for case in (first, second):
        assert {"run/checkpoint.pt", "run/run.json"} <= set(case["changed"])
        assert not any("unfinished" in name for name in case["changed"])


def test_a_disk_that_cannot_be_written_is_told_before_anything_is_computed(cases):
    evaluated, trained = named(cases, "read-only")
    for case, file in ((evaluated, "evaluation.jsonl"), (trained, "run.lock")):
        assert case["status"] == 2, case
        assert re.fullmatch(
            rf"python -m sam: .*Read-only file system: .*{file}'\n", case["error"]
        ), case


@pytest.mark.parametrize(
    ("name", "file", "kept", "changed"),
    [
        ("evaluate", "evaluation.jsonl", True, []),
        ("trace", "a trace.npz", False, []),
        ("line", "metrics.jsonl", True, []),
        ("sweep", "times.csv", False, ["run/sweep.lock", "run/table.csv"]),
        ("board", "checkpoint.pt", True, []),
    ],
)
def test_other_files(cases, name, file, kept, changed):
    (case,) = named(cases, name)
    assert assert_told(case, file) == kept
    assert case["changed"] == changed


def replace(path, *parts):
    with files.replacing(path) as file:
        for part in parts:
            file.write(part if isinstance(part, bytes) else next(part))


@pytest.fixture
def small_files():
    """No file may have more than a thousand bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_limit_on_the_size_of_files_is_told_as_well(tmp_path, small_files):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(files.NotWritten, match=r"file: File too large: 5,000 bytes are needed, 1,"):
        replace(path, b"x" * 2000, b"x" * 3000)
    assert path.read_bytes() == b"old"
    lines = tmp_path / "lines"
    json_files.append(lines, {"a": 1})
    with pytest.raises(files.NotWritten, match=r"lines: File too large: 2,0\d\d bytes are needed"):
        json_files.append(lines, {"a": "x" * 2000})
    assert lines.read_text() == '{"a": 1}\n'
    assert sorted(os.listdir(tmp_path)) == ["file", "lines"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("at", ["os.fsync", "os.replace"])
def test_what_fails_late_leaves_the_old_file_too(tmp_path, monkeypatch, at, number):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*arguments):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(at, fail)
        with pytest.raises(files.NotWritten) as raised, files.replacing(path) as file:
            np.savez(file, a=np.arange(100))
    assert str(raised.value).startswith(f"{path}: {os.strerror(number)}")
    assert raised.value.errno == number
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_an_error_of_whoever_writes_is_passed_on_and_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError):
        replace(path, b"new" * 10000, (1 // 0 for _ in range(1)))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_file_behind_a_link_is_replaced_and_the_link_stays(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "far" / "file")
    for text in (b"one", b"two"):  # at first it leads nowhere
        with files.replacing(tmp_path / "link") as file:
            file.write(text)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "far" / "file").read_bytes() == b"two"


def test_what_is_archived_through_it_is_read_again(tmp_path):
    arrays = {"a": np.arange(1000), "b": np.ones((3, 4))}
    for save in (np.savez, np.savez_compressed):
        with files.replacing(tmp_path / "file.npz") as file:
            save(file, **arrays)
        with np.load(tmp_path / "file.npz") as again:
            assert all(np.array_equal(again[name], arrays[name]) for name in arrays)


def test_a_folder_that_is_not_there_or_in_the_way_is_named(tmp_path):
    with pytest.raises(files.NotWritten, match="file: No such file or directory"):
        replace(tmp_path / "none" / "file", b"x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(files.NotWritten, match="folder: Is a directory"):
        replace(tmp_path / "folder", b"x")
    assert os.listdir(tmp_path) == ["folder"]
