"""Foreign lines of records and files of training runs: each fault is named, the rest is read."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from reports import files, limits, records, runs
from tests.reports import records_factory, runs_factory, users
from tests.reports import reports_factory as factory

POINT = records_factory.point("exact", 1.0, 100.0)
TASKS = runs_factory.settings("sam-exact", "copy")


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": [value]}
    return value


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


def test_a_folder_that_cannot_be_listed_is_named() -> None:
    with users.public_folder() as top:
        factory.write(top / "box", factory.result({}))
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
