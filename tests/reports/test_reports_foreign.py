"""Foreign result files: each one's fault is named in the page, and the rest is made."""

from __future__ import annotations

import html
import json
import math
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from reports import drawing, files, limits, records, results, runs
from reports.__main__ import main
from tests.reports import records_factory, runs_factory, users
from tests.reports import reports_factory as factory

POINT = records_factory.point("exact", 1.0, 100.0)
PEAK = factory.row([["ntm", "sam-exact"], [64, 256]], lambda m, s: 1000.0 * s, False)
TASKS = runs_factory.settings("sam-exact", "copy")


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without figures, which are made in a tenth of the time."""
    monkeypatch.setattr(drawing, "draw", lambda chosen, *rest: dict.fromkeys(chosen, "<svg></svg>"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """An asv results directory with one sound result file, `box/sound.json`."""
    factory.write(tmp_path / "results" / "box", factory.result({factory.PEAK: PEAK}), "sound.json")
    return tmp_path / "results"


def built(source: Path, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    """The page's text, tags left in, characters as they are read."""
    out = source.parent / "out"
    assert main(["build", str(source), "--out", str(out), *more]) == 0
    capsys.readouterr()
    return html.unescape((out / "index.html").read_text(encoding="utf-8"))


def measured(source: Path) -> int:
    """How many sound values there are in results.csv."""
    frame = pd.read_csv(source.parent / "out" / "results.csv")
    return int((frame[frame.quantity == "training_peak"].status == "measured").sum())


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": [value]}
    return value


OWN = "own.Suite.track_it"
BEYOND = {
    "1e308": (1e308, "failed: the value is 1e+308, beyond 1e+30"),
    "-1e308": (-1e308, "failed: the value is -1e+308, beyond 1e+30"),
    "1e31": (1e31, "failed: the value is 1e+31, beyond 1e+30"),
    "infinite": (math.inf, "failed: the value is infinite"),
    "400 digits": (10**400, "failed: the value is infinite"),
    "100 digits": (10**100, "failed: the value is 1e+100, beyond 1e+30"),
}


@pytest.mark.parametrize("name", BEYOND)
@pytest.mark.parametrize("benchmark", [factory.PEAK, factory.STEP, OWN])
def test_a_value_that_nothing_can_have_is_named(source: Path, name: str, benchmark: str) -> None:
    value, words = BEYOND[name]
    params = [["ntm", "dam"], [64], [1]] if benchmark == factory.STEP else [["ntm", "dam"], [64]]
    row = factory.row(params, lambda *key: 1.0, False)
    row[0][1] = value
    path = source / "box" / "sound.json"
    path.write_text(json.dumps(factory.result({factory.INITIAL: PEAK, benchmark: row})))
    frame, (problem,) = results.tidy(files.find_runs(path)[0][0])
    assert problem.path == str(path)
    assert problem.reason.startswith(f"benchmark {benchmark}: {words} ('dam', 64")
    assert list(frame[frame.benchmark == benchmark].status) == ["measured", "failed"]
    assert (frame[frame.quantity == "initial_memory"].status == "measured").sum() == 4


