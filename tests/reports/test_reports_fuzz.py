"""Any bytes and any JSON in the files that reports read give a page or one line, never a traceback.

Warnings are errors here. Sound files are changed at random places, as most foreign files are sound
but for a few things; files of random bytes and random JSON are read as well.
"""

from __future__ import annotations

import copy
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reports import (
    backend_tables,
    drawing,
    files,
    growth,
    learning,
    missing,
    records,
    results,
    runs,
    svg,
    tables,
)
from reports.__main__ import main
from tests.reports import records_factory, runs_factory
from tests.reports import reports_factory as factory

SECONDS = 10.0  # of the processor, for any report

_deep: Any = 1
for _ in range(60):
    _deep = [_deep]
NASTY: list[Any] = [
    *(math.nan, math.inf, -math.inf, 1e308, -1e308, 1e-310, 1e30, 1e-30, 0, -0.0, -1, 1, 1.5),
    *(10**400, 10**18, -(10**18), 2**63, 10**15, True, False, None, [], {}, [1], [None], {"a": 1}),
    *("", "$x$", "a^$^b", "中🚀", "\ud800", "\u202e\x1b[31m", "x" * 300, "nan", "'x'", "[1, 2]"),
    *("64", "0", "-5", "1e400", "_x", "sam", "lstm", "babi", "omniglot", [[]] * 5, _deep),
]
VALUES = st.one_of(
    st.sampled_from(NASTY),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
        max_leaves=8,
    ),
)
# Where (of all places, counted), what is done there, and the value to put.
CHANGES = st.lists(
    st.tuples(st.integers(0, 10**6), st.sampled_from(["put", "put", "drop", "double"]), VALUES),
    min_size=1,
    max_size=6,
)
quick = settings(max_examples=25, deadline=None, derandomize=True)
whole = settings(
    max_examples=4,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """All (container, key) in a value, inner ones too."""
    keys = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(keys):
        yield value, key
        if isinstance(inner, dict | list):
            yield from places(inner)


def changed(value: Any, changes: list[tuple[int, str, Any]]) -> Any:
    """A copy of a container with changes at some places."""
    found = copy.deepcopy(value)
    for number, kind, new in changes:
        there = list(places(found))
        if not there:
            break
        container, key = there[number % len(there)]
        if kind == "drop":
            del container[key]
        elif kind == "double" and isinstance(container, list):
            container.append(copy.deepcopy(container[key]))
        else:
            container[key] = copy.deepcopy(new)
    return found


def lines(found: list[Any]) -> str:
    return "".join(json.dumps(each) + "\n" for each in found)


RESULT = factory.result(
    {
        factory.STEP: factory.row(
            [["lstm", "ntm", "sam-exact", "sam-lsh"], [64, 256], [1, 10]],
            factory.step_seconds,
            True,
        ),
        factory.SEQUENCE: factory.row([["ntm"], [64, 4096], [10, 100]], factory.step_seconds, True),
        factory.PEAK: factory.row([["ntm", "sam-exact"], [64, 256]], factory.peak_bytes, False),
        factory.LINKED: factory.row(
            [["dnc", "sdnc-exact"], [64, 2048], [1, 10]], factory.linked_seconds, True
        ),
        factory.TOTAL: factory.row(
            [["dnc", "sdnc-exact"], [64, 2048], ["empty", "full"]], factory.total_bytes, False
        ),
        factory.RECALL: factory.row([["lsh"], [64], ["random", "near"]], lambda *key: 0.5, False),
        "own.track_x": [[1, 2], [["'a'", "'b'"]]],
    }
)
SIDES: dict[str, Any] = {
    "../benchmarks.json": {
        factory.STEP: {"params": [["'ntm'"], ["64"], ["1"]], "param_names": factory.NAMES},
        "own.track_y": {"params": [["'c'"]], "param_names": ["p"], "unit": "s"},
    },
    "machine.json": {"machine": "box", "ram": "1"},
    "environment.jsonl": {"commit": factory.COMMIT[:8], "threads": 1, "torch": "2"},
    "reasons-x.jsonl": {"benchmark": "StepTime", "params": ["lstm", 256, 1], "reason": "one size"},
}
POINTS = [
    records_factory.point("exact", 1.0, 100.0),
    records_factory.point("lsh", 0.9, 90.0, build={"tables": 1}, search={"probes": 2}),
    records_factory.point("lsh", 0.8, 80.0, build={"tables": 2}, memory_size=64, data="random"),
    records_factory.wear("exact", 1.0, 1.0),
    records_factory.wear("lsh", 0.9, 0.8),
    records_factory.trace("exact", "copy-start", [0.5, 0.6]),
    records_factory.trace("lsh", "copy-end", [0.5, 0.7]),
    {"measure": "frontier", "backend": "hnsw", "reason": "not installed"},
]
CURVES = [
    records_factory.learning("exact", [1.0, 0.5]),
    records_factory.learning("lsh", [1.0, 0.6], task="recall", seed=1),
]
BOTH = ("kept", "zeroed")
RUNS: list[list[Any]] = [
    [
        runs_factory.settings(model, task, name=f"run {number}", curriculum=curriculum),
        runs_factory.lines([40.0, 20.0, 5.0], levels),
        evaluated,
    ]
    for number, (model, task, curriculum, levels, evaluated) in enumerate(
        [
            ("sam-exact", "copy", None, None, [runs_factory.evaluation(20, 3.0)]),
            ("ntm", "copy", {"start": 1, "end": 20}, [1, 10, 20], []),
            (
                "sam-lsh",
                "associative_recall",
                {"start": 3, "end": None},
                [3, 6, 9],
                [runs_factory.evaluation(level, 3.0, reads) for level in (3, 9) for reads in BOTH],
            ),
            (
                "dnc",
                "babi",
                None,
                None,
                [
                    runs_factory.answers(task, 0.1, split)
                    for task in range(1, 21)
                    for split in ("validation", "test")
                ],
            ),
            (
                "sam-exact",
                "omniglot",
                {"start": 5, "end": None},
                [5, 6, 8],
                [
                    runs_factory.answers(level, 0.3, split, errors_by_presentation=[0.9, 0.3])
                    for level in (5, 10)
                    for split in ("validation", "test")
                ],
            ),
        ]
    )
]


def write_results(folder: Path, result: Any, points: Any, curves: Any, sides: Any) -> None:
    box = folder / "box"
    box.mkdir()
    for name, content in sides.items():
        (box / name).write_text(json.dumps(content))
    (box / "a.json").write_text(json.dumps(result))
    (box / "backends.jsonl").write_text(lines(points))
    (box / "learning.jsonl").write_text(lines(curves))


def write_runs(folder: Path, found: list[Any]) -> None:
    for number, run in enumerate(found):
        parts = run if isinstance(run, list) else [run]
        own = folder / f"run {number}"
        own.mkdir()
        names = ("run.json", "metrics.jsonl", "evaluation.jsonl")
        for name, part in zip(names, parts, strict=False):
            text = json.dumps(part) if name == "run.json" else lines(
                part if isinstance(part, list) else [part]
            )  # fmt: skip
            (own / name).write_text(text)


def check(write: Callable[[Path], None], read: Callable[[Path], None]) -> None:
    """Write files into a new folder, and read them in time."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        started = time.process_time()
        read(Path(folder))
        assert time.process_time() - started < SECONDS


def read_results(folder: Path) -> None:
    """All that a report computes of result files, without page and figures."""
    found, _ = files.find_runs(folder)
    for run in found:
        frame, _ = results.tidy(run)
        frame.to_csv().encode()
        tables.ratios(frame)
        growth.slopes(frame)
        missing.missing(frame)
        beside, _ = records.load(run.path.parent, run.commit)
        for table in (backend_tables.costs(beside), backend_tables.wear(beside), *beside.frames):
            table.to_csv().encode()


def read_runs(folder: Path) -> None:
    try:
        found, _ = runs.load(folder)
    except runs.NoRuns:
        return
    for table in learning.tables(found).values():
        table.to_csv().encode()


@quick
@given(CHANGES)
def test_a_changed_result_file_is_read(changes: list[Any]) -> None:
    changed_result = changed([RESULT, SIDES], changes)
    result, sides = [*changed_result, {}, {}][:2]
    sides = sides if isinstance(sides, dict) else {}
    named = {name: sides[name] for name in SIDES if name in sides}
    check(lambda folder: write_results(folder, result, POINTS, CURVES, named), read_results)


@quick
@given(CHANGES)
def test_changed_records_are_read(changes: list[Any]) -> None:
    lines_of_both = changed([*POINTS, *CURVES], changes)
    check(lambda folder: write_results(folder, RESULT, lines_of_both, CURVES, {}), read_results)


@quick
@given(CHANGES)
def test_changed_runs_are_read(changes: list[Any]) -> None:
    check(lambda folder: write_runs(folder, changed(RUNS, changes)), read_runs)


NAMES = ["a.json", "machine.json", "environment.jsonl", "reasons-x.jsonl", "backends.jsonl",
         "learning.jsonl", "../benchmarks.json"]  # fmt: skip
BYTES = st.binary(max_size=200) | VALUES.map(lambda value: json.dumps(value).encode())


@quick
@given(st.dictionaries(st.sampled_from(NAMES), BYTES, min_size=1))
def test_any_bytes_beside_results_are_read(contents: dict[str, bytes]) -> None:
    def write(folder: Path) -> None:
        write_results(folder, RESULT, POINTS, CURVES, SIDES)
        for name, content in contents.items():
            (folder / "box" / name).write_bytes(content)

    check(write, read_results)


FILES = ["run.json", "metrics.jsonl", "evaluation.jsonl", "failure.json", "outcome.json"]


@quick
@given(st.dictionaries(st.sampled_from(FILES), BYTES, min_size=1), st.integers(0, len(RUNS) - 1))
def test_any_bytes_in_a_run_are_read(contents: dict[str, bytes], number: int) -> None:
    def write(folder: Path) -> None:
        write_runs(folder, RUNS)
        for name, content in contents.items():
            (folder / f"run {number}" / name).write_bytes(content)

    check(write, read_runs)


def make(folder: Path, *arguments: str) -> None:
    """The whole command: a page, or one line of why there is none."""
    said: list[str] = []
    with mock.patch("reports.__main__._print", lambda message, file: said.append(message)):
        status = main([*arguments, "--out", str(folder / "out")])
    assert (status, said[-1].partition(":")[0]) in ((0, "report"), (1, "no report"))
    assert "\n" not in said[-1]
    assert status or list((folder / "out").glob("*.html"))


def of_results(changes: list[Any]) -> Callable[[Path], None]:
    result, points, curves, *_ = [*changed([RESULT, POINTS, CURVES], changes), [], [], []]
    both = [each if isinstance(each, list) else [each] for each in (points, curves)]
    return lambda folder: write_results(folder, result, *both, SIDES)


def undrawn(chosen: dict[str, Any], *rest: Any) -> dict[str, str]:
    return dict.fromkeys(chosen, "<svg></svg>")


@whole
@given(CHANGES)
def test_a_page_is_made_of_changed_results(changes: list[Any]) -> None:
    with mock.patch.object(drawing, "draw", undrawn):
        check(of_results(changes), lambda folder: make(folder, "build", str(folder)))


@whole
@given(CHANGES)
def test_a_page_is_made_of_changed_runs(changes: list[Any]) -> None:
    with mock.patch.object(drawing, "draw", undrawn):
        write = lambda folder: write_runs(folder, changed(RUNS, changes))  # noqa: E731
        check(write, lambda folder: make(folder, "learning", str(folder)))


@pytest.mark.parametrize("of", ["results", "runs"])
def test_figures_are_drawn_of_what_is_changed(of: str) -> None:
    """Drawn, and not saved as files: of a few examples, as each takes a second."""

    def drawn(figure: Any, *rest: Any) -> str:
        figure.draw_without_rendering()
        return "<svg></svg>"

    @settings(whole, max_examples=2)
    @given(CHANGES)
    def trial(changes: list[Any]) -> None:
        if of == "results":
            check(of_results(changes), lambda folder: make(folder, "build", str(folder)))
        else:
            write = lambda folder: write_runs(folder, changed(RUNS, changes))  # noqa: E731
            check(write, lambda folder: make(folder, "learning", str(folder)))

    with mock.patch.object(svg, "save", drawn):
        trial()
