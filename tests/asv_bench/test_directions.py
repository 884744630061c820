"""asv takes every figure for a cost: of two commits, the one with less of it is the better one."""

from __future__ import annotations

import json
import types

import pytest
from asv.commands.compare import Compare
from asv.step_detect import detect_regressions

from asv_bench import run
from asv_bench.benchmarks import grid

# Of these, less is better.
COSTS = {"bytes", "seconds", "1 - recall@4"}


def tracked():
    """Name and unit of all that is tracked."""
    for suite in run.SUITES:
        for owner in run.suites_in(suite):
            for name in filter(lambda name: name.startswith("track_"), dir(owner)):
                unit = getattr(getattr(owner, name), "unit", getattr(owner, "unit", None))
                yield f"{suite}.{owner.__name__}.{name}", unit


def test_all_that_is_tracked_is_a_cost():
    found = dict(tracked())
    assert set(found.values()) == COSTS
    assert found["backends.Recall.track_missed"] == "1 - recall@4"
    assert found["traces.Traces.track_missed"] == "1 - recall@4"
    for name in found:
        assert not any(word in name for word in ("recall", "accuracy", "speed", "throughput"))


@pytest.mark.parametrize(
    ("recall", "missed"), [(1.0, 0.0), (0.0, 1.0), (0.53, 0.47), (1 - 1e-16, 0.0), (0.9375, 0.0625)]
)
def test_what_is_missed(recall, missed):
    assert grid.missed(recall) == missed
    assert grid.missed(recall) >= 0


@pytest.mark.parametrize("name", [name for name, unit in tracked() if unit == grid.MISSED])
@pytest.mark.parametrize(("low", "high"), [(0.53, 0.93), (0.0, 1.0), (0.9, 0.99), (0.98, 1.0)])
def test_asv_compares_recall_the_right_way_round(tmp_path, capsys, name, low, high):
    """As `asv continuous` does, whose exit status is 1 if something has become worse."""
    (tmp_path / "benchmarks.json").write_text(json.dumps({"version": 2}))
    conf = types.SimpleNamespace(results_dir=str(tmp_path), benchmark_dir=str(tmp_path))

    def compared(before, after):
        sets = [
            [(name, [["'lsh'"]], [grid.missed(recall)], [None], [None], "1", "machine", "env")]
            for recall in (before, after)
        ]
        found = Compare.print_table(conf, "1" * 8, "2" * 8, 1.1, False, *sets)
        assert name in capsys.readouterr().out
        return found

    worse, better = (True, False), (False, True)
    assert compared(low, high) == better
    assert compared(high, low) == worse
    assert compared(low, low) == (False, False)


def test_asv_publishes_lost_recall_as_a_regression_and_nothing_else():
    def regressions(*recalls):
        values = [grid.missed(recall) for recall in recalls]
        steps = [(i, i + 1, value, value, 0.0) for i, value in enumerate(values)]
        return detect_regressions(steps, threshold=0.1, min_size=1)[2]

    assert regressions(0.93, 0.93, 0.53)
    assert not regressions(0.53, 0.53, 0.93)
