"""Foreign result files: each one's fault is named in the page, and the rest is made."""

from __future__ import annotations

import html
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from reports import drawing, files, limits, results
from reports.__main__ import main
from tests.reports import records_factory, runs_factory
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


# The peak since the program began: what `resource` calls so may be of the process that started it.
MEASURED = """
import resource, sys
from reports.__main__ import main
status = main(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_SELF)
try:
    with open("/proc/self/status") as file:
        peak = next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
except FileNotFoundError:  # macOS
    peak = used.ru_maxrss
print(used.ru_utime, peak)
sys.exit(status)
"""


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
    command = [sys.executable, "-c", MEASURED, "build", str(source), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    seconds, peak = done.stdout.splitlines()[-1].split()
    assert float(seconds) < 10
    assert int(peak) < 2**30
    lines = done.stderr
    assert "Traceback" not in lines
    assert len(lines.splitlines()) < 30
    assert measured(source) == 4
