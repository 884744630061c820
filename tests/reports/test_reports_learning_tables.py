"""Curves and tables of training runs against numbers worked out by hand."""

from __future__ import annotations

import statistics
from pathlib import Path

import pandas as pd
import pytest

from reports import learning_curves, learning_tables, runs
from reports.runs import Runs
from tests.reports import runs_factory as factory

S = factory.SPACING
RECALL = {"start": 1, "end": 6, "growth": 1.0, "increment": 1}


def load(folder: Path) -> Runs:
    found, problems = runs.load(folder)
    assert problems == []
    return found


def test_a_short_curve_is_kept_line_by_line(tmp_path: Path) -> None:
    costs = [float(n) for n in range(200, 0, -1)]
    factory.write(tmp_path / "run", factory.settings("ntm", "copy"), factory.lines(costs))
    points = learning_curves.thinned(load(tmp_path).lines)
    assert list(points.cost) == costs
    assert list(points.episodes) == [S * n for n in range(1, 201)]


def test_a_long_curve_becomes_means_of_stretches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning_curves, "MOST_POINTS", 3)
    for seed, costs in enumerate(([8.0, 4.0, 2.0, 1.0, 3.0, 5.0, 7.0], [1.0, 3.0, 5.0])):
        run = factory.settings("ntm", "copy", seed)
        factory.write(tmp_path / str(seed), run, factory.lines(costs, range(1, len(costs) + 1)))
    points = learning_curves.thinned(load(tmp_path).lines)
    # 7 lines in 3 stretches at most: 3 lines each, of both seeds.
    one, other = points[points.seed == 0], points[points.seed == 1]
    assert list(one.cost) == pytest.approx([14 / 3, 3.0, 7.0])
    assert list(one.errors) == pytest.approx([14 / 12, 0.75, 1.75])
    assert list(one.episodes) == [3 * S, 6 * S, 7 * S]
    assert list(one.level) == [3, 6, 7]
    assert list(one.seconds) == [1.5, 3.0, 3.5]
    assert list(other.cost) == [3.0]
    assert list(other.stretch) == [0]


def test_lines_count_by_the_episodes_they_stand_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning_curves, "MOST_POINTS", 1)
    lines = [factory.line(1, 9.0), factory.line(4, 1.0)]
    factory.write(tmp_path / "run", factory.settings("ntm", "copy"), lines)
    points = learning_curves.thinned(load(tmp_path).lines)
    assert list(points.cost) == [(9.0 + 3 * 1.0) / 4]


def test_the_mean_over_seeds_ends_with_the_shortest(tmp_path: Path) -> None:
    costs = ([9.0, 6.0, 3.0], [5.0, 1.0], [4.0, 2.0, 7.0])
    for seed, own in enumerate(costs):
        factory.write(
            tmp_path / str(seed), factory.settings("dam", "copy", seed), factory.lines(own)
        )
    mean = learning_curves.in_training(learning_curves.thinned(load(tmp_path).lines))
    assert list(mean["mean"]) == pytest.approx([6.0, 3.0])
    assert list(mean.sd) == pytest.approx(
        [statistics.stdev([9, 5, 4]), statistics.stdev([6, 1, 2])]
    )
    assert list(mean.seeds) == [3, 3]
    assert list(mean.episodes) == [S, 2 * S]


def test_the_mean_level_counts_a_run_that_has_ended(tmp_path: Path) -> None:
    curriculum = {"start": 1, "end": None}
    for seed, levels in enumerate(([1, 2, 4, 8, 8], [1, 1, 2])):
        run = factory.settings("sam-lsh", "copy", seed, curriculum=curriculum)
        factory.write(tmp_path / str(seed), run, factory.lines([1.0] * len(levels), levels))
    mean = learning_curves.levels(load(tmp_path).lines)
    assert list(mean.episodes) == [S, 2 * S, 3 * S, 4 * S, 5 * S]
    assert list(mean.level) == [1.0, 1.5, 3.0, 5.0, 5.0]


def test_solved_is_the_first_line_under_the_threshold(tmp_path: Path) -> None:
    # errors are a quarter of the cost; 0.1 of them are asked for.
    costs = [4.0, 0.41, 0.4, 0.39, 1.0, 0.2]
    factory.write(tmp_path / "a", factory.settings("ntm", "copy", 0), factory.lines(costs))
    factory.write(tmp_path / "b", factory.settings("ntm", "copy", 1), factory.lines(costs[:3]))
    solved = learning_curves.first_solved(load(tmp_path))
    assert solved["a"] == 4 * S
    assert pd.isna(solved["b"])


def test_an_easy_level_does_not_count_as_solved(tmp_path: Path) -> None:
    task = "associative_recall"
    for seed, levels in enumerate(([1, 5, 6, 6], [1, 2, 3, 5], [6, 6, 6, 6])):
        run = factory.settings("sam-exact", task, seed, curriculum=RECALL)
        factory.write(tmp_path / str(seed), run, factory.lines([0.2] * 4, levels))
    solved = learning_curves.first_solved(load(tmp_path))
    assert solved["0"] == 4 * S  # the line that says 6 first began at 5
    assert pd.isna(solved["1"])
    assert solved["2"] == 2 * S