ODD_BENCHMARKS = {
    "a product of 300^6": ([None, [list(map(str, range(300)))] * 6], "729,000,000"),
    "a product of 10^60": ([None, [list(map(str, range(1000)))] * 20], "more than 1,000,000"),
    "more rows than a table has": ([None, [list(map(str, range(20_001)))]], "20,001 parameter"),
    "a value twice": ([None, [["1", "1"]]], "a parameter has one value twice"),
    "no lists": ([[1.0], [1]], "its params are not lists"),
    "values of another number": ([[1.0, 2.0, 3.0], [["1"]]], "3 result values for 1"),
    "a table of values": ([{"a": 1}, [["1"]]], "no list of result values for 1"),
}


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", ODD_BENCHMARKS)
def test_a_benchmark_that_makes_no_sense_is_named(
    source: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    row, words = ODD_BENCHMARKS[name]
    content = factory.result({factory.PEAK: PEAK, OWN: row})
    (source / "box" / "sound.json").write_text(json.dumps(content))
    assert f"benchmark {OWN}: {words}" in built(source, capsys)
    assert measured(source) == 4
    declared = {OWN: {"params": row[1], "param_names": ["x"]}, factory.PEAK: {"params": 1}}
    (source / "benchmarks.json").write_text(json.dumps(declared))
    assert f"benchmark {factory.PEAK}: benchmarks.json: its params" in built(source, capsys)
    assert measured(source) == 4


@pytest.mark.parametrize("count", [300, 30_000])
def test_what_was_measured_has_room_before_what_was_only_declared(source: Path, count: int) -> None:
    declared = {f"a{number}": {} for number in range(count)}
    (source / "benchmarks.json").write_text(json.dumps(declared))
    frame, problems = results.tidy(files.find_runs(source)[0][0])
    assert (frame[frame.quantity == "training_peak"].status == "measured").sum() == 4
    assert list(frame.benchmark) == sorted(frame.benchmark)
    assert len(frame) <= limits.MOST_ROWS
    assert len(problems) == (0 if count == 300 else 51)
    assert "more that make no sense" in str(problems[-1:]) or count == 300


def test_the_run_s_own_records_have_room_before_those_of_other_commits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MOST_ROWS", 40)
    older = [POINT | {"commit": "old", "search": {"n": number}} for number in range(100)]
    own = [POINT | {"search": {"n": number}} for number in range(40)]
    records_factory.write(tmp_path, [*older, *own])
    found, problems = records.load(tmp_path, factory.COMMIT)
    assert (len(found.points), set(found.points.commit)) == (40, {factory.COMMIT})
    assert problems == []
    records_factory.write(tmp_path, [*own, POINT | {"search": {"n": 40}}])
    assert len(records.load(tmp_path, factory.COMMIT)[0].points) == 40


SCRIPT = "--><script>alert(1)</script><svg onload=x>"


@pytest.mark.usefixtures("undrawn")
def test_names_put_nothing_into_the_page(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = factory.row([[SCRIPT, "{{style}}"], [64, 256], [1]], lambda *key: 1e-3, True)
    content = factory.result({factory.STEP: row, SCRIPT: row}, commit_hash=SCRIPT, env_name=SCRIPT)
    (source / "box" / "sound.json").write_text(json.dumps(content))
    machine = {"machine": SCRIPT, "cpu": SCRIPT, "os": SCRIPT}
    (source / "box" / "machine.json").write_text(json.dumps(machine))
    (source / "box" / "environment.jsonl").write_text(json.dumps({"torch": SCRIPT}))
    records_factory.write(source / "box", [POINT | {"data": SCRIPT, "build": {SCRIPT: 1}}])
    built(source, capsys)
    page = (source.parent / "out" / "index.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<svg onload" not in page
    assert "{{style}}" in page


FOREIGN_PARAMETERS = [
    *("[1, 2]", "{'a': {}}", "set()", "b'x'", "1j", "'\\ud800'", "(" * 150, "1" * 190),
    *(
        "'" + "x" * 500 + "'",
        "lambda: 0",
        "'\\d'",
        "1is 2",
        "[[[]]]",
        "None",
        "nan",
        "$x$",
        "\u202e",
    ),
]


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("value", [math.nan, None, 1.0])
def test_parameters_of_somebody_s_own_benchmark_are_kept_as_text(
    source: Path, capsys: pytest.CaptureFixture[str], value: float | None
) -> None:
    row = [[value] * len(FOREIGN_PARAMETERS), [FOREIGN_PARAMETERS]]
    content = factory.result({factory.PEAK: PEAK, OWN: row})
    (source / "box" / "sound.json").write_text(json.dumps(content))
    line = {"benchmark": "Suite", "params": [[1, 2]], "reason": "too slow"}
    (source / "box" / "reasons-own.jsonl").write_text(json.dumps(line) + "\n")
    page = built(source, capsys)
    assert "line 1: params: got [[1, 2]], expected a list" in page
    frame = pd.read_csv(source.parent / "out" / "results.csv", keep_default_na=False)
    own = frame[frame.benchmark == OWN]
    assert len(own) == len(FOREIGN_PARAMETERS)
    assert own.parameters.iloc[0] == "parameter 1=[1, 2]"
    assert measured(source) == 4


SIDES: dict[str, tuple[Callable[[Any], bytes], str]] = {
    "binary": (lambda good: b"\x89PNG\r\n\x1a\n\0", "not a text file in UTF-8"),
    "a byte that is not UTF-8": (lambda good: b'{"a": "caf\xe9"}', "not a text file in UTF-8"),
    "cut short": (lambda good: json.dumps(good).encode()[:-2], "truncated or damaged"),
    "nested deeply": (lambda good: json.dumps(nested(400)).encode(), "nested too deeply"),
    "nested very deeply": (lambda good: b"[" * 10**5, "nested too deeply"),
    "a list": (lambda good: b"[1, 2]", "list"),
    "a number of 5,000 digits": (lambda good: b"9" * 5000, "float"),
}
PLACES = (
    *("other.json", "machine.json", "environment.jsonl"),
    *("reasons-x.jsonl", "backends.jsonl", "learning.jsonl"),
)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("fault", SIDES)
def test_a_file_that_cannot_be_read_is_named_with_its_reason(
    source: Path, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    content, words = SIDES[fault]
    for place in PLACES:
        (source / "box" / place).write_bytes(content({"machine": "x"}))
    page = built(source, capsys)
    for place in PLACES:
        found = page[page.index(f"{source / 'box' / place}</code>: ") :].partition("</li>")[0]
        assert words in found
    assert measured(source) == 4


@pytest.mark.usefixtures("undrawn")
def test_what_is_no_file_is_named_and_a_locked_one_too(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(source / "box" / "pipe.json")
    (source / "box" / "zero.json").symlink_to("/dev/zero")
    (source / "box" / "gone.json").symlink_to("nowhere")
    (source / "box" / "folder.json").mkdir()
    page = built(source, capsys)
    for name, words in (("pipe", "not a regular"), ("zero", "not a regular"), ("gone", "no such")):
        assert f"{name}.json</code>: {words} file" in page
    assert measured(source) == 4


def test_a_folder_that_cannot_be_listed_is_named() -> None:
    with users.public_folder() as top:
        factory.write(top / "box", factory.result({factory.PEAK: PEAK}))
        runs_factory.write(top / "runs" / "a", TASKS, runs_factory.lines([1.0]))
        for folder in (top / "closed", top / "runs" / "closed"):
            folder.mkdir()
            folder.chmod(0)
        with users.nobody():
            found, problems = files.find_runs(top)
            trained, more = runs.load(top / "runs")
        assert (len(found), len(trained.runs)) == (1, 1)
        assert [(problem.path, problem.reason) for problem in problems + more] == [
            (str(top / "closed"), "cannot be listed (Permission denied)"),
            (str(top / "runs" / "closed"), "cannot be listed (Permission denied)"),
        ]


LINES: dict[str, tuple[dict[str, Any], str]] = {
    "a word for a number": ({"build_s": "0.5 s"}, "build_s: got '0.5 s', expected a finite number"),
    "1.5 rebuilds": ({"rebuilds": 1.5}, "rebuilds: got 1.5, expected a whole number"),
    "no memory_size": ({"memory_size": None}, "memory_size: got None, expected a whole number"),
    "an infinite time": ({"access_us": math.inf}, "access_us: got inf, expected a finite number"),
    "a time of 0": ({"access_us": 0}, "access_us: got 0, expected a finite number above 0"),
    "a negative counter": ({"updated_rows": -5}, "updated_rows: got -5, expected a whole number"),
    "a recall above 1": ({"recall": 1.5}, "recall: got 1.5, expected a number from 0 to 1"),
    "a size of 400 digits": ({"memory_size": 10**400}, "memory_size: got inf, expected a whole"),
    "settings that are a list": ({"build": [1]}, "build: got [1], expected a table of settings"),
    "endless settings": ({"search": {"a": "x" * 300}}, "search: got {'a': 'xxx"),
    "a name of 300 characters": ({"backend": "x" * 300}, "backend: got 'xxx"),
    "a measure that is a list": ({"measure": ["frontier"]}, "no record of frontier"),
    "a flag that is a word": ({"default": "yes"}, "default: got 'yes', expected true or false"),
    "NaN": ({"search_us": math.nan}, "search_us: got nan, expected a finite number"),
    "1e308": ({"update_us": 1e308}, "update_us: got 1e+308, expected a finite number"),
}


@pytest.mark.parametrize("name", LINES)
def test_an_odd_line_of_backends_is_named_and_left_out(tmp_path: Path, name: str) -> None:
    changes, words = LINES[name]
    records_factory.write(tmp_path, [POINT, POINT | {"backend": "lsh"} | changes])
    found, problems = records.load(tmp_path, factory.COMMIT)
    assert list(found.points.backend) == ["exact"]
    assert [problem.reason.startswith(f"line 2: {words}") for problem in problems] == [True]


@pytest.mark.parametrize("minibatches", ["end", -1, 1.5, [1], math.inf])
def test_a_note_of_another_kind_on_a_trace_is_named_and_the_trace_is_kept(
    tmp_path: Path, minibatches: Any
) -> None:
    info = {"stage": "late", "minibatches": minibatches}
    records_factory.write(tmp_path, [records_factory.trace("exact", "copy-end", [1.0], info=info)])
    found, (problem,) = records.load(tmp_path, factory.COMMIT)
    assert "minibatches: got" in problem.reason
    assert list(found.over_time.stage) == ["late"]
    assert found.over_time.minibatches.isna().all()


RUNS: dict[str, tuple[str, Any, str]] = {
    "nested run.json": ("run.json", TASKS | {"x": nested(100)}, "nested too deeply"),
    "a seed that is a word": ("run.json", TASKS | {"seed": "1"}, "seed: got '1'"),
    "a seed beyond 64 bits": ("run.json", TASKS | {"seed": 10**30}, "seed: got 1e+30"),
    "an end that is a word": (
        "run.json",
        TASKS | {"curriculum": {"start": 1, "end": "never"}},
        "curriculum.end: got 'never', expected a whole number",
    ),
    "a level that is a list": (
        "run.json",
        TASKS | {"task_settings": {"max_length": [20]}},
        "task_settings.max_length: got [20]",
    ),
    "an index without a name": (
        "run.json",
        TASKS | {"model_settings": {"ann": {"trees": 4}}},
        "model_settings.ann: got {'trees': 4}, expected the name of an index",
    ),
    "very many settings": ("run.json", TASKS | {f"s{n}": n for n in range(2000)}, "got 2,0"),
    "binary metrics": ("metrics.jsonl", b"\x80\x02}q\0", "line 1: not a text file in UTF-8"),
    "metrics of zeros": ("metrics.jsonl", b"\0" * 1000, "line 1: not valid JSON"),
    "negative episodes": ("metrics.jsonl", {"episodes": -5}, "episodes: got -5"),
    "episodes of 0": ("metrics.jsonl", {"episodes": 0}, "episodes: got 0"),
    "half an episode": ("metrics.jsonl", {"episodes": 1.5}, "episodes: got 1.5"),
    "episodes of 400 digits": ("metrics.jsonl", {"episodes": 10**400}, "episodes: got inf"),
    "episodes again": ("metrics.jsonl", {"episodes": 1600}, "episodes: got 1600 after 1600"),
    "a negative level": ("metrics.jsonl", {"level": -1}, "level: got -1"),
    "negative seconds": ("metrics.jsonl", {"seconds": -1.0}, "seconds: got -1.0"),
    "negative errors": ("metrics.jsonl", {"errors": -1.0}, "errors: got -1.0"),
    "a cost of 1e308": ("metrics.jsonl", {"cost": 1e308}, "cost: got 1e+308"),
    "binary evaluations": ("evaluation.jsonl", b"PK\x03\x04\xff", "line 1: not a text file"),
    "a binary failure": ("failure.json", b"\xff\0", "not a text file in UTF-8"),
    "an outcome that is a list": ("outcome.json", b"[]", "of type list and not an object"),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_s_odd_file_is_named_and_the_others_are_read(tmp_path: Path, name: str) -> None:
    place, content, words = RUNS[name]
    runs_factory.write(tmp_path / "a", TASKS | {"seed": 7}, runs_factory.lines([2.0, 1.0]))
    path = runs_factory.write(tmp_path / "b", TASKS, runs_factory.lines([2.0]))
    if isinstance(content, dict) and place == "metrics.jsonl":
        text = (path / place).read_text() + json.dumps(runs_factory.line(2, 1.0) | content) + "\n"
        (path / place).write_text(text)
    else:
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        (path / place).write_bytes(raw)
    found, problems = runs.load(tmp_path)
    assert any(
        problem.path == str(path / place) and words in problem.reason for problem in problems
    )
    assert list(found.lines[found.lines.seed == 7].cost) == [2.0, 1.0]
    assert 7 in set(found.runs.seed)


@pytest.mark.parametrize("store", ["track_recall", "track_missed"])
def test_what_is_missed_is_read_as_the_recall_that_it_leaves(source: Path, store: str) -> None:
    params = [["lsh", "ivf"], [64], ["random"]]
    recalls = {"lsh": 0.93, "ivf": 0.5}
    given = (lambda value: value) if store == "track_recall" else (lambda value: 1 - value)
    row = factory.row(params, lambda backend, *rest: given(recalls[backend]), True)
    trace = factory.row([["lsh"], ["copy-end"]], lambda *key: given(0.25), False)
    rows = {f"backends.Recall.{store}": row, f"traces.Traces.{store}": trace}
    path = factory.write(source / "box", factory.result(rows), "sound.json")
    declared = {
        f"backends.Recall.{each}": {
            "params": [["'lsh'", "'ivf'"], ["64"], ["'random'"]],
            "param_names": ["backend", "memory_size", "data"],
        }
        for each in ("track_recall", "track_missed")
    }
    (source / "benchmarks.json").write_text(json.dumps(declared))
    (run,), _ = files.find_runs(path)
    frame, problems = results.tidy(run)
    assert problems == []
    found = frame[frame.quantity == "backend_recall"].set_index("backend")
    assert dict(found.value) == recalls
    assert list(found.unit) == ["recall@4"] * 2
    assert (found.q25 < found.value).all()
    assert (found.value < found.q75).all()
    assert list(frame[frame.quantity == "trace_recall"].value) == [0.25]


def test_of_what_is_stored_both_ways_the_newer_counts(source: Path) -> None:
    params = [["lsh"], [64], ["random"]]
    rows = {
        "backends.Recall.track_recall": factory.row(params, lambda *key: 0.5, False),
        "backends.Recall.track_missed": factory.row(params, lambda *key: 0.25, False),
    }
    path = factory.write(source / "box", factory.result(rows), "sound.json")
    frame, (problem,) = results.tidy(files.find_runs(path)[0][0])
    assert list(frame[frame.quantity == "backend_recall"].value) == [0.75]
    assert problem.reason == "benchmark backends.Recall.track_recall: a point twice"


def test_very_large_files_take_bounded_time_and_memory(source: Path) -> None:
    """Ten seconds of the processor and 1 GiB, with a file of each kind at its worst."""
    box = source / "box"
    (box / "lists.json").write_bytes(b"[" + b"[]," * 10**7 + b"[]]")
    (box / "objects.json").write_bytes(b'{"a": [' + b"{}," * 900_000 + b"1]}")
    (box / "hidden.json").write_bytes(b'{"a": "' + b"\\u202e" * 10**6 + b'"}')
    (box / "deep.json").write_bytes(b"[" * 10**6)
    (box / "digits.json").write_bytes(b"1" * 10**7)
    (box / "backends.jsonl").write_bytes(os.urandom(5 * 10**6))
    (box / "learning.jsonl").write_text("[]\n" * 10**5)
    content = factory.result({factory.PEAK: PEAK, OWN: [None, [["1"] * 300] * 6]})
    (box / "sound.json").write_text(json.dumps(content))
    out = source.parent / "out"
    command = [sys.executable, "-m", "reports", "build", str(source), "--out", str(out)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert after.ru_utime - before.ru_utime < 10
    assert after.ru_maxrss * (1 if sys.platform == "darwin" else 1024) < 2**30
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) < 30
    assert measured(source) == 4
