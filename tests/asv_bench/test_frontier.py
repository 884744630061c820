"""The frontier command: what its records say, and that a stopped run goes on."""

from __future__ import annotations

import json

import numpy as np
import pytest

import ann_backends
from asv_bench.benchmarks import grid, indexed
from asv_bench.frontier import measure, plan, sweeps
from asv_bench.frontier.journal import Journal

SIZE = 1024


def sweep(backend, *searches, **build):
    return sweeps.Sweep(backend, build, list(searches) or [{}])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "backends.jsonl"


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_sweep_holds_the_default_settings_and_nothing_unknown():
    for backend in ("exact", "kd_forest", "lsh"):
        found = sweeps.sweeps(backend)
        defaults = [one for each in found for one in each.searches if each.is_default(one)]
        assert len(defaults) == 1
    assert sweeps.sweeps("lsh")[1].settings({"probes": 4}) == ann_backends.LSH(tables=16, probes=4)


def test_a_point_says_what_was_found_and_what_it_cost():
    checked = sweep("kd_forest", {"checks": 32}, {"checks": 4096})
    records = measure.point(checked, SIZE, "clustered", wear_seconds=60.0)
    frontier = [record for record in records if record["measure"] == "frontier"]
    wear = [record for record in records if record["measure"] == "wear"]
    few, all_ = frontier
    # As many checks as there are rows, and more, find everything.
    assert all_["recall"] == 1.0
    assert 0.2 < few["recall"] < 0.9
    assert few["search_us"] < all_["search_us"]
    assert (few["default"], all_["default"]) == (True, False)
    for record in frontier:
        assert record["updated_rows"] == 3 * SIZE
        assert record["rebuilds"] == 3
        access = record["search_us"] + 20 * record["update_us"]
        assert record["access_us"] == pytest.approx(access)
        assert record["bytes_per_row"] > 16
    assert [record["recall_worn"] for record in wear][1] == 1.0
    assert all(record["times_overwritten"] == 3 for record in wear)


def test_wear_that_takes_too_long_is_said_not_to_be_reached():
    records = measure.point(sweep("exact"), SIZE, "random", wear_seconds=0.0)
    assert [record["measure"] for record in records] == ["frontier", "wear"]
    assert records[0]["updated_rows"] == 20
    assert records[1]["reason"].startswith("not reached: every row overwritten 0.02 times")


def test_each_index_is_searched_at_each_setting_on_the_same_queries():
    memory = indexed.Memory(SIZE, "random")
    exact, forest = memory.index("exact"), memory.index("kd_forest")
    ((found,),) = measure.searched([exact], [{}], memory)
    assert found.recall == 1.0
    assert found.q25_us <= found.us <= found.q75_us
    ((few, many),) = measure.searched([forest], [{"checks": 16}, {"checks": 256}], memory)
    assert few.recall < many.recall < 1
    assert forest.checks == 256


def test_overwriting_reaches_every_row_as_often_as_asked():
    memory = indexed.Memory(SIZE, "random")
    index, before = memory.index("exact"), memory.words.copy()
    batches, rows = measure.overwrite(index, memory, 0.5, seconds=60.0)
    assert rows == SIZE // 2
    assert len(batches) == -(-rows // grid.ROWS_PER_STEP)
    assert (memory.words != before).any(-1).sum() == SIZE // 2


def made_trace(num_steps=12, memory_size=64):
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((num_steps, 2, 5, 8)).astype(np.float32)
    empty = np.empty(0, np.int64)
    slots = np.stack([rng.choice(memory_size, (2, 5), replace=False) for _ in range(num_steps)])
    return ann_backends.Trace(
        memory_size=memory_size,
        k=4,
        metric="cosine",
        queries=rng.standard_normal((num_steps, 2, 3, 8)).astype(np.float32),
        slots=slots,
        rows=rows,
        first_steps=np.zeros(1, np.int64),
        start_episode=empty,
        start_element=empty,
        start_slot=empty,
        start_rows=np.empty((0, 8), np.float32),
        info={"task": "copy", "stage": "start", "minibatches": 0},
    )


def test_a_trace_is_replayed_at_each_setting():
    records = measure.trace_point(sweep("lsh", {"probes": 1}, {"probes": 64}), "t", made_trace())
    assert [record["search"] for record in records] == [{"probes": 1}, {"probes": 64}]
    assert records[0]["recall"] < records[1]["recall"]
    first = records[0]
    assert first["recall"] == pytest.approx(np.mean(first["recall_over_time"]), abs=0.1)
    assert (first["data"], first["memory_size"]) == ("t", 64)
    assert first["info"]["stage"] == "start"
    assert first["access_us"] > first["search_us"] * 0.5


def points(counts, *backends):
    """Points that note in `counts` that they were measured."""

    def measured(backend):
        counts.append(backend)
        if backend == "broken":
            raise RuntimeError("on purpose")
        return [
            {"measure": "frontier", "backend": backend, "memory_size": 8, "data": "near"}
            | {"build": {}, "search": {}, "recall": 1.0, "access_us": 5.0}
        ]

    return [
        plan.Point("frontier", sweep(name), 8, "near", lambda name=name: measured(name))
        for name in backends
    ]


def test_a_stopped_run_goes_on_where_it_stopped(path):
    counts = []
    assert plan.carry_out(points(counts, "exact"), Journal(path, fresh=False))
    path.write_bytes(path.read_bytes() + b'{"measure": "fron')  # stopped while it wrote
    assert plan.carry_out(points(counts, "exact", "lsh"), Journal(path, fresh=False))
    assert counts == ["exact", "lsh"]
    lines = path.read_text().splitlines()
    assert len(lines) == 3
    assert json.loads(lines[2])["backend"] == "lsh"
    assert plan.carry_out(points(counts, "exact"), Journal(path, fresh=True))
    assert counts == ["exact", "lsh", "exact"]


def test_records_of_other_code_do_not_count(path):
    counts = []
    plan.carry_out(points(counts, "exact"), Journal(path, fresh=False))
    (record,) = read(path)
    assert record["threads"] == 1
    assert set(record) > {"commit", "date", "versions", "uncommitted_changes"}
    path.write_text(json.dumps(record | {"code": "another"}) + "\n")
    plan.carry_out(points(counts, "exact"), Journal(path, fresh=False))
    assert counts == ["exact", "exact"]


def test_a_backend_that_fails_is_noted_and_keeps_no_other_from_being_measured(path, capsys):
    counts = []
    assert not plan.carry_out(points(counts, "broken", "exact"), Journal(path, fresh=False))
    first, second = read(path)
    assert first["reason"] == "failed: RuntimeError('on purpose')"
    assert second["recall"] == 1.0
    assert "on purpose" in capsys.readouterr().err
    plan.carry_out(points(counts, "broken", "exact"), Journal(path, fresh=False))
    assert counts == ["broken", "exact", "broken"]


def test_a_backend_that_is_not_installed_gives_its_reason(path, capsys):
    ann_backends.register("absent", "no_such_module:Index", install_hint="pip install absent")
    try:
        assert plan.chosen(["absent"], Journal(path, fresh=False)) == []
        assert plan.chosen(["absent"], Journal(path, fresh=False)) == []
    finally:
        ann_backends.registry._entries.pop("absent")
    (record,) = read(path)
    assert record["reason"] == "absent is not installed: pip install absent"