def test_the_mean_over_all_levels_needs_every_level_of_the_task(tmp_path: Path) -> None:
    for name, levels in (("all", [1, 2, 3, 4, 6]), ("some", [1, 3, 4])):
        for seed in range(2):
            run = factory.settings("ntm", "copy", seed, name=name, task_settings={"max_length": 4})
            # A quarter of the cost is wrong; the second seed has twice the cost of the first.
            own = [factory.evaluation(level, level * (seed + 1.0)) for level in levels]
            zeroed = [factory.evaluation(level, 99.0, "zeroed") for level in levels]
            factory.write(tmp_path / name / str(seed), run, factory.lines([1.0]), own + zeroed)
    results = learning_tables.results(load(tmp_path)).set_index("name")
    assert results.all_levels_best["all"] == pytest.approx((1 + 2 + 3 + 4) / 4 / 4)
    assert results.all_levels_worst["all"] == pytest.approx((1 + 2 + 3 + 4) / 4 / 2)
    assert results.all_levels["all"] == pytest.approx((1 + 2 + 3 + 4) / 4 * 0.375)
    assert pd.isna(results.all_levels["some"])


def test_results_of_a_task_by_hand(tmp_path: Path) -> None:
    kept, zeroed = (0.4, 4.0, 0.8), (80.0, 90.0, 100.0)
    for seed in range(3):
        evaluated = [
            factory.evaluation(10, 0.0, chance=80.0),
            factory.evaluation(20, kept[seed], chance=160.0),
            factory.evaluation(20, zeroed[seed], "zeroed", 160.0),
            factory.evaluation(40, 50.0, chance=320.0),
        ]
        lines = factory.lines([4.0, 0.2] if seed else [4.0, 1.0, 0.2])
        factory.write(
            tmp_path / str(seed), factory.settings("sam-exact", "copy", seed), lines, evaluated
        )
    (row,) = learning_tables.results(load(tmp_path)).to_dict("records")
    assert row["wrong_bits"] == pytest.approx(sum(kept) / 12)
    assert (row["wrong_bits_best"], row["wrong_bits_worst"]) == (0.1, 1.0)
    assert row["cost"] == pytest.approx(sum(kept) / 3)
    assert (row["wrong_bits_zeroed"], row["cost_zeroed"]) == (22.5, 90.0)
    assert (row["level"], row["chance"], row["seeds"], row["evaluated"]) == (20, 160.0, 3, 3)
    assert row["episodes"] == pytest.approx(7 * S / 3)
    assert row["minutes"] == pytest.approx(3.5 / 3 / 60)
    assert (row["solved"], row["solved_episodes_first"], row["solved_episodes_last"]) == (
        *(3, 2 * S),
        3 * S,
    )
    assert row["ends"] == "3 budget"


def test_a_curriculum_is_evaluated_where_every_seed_was_trained(tmp_path: Path) -> None:
    curriculum = {"start": 1, "end": None}
    for seed, top in enumerate((64, 16)):
        run = factory.settings("sam-lsh", "associative_recall", seed, curriculum=curriculum)
        evaluated = factory.evaluations([8, 16, 32, 64], lambda level: level / 10, None)
        lines = factory.lines([1.0, 1.0], [1, top])
        factory.write(tmp_path / str(seed), run, lines, evaluated)
    (row,) = learning_tables.results(load(tmp_path)).to_dict("records")
    assert (row["level"], row["cost"]) == (16, 1.6)
    names = ("highest_level", "highest_level_least", "highest_level_most")
    assert [row[name] for name in names] == [40.0, 16, 64]
    assert pd.isna(row["wrong_bits_zeroed"])


def test_runs_without_evaluation_or_beyond_what_was_evaluated(tmp_path: Path) -> None:
    lines = factory.lines([1.0])
    factory.write(tmp_path / "a", factory.settings("ntm", "copy"), lines)
    only = [factory.evaluation(40, 5.0)]
    factory.write(tmp_path / "b", factory.settings("dam", "copy"), lines, only)
    results = learning_tables.results(load(tmp_path)).set_index("model")
    assert results.evaluated["ntm"] == 0
    assert pd.isna(results.wrong_bits["ntm"])
    assert results.level["dam"] == 40


def test_rows_stand_in_the_paper_s_order(tmp_path: Path) -> None:
    pairs = [("lstm", "priority_sort"), ("sam-exact", "copy"), ("ntm", "copy"), ("ntm", "a_task")]
    for number, (model, task) in enumerate(pairs):
        factory.write(tmp_path / str(number), factory.settings(model, task), factory.lines([1.0]))
    results = learning_tables.results(load(tmp_path))
    assert list(zip(results.model, results.task, strict=True)) == [
        *(pairs[2], pairs[1]),
        *(pairs[0], pairs[3]),
    ]


def test_settings_stand_beside_the_paper_s(tmp_path: Path) -> None:
    run = factory.settings("sam-exact", "copy", curriculum={"start": 1, "end": 20})
    factory.write(tmp_path / "run", run, factory.lines([1.0], [1]))
    table = learning_tables.settings(load(tmp_path)).set_index("setting")
    assert table.value["optimizer.learning_rate"] == 1e-3
    assert table.paper["optimizer.learning_rate"] == 1e-5
    assert (table.value["batch_size"], table.paper["batch_size"]) == (16, 8)
    assert table.value["model_settings.memory_size"] == 128
    assert table.paper["model_settings.memory_size"] is None
    assert table.value["curriculum.end"] == 20
    assert not {"seed", "minutes", "commit", "versions.torch", "evaluate"} & set(table.index)


def test_a_curriculum_that_leads_to_the_task_is_evaluated_at_the_task_s_level(
    tmp_path: Path,
) -> None:
    run = factory.settings("sam-exact", "associative_recall", curriculum=RECALL)
    evaluated = factory.evaluations([3, 6, 12], lambda level: float(level), None)
    factory.write(tmp_path / "run", run, factory.lines([1.0, 1.0], [1, 3]), evaluated)
    (row,) = learning_tables.results(load(tmp_path)).to_dict("records")
    assert (row["highest_level"], row["level"], row["cost"]) == (3, 6, 6.0)
