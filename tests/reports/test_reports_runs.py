"""Reading training runs: what is taken from their files, and what is refused or left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from reports import runs
from tests.reports import runs_factory as factory


def write(folder: Path, place: str, *parts: Any, **changes: Any) -> Path:
    run = factory.settings("sam-exact", "copy", **changes)
    return factory.write(folder / place, run, *parts)


def test_a_run_s_files_become_tables(tmp_path: Path) -> None:
    evaluated = [
        factory.evaluation(20, 8.0, chance=160.0),
        factory.evaluation(20, 80.0, "zeroed", 160.0),
    ]
    write(tmp_path, "a/b", factory.lines([40.0, 20.0]), evaluated, seed=3)
    found, problems = runs.load(tmp_path)
    assert problems == []
    (run,) = found.runs.to_dict("records")
    assert run | {"error": None} == {
        "run": "a/b",
        "name": "copy/sam-exact",
        "task": "copy",
        "model": "sam-exact",
        "seed": 3,
        "beyond": False,
        "episodes": 3200,
        "minutes": 1.0 / 60,
        "level": 20,
        "end": "budget",
        "error": None,
    }
    assert pd.isna(run["error"])
    assert list(found.lines.episodes) == [1600, 3200]
    assert list(found.lines.cost) == [40.0, 20.0]
    assert list(found.lines.errors) == [10.0, 5.0]
    assert list(found.lines.loss) == [0.4, 0.2]
    assert found.lines.level.isna().all()
    assert list(found.evaluations.reads) == ["kept", "zeroed"]
    assert list(found.evaluations.chance) == [160.0, 160.0]
    assert found.settings["a/b"]["optimizer"]["learning_rate"] == 1e-3


@pytest.mark.parametrize(
    ("settings", "model"),
    [
        ({"model": "ntm"}, "ntm"),
        ({"model": "lstm", "model_settings": {}}, "lstm"),
        ({"model": "sam", "model_settings": {}}, "sam-exact"),
        ({"model": "sam", "model_settings": {"ann": "kd_forest"}}, "sam-kd_forest"),
        ({"model": "sdnc", "model_settings": {"ann": "lsh"}}, "sdnc-lsh"),
    ],
)
def test_a_model_with_an_index_is_named_with_it(
    tmp_path: Path, settings: dict[str, Any], model: str
) -> None:
    run = factory.settings("", "copy", name="") | settings
    factory.write(tmp_path / "run", run, factory.lines([1.0]))
    found, _ = runs.load(tmp_path)
    assert list(found.runs.model) == [model]
    assert list(found.runs.name) == [f"copy/{model}"]


def test_a_last_line_cut_short_is_left_out_and_one_before_it_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "run", factory.lines([3.0, 2.0, 1.0]), [factory.evaluation(20, 1.0)])
    for name in ("metrics.jsonl", "evaluation.jsonl"):
        with open(path / name, "a") as file:
            file.write('{"kind": "train", "minib')
    found, problems = runs.load(tmp_path)
    assert problems == []
    assert list(found.lines.cost) == [3.0, 2.0, 1.0]
    lines = (path / "metrics.jsonl").read_text().splitlines()
    nan = json.dumps(factory.line(4, float("nan")))
    no_errors = {name: value for name, value in factory.line(5, 1.0).items() if name != "errors"}
    texts = [lines[0], "{damaged", "[]", nan, json.dumps(no_errors), lines[2]]
    (path / "metrics.jsonl").write_text("\n".join(texts))
    found, problems = runs.load(tmp_path)
    assert list(found.lines.cost) == [3.0, 1.0]
    assert [problem.reason for problem in problems] == [
        "line 2: not valid JSON, truncated or damaged (line 1, column 2: Expecting property name "
        "enclosed in double quotes)",
        "line 3: got list, expected a table",
        "line 4: loss: got nan, expected a finite number of at most 1e+30",
        "line 5: errors: got None, expected a finite number from 0 to 1e+30",
    ]


def test_a_line_whose_times_are_no_numbers_is_named_and_left_out(tmp_path: Path) -> None:
    lines = [factory.line(1, 2.0), factory.line(2, 1.0, data_seconds="long")]
    write(tmp_path, "run", lines)
    found, (problem,) = runs.load(tmp_path)
    assert problem.reason.startswith("line 2: data_seconds: got 'long', expected a finite number")
    assert list(found.lines.cost) == [2.0]
    assert found.lines.data_seconds.isna().all()


def test_how_a_run_ended(tmp_path: Path) -> None:
    lines, evaluated = factory.lines([1.0]), [factory.evaluation(20, 1.0)]
    interrupted = [*lines, {"kind": "end", "reason": "interrupted"}]
    write(tmp_path, "0", lines, evaluated, seed=0)
    write(tmp_path, "1", lines, seed=1)
    write(tmp_path, "2", lines, (), "loss nan", seed=2)
    write(tmp_path, "3", interrupted, seed=3)
    write(tmp_path, "4", [], seed=4)
    for seed, status in ((5, "failed"), (6, "trained")):
        path = write(tmp_path, str(seed), lines, evaluated if seed == 6 else (), seed=seed)
        outcome = {"status": status, "message": "out of memory" if seed == 5 else ""}
        (path / "outcome.json").write_text(json.dumps(outcome))
    found, problems = runs.load(tmp_path)
    ends = found.runs.set_index("seed").end
    expected = ("budget", "unfinished", "diverged", "interrupted", "unfinished", "failed", "budget")
    assert dict(ends) == dict(enumerate(expected))
    assert list(found.runs.error.dropna()) == ["loss nan", "out of memory"]
    assert [(Path(problem.path).name, problem.reason) for problem in problems] == [
        ("4", "no line of training in metrics.jsonl yet")
    ]


@pytest.mark.parametrize(
    ("task", "curriculum", "beyond"),
    [
        ("copy", None, False),
        ("copy", {"start": 1, "end": 20}, False),
        ("copy", {"start": 1, "end": 21}, True),
        ("copy", {"start": 1, "end": None}, True),
        ("associative_recall", {"start": 1, "end": 6}, False),
        ("associative_recall", {"start": 1, "end": 20}, True),
        ("some_other", {"start": 1, "end": 3}, True),
        ("some_other", None, False),
    ],
)
def test_a_curriculum_past_the_paper_s_task_is_told_from_one_that_leads_to_it(
    tmp_path: Path, task: str, curriculum: dict[str, Any] | None, beyond: bool
) -> None:
    run = factory.settings("ntm", task, curriculum=curriculum)
    levels = [1, 4] if curriculum else None
    factory.write(tmp_path / "run", run, factory.lines([2.0, 1.0], levels))
    found, _ = runs.load(tmp_path)
    assert list(found.runs.beyond) == [beyond]
    if curriculum:
        assert list(found.runs.level) == [4]


@pytest.mark.parametrize(
    ("task", "settings", "level"),
    [
        ("copy", {}, 20),
        ("copy", {"bits": 6, "max_length": 10}, 10),
        ("priority_sort", {"keys": 8}, 8),
        ("priority_sort", {"keys": 8, "max_keys": 5, "min_keys": None}, 5),
        ("some_other", {"max_length": 10}, None),
    ],
)
def test_the_hardest_level_is_the_settings_or_the_paper_s(
    task: str, settings: dict[str, Any], level: int | None
) -> None:
    assert runs.bounds(task, factory.settings("ntm", task, task_settings=settings))[1] == level


def test_of_two_runs_with_one_seed_the_longer_counts(tmp_path: Path) -> None:
    write(tmp_path, "short", factory.lines([5.0]))
    write(tmp_path, "long", factory.lines([5.0, 4.0]))
    found, problems = runs.load(tmp_path)
    assert list(found.runs.run) == ["long"]
    assert set(found.lines.run) == {"long"} == set(found.settings)
    (problem,) = problems
    assert problem.reason == "left out: seed 0 of 'copy/sam-exact' again, shorter than long"


def test_runs_of_one_name_with_other_settings_are_not_averaged(tmp_path: Path) -> None:
    write(tmp_path, "a", factory.lines([5.0, 4.0]), seed=0, episodes=3200, commit="one")
    write(tmp_path, "b", factory.lines([5.0]), seed=1, minutes=5.0, commit="other")
    write(tmp_path, "c", factory.lines([5.0]), seed=2, batch_size=8, task_settings={"bits": 6})
    found, problems = runs.load(tmp_path)
    assert list(found.runs.run) == ["a", "b"]
    (problem,) = problems
    assert problem.reason == (
        "left out: named 'copy/sam-exact' as a, whose batch_size, task_settings differ"
    )


def test_of_evaluations_at_one_level_the_last_counts(tmp_path: Path) -> None:
    again = [factory.evaluation(20, 9.0), factory.evaluation(10, 3.0), factory.evaluation(20, 7.0)]
    write(tmp_path, "run", factory.lines([1.0]), again)
    found, _ = runs.load(tmp_path)
    assert list(zip(found.evaluations.level, found.evaluations.cost, strict=True)) == [
        (20, 7.0),
        (10, 3.0),
    ]


def test_evaluations_are_told_apart_by_split_level_and_reads(tmp_path: Path) -> None:
    old = factory.evaluation(1, 9.0)
    evaluated = [
        factory.answers(level, level / 10, split, reads)
        for split in ("validation", "test")
        for level in (1, 2)
        for reads in ("kept", "zeroed")
    ]
    again = factory.answers(2, 0.9, "test", "zeroed", errors_by_presentation=[0.5, 1.0])
    write(tmp_path, "run", factory.lines([1.0]), [old, *evaluated, again])
    rows = load_whole(tmp_path).evaluations
    assert list(rows.split) == ["fresh", *["validation"] * 4, *["test"] * 4]
    assert list(rows.errors) == pytest.approx([9 / 4, 0.4, 0.4, 0.8, 0.8, 0.4, 0.4, 0.8, 3.6])
    assert rows.scored.isna().tolist() == [True, *[False] * 8]
    assert rows.errors_by_presentation.iloc[-1] == [0.5, 1.0]
    assert rows.errors_by_presentation.isna().tolist() == [*[True] * 8, False]


def load_whole(folder: Path) -> runs.Runs:
    found, problems = runs.load(folder)
    assert problems == []
    return found


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"split": 3}, "split: got 3, expected a text"),
        ({"scored": None}, "scored: got None, expected a number above 0"),
        ({"scored": 0.0}, "scored: got 0.0, expected a number above 0"),
        ({"scored": float("nan")}, "scored: got nan, expected a number above 0"),
        (
            {"errors_by_presentation": [0.5, None]},
            "errors_by_presentation: got [0.5, None], expected a list of at most 1,000",
        ),
    ],
)
def test_an_evaluation_that_says_nonsense_is_named_and_left_out(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    evaluated = [factory.answers(1, 0.1), factory.answers(2, 0.1) | changes]
    write(tmp_path, "run", factory.lines([1.0]), evaluated)
    found, (problem,) = runs.load(tmp_path)
    assert problem.reason.startswith(f"line 2: {words}")
    assert list(found.evaluations.level) == [1]


@pytest.mark.parametrize(
    ("settings", "end"),
    [
        ({"episodes": 100_000}, "budget"),
        ({"episodes": 100_001}, "unfinished"),
        ({"episodes": 100_001, "minutes": 5.0}, "budget"),
        ({"episodes": None, "minutes": 5.0}, "budget"),
    ],
)
def test_a_run_evaluated_before_its_episodes_were_used_up_is_unfinished(
    tmp_path: Path, settings: dict[str, Any], end: str
) -> None:
    write(tmp_path, "run", factory.lines([1.0]), [factory.evaluation(20, 1.0)], **settings)
    assert list(load_whole(tmp_path).runs.end) == [end]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not valid JSON, truncated or damaged"),
        ("3", "valid JSON, but of type int and not an object"),
        ('{"model": "sam", "seed": 0}', "task: got None, expected a text of at most 200"),
        ('{"model": "sam", "task": "copy", "seed": "0"}', "seed: got '0', expected a whole number"),
        (
            '{"model": "sam", "task": "copy", "seed": 0, "curriculum": 7}',
            "curriculum: got 7, expected a table of settings",
        ),
    ],
)
def test_a_foreign_run_json_is_named_and_the_others_are_read(
    tmp_path: Path, text: str, words: str
) -> None:
    write(tmp_path, "good", factory.lines([1.0]))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "run.json").write_text(text)
    found, problems = runs.load(tmp_path)
    assert list(found.runs.run) == ["good"]
    (problem,) = problems
    assert str(problem).startswith(f"{tmp_path / 'bad' / 'run.json'}: {words}")
    with pytest.raises(runs.NoRuns, match="got no run that can be read"):
        runs.load(tmp_path / "bad")


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "gone"):
        with pytest.raises(runs.NoRuns, match=r"got no run, expected folders with a run\.json"):
            runs.load(folder)
