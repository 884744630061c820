"""Reading what was measured beside asv, and the tables made of it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from reports import backend_tables, records
from tests.reports import records_factory as factory
from tests.reports.reports_factory import COMMIT

OTHER = "fedcba98" * 5


def load(folder: Path, *lines: factory.Record) -> records.Records:
    factory.write(folder, lines)
    found, problems = records.load(folder, COMMIT)
    assert problems == []
    return found


def test_nothing_measured_gives_empty_tables(tmp_path: Path) -> None:
    found, problems = records.load(tmp_path, COMMIT)
    assert problems == []
    assert found.points.empty
    assert found.learning.empty
    assert backend_tables.costs(found).empty
    assert backend_tables.wear(found).empty


def test_a_point_keeps_its_figures_and_settings(tmp_path: Path) -> None:
    line = factory.point("lsh", 0.93, 160.0, build={"tables": 16}, search={"probes": 4})
    row = load(tmp_path, line).points.iloc[0]
    assert (row.backend, row.memory_size, row.data) == ("lsh", 65536, "clustered")
    assert (row.recall, row.access_us, row.search_us, row.update_us) == (0.93, 160.0, 100.0, 3.0)
    assert (row.build, row.search, row.status) == ("tables=16", "probes=4", "measured")
    assert records.settings(row.build, row.search) == "tables=16, probes=4"


def test_of_several_records_for_a_point_the_last_counts(tmp_path: Path) -> None:
    older, newer = factory.point("ivf", 0.5, 200.0), factory.point("ivf", 0.6, 190.0)
    other = factory.point("ivf", 0.7, 300.0, search={"probes": 8})
    found = load(tmp_path, older, other, newer).points
    assert sorted(found.recall) == [0.6, 0.7]


def test_the_run_s_own_commit_goes_before_a_later_one(tmp_path: Path) -> None:
    own = factory.point("lsh", 0.9, 100.0)
    later = factory.point("lsh", 0.8, 90.0) | factory.source(OTHER, "2027-01-01T00:00:00+00:00")
    assert list(load(tmp_path, own, later).points.recall) == [0.9]
    found = load(tmp_path, later, later | {"recall": 0.7, "search": {"probes": 2}}).points
    assert set(found.commit) == {OTHER}
    assert len(found) == 2


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"measure": "front', "not valid JSON"),
        ("[1, 2]", "got list, expected a table"),
        ('{"measure": "guess", "backend": "lsh"}', "no record of frontier"),
        (
            '{"measure": "wear", "backend": "lsh", "date": "2026"}',
            "memory_size: got None, expected a whole number",
        ),
        (
            '{"measure": "learning", "backend": "a", "task": "copy", "loss": [1],'
            ' "minibatches": []}',
            "of one length",
        ),
    ],
)
def test_a_bad_line_is_named_and_spoils_no_other(tmp_path: Path, line: str, reason: str) -> None:
    path = factory.write(tmp_path, [factory.point("lsh", 0.9, 100.0)])
    path.write_text(line + "\n" + path.read_text())
    found, problems = records.load(tmp_path, COMMIT)
    assert list(found.points.recall) == [0.9]
    assert len(problems) == 1
    assert "line 1: " in str(problems[0])
    assert reason in problems[0].reason


def test_the_cheapest_setting_that_reaches_a_recall_is_chosen(tmp_path: Path) -> None:
    sweep = [(0.80, 100.0, 2), (0.93, 250.0, 8), (0.91, 400.0, 4), (0.96, 300.0, 16)]
    lines = [factory.point("lsh", r, us, search={"probes": p}) for r, us, p in sweep]
    costs = backend_tables.costs(load(tmp_path, *lines)).set_index("target")
    assert list(costs.settings) == ["probes=8", "probes=16", "probes=16"]
    assert list(costs.access_us) == [250.0, 300.0, 300.0]
    # Where 0.99 is out of reach stands what came nearest.
    assert list(costs.status) == ["reached", "reached", "not reached"]
    assert costs.recall[0.99] == 0.96
    assert costs.bytes_per_row[0.9] == 73.0


def test_costs_are_in_the_order_of_the_page(tmp_path: Path) -> None:
    places = [("random", "mine"), ("copy-end", "lsh"), ("clustered", "zeta"), ("copy-start", "lsh"),
              ("clustered", "exact"), ("clustered", "kd_forest")]  # fmt: skip
    lines = [factory.point(backend, 1.0, 99.0, data=data) for data, backend in places]
    costs = backend_tables.costs(load(tmp_path, *lines)).drop_duplicates(["data", "backend"])
    assert list(zip(costs.data, costs.backend, strict=True)) == [
        *[("clustered", "exact"), ("clustered", "kd_forest"), ("clustered", "zeta")],
        *[("random", "mine"), ("copy-start", "lsh"), ("copy-end", "lsh")],
    ]


def test_wear_is_worn_over_fresh_where_the_index_finds_enough(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        factory.wear("ivf", 0.5, 0.5, search={"probes": 1}, search_us_fresh=10.0),
        factory.wear("ivf", 0.9, 0.81, search={"probes": 4}, search_us_fresh=50.0),
        factory.wear("ivf", 1.0, 1.0, search={"probes": 64}, search_us_fresh=500.0),
        factory.wear("kd_forest", 0.4, 0.3, search={"checks": 32}),
        factory.wear("hnsw", 0, 0, times_overwritten=0.4, reason="not reached: 0.4 times in 9 s"),
    )
    wear = backend_tables.wear(found).set_index("backend")
    assert wear.settings["ivf"] == "probes=4"
    assert wear.recall_ratio["ivf"] == pytest.approx(0.9)
    assert wear.search_ratio["ivf"] == pytest.approx(2.2)
    assert wear.settings["kd_forest"] == "checks=32"
    assert wear.recall_ratio["kd_forest"] == pytest.approx(0.75)
    assert wear.status["hnsw"] == "not reached: 0.4 times in 9 s"
    assert pd.isna(wear.recall_worn["hnsw"])


def test_a_trace_becomes_its_parts_at_its_stage(tmp_path: Path) -> None:
    named = factory.trace("lsh", "recall-end", [0.9, 0.7])
    bare = factory.trace("lsh", "copy-start", [0.5], info={})
    found = load(tmp_path, named, bare).over_time.set_index(["task", "part"])
    assert list(found.loc["recall"].recall) == [0.9, 0.7]
    assert (found.stage["recall", 0], found.minibatches["recall", 0]) == ("end", 500)
    # Without info its name says it.
    assert found.stage["copy", 0] == "start"
    assert pd.isna(found.minibatches["copy", 0])


def test_a_loss_curve_keeps_its_points(tmp_path: Path) -> None:
    line = factory.learning("lsh", [0.6, 0.2])
    del line["commit"], line["date"]
    factory.write(tmp_path, [line], "learning.jsonl")
    found, _ = records.load(tmp_path, COMMIT)
    assert list(found.learning.minibatch) == [100, 200]
    assert list(found.learning.loss) == [0.6, 0.2]
