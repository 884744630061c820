"""The suites' own measures against slow ones, and which points a profile chooses."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

import ann_backends
from asv_bench.benchmarks import data, grid, indexed, passes
from asv_bench.benchmarks.total_memory import TotalMemory

ROOT = Path(__file__).parent.parent.parent


def slow_recall(memory, queries, slots, k):
    """Of unit-norm similarity in float64, one query at a time, for a memory without ties."""
    shares = []
    for query, found in zip(queries, slots, strict=True):
        cosine = memory.astype(np.float64) @ query / np.linalg.norm(memory, axis=1)
        shares.append(len(set(np.argsort(-cosine)[:k]) & set(found.tolist())) / k)
    return float(np.mean(shares))


def test_recall_is_the_share_of_the_true_neighbours_that_came_back():
    memory = indexed.Memory(512, "random")
    queries = memory.queries(8)
    best = memory.truth(queries)
    rng = np.random.default_rng(1)
    slots, _ = memory.index("exact").search(queries.reshape(1, -1, grid.WORD_SIZE), grid.K)
    wrong = np.where(rng.random(slots.shape) < 0.4, rng.integers(512, size=slots.shape), slots)
    flat = queries.reshape(-1, grid.WORD_SIZE)
    expected = slow_recall(memory.words[0], flat, wrong[0], grid.K)
    assert 0.4 < expected < 0.9
    assert memory.recall(queries, wrong, best) == pytest.approx(expected)
    assert memory.recall(queries, slots, best) == 1.0


def test_recall_trusts_ids_only_and_forgives_ties():
    memory = np.eye(4, dtype=np.float32)[[0, 0, 1, 2]]
    query = memory[:1]
    best = np.array([[1.0, 1.0]])
    assert data.recall(memory, query, np.array([[1, 0]]), best) == 1.0
    assert data.recall(memory, query, np.array([[0, 0]]), best) == 0.5
    assert data.recall(memory, query, np.array([[0, -1]]), best) == 0.5
    # The first two rows are equally near: either of them is the nearest.
    assert data.recall(memory, query, np.array([[1]]), best[:, :1]) == 1.0


def test_rows_and_queries_are_of_the_kind_they_are_called():
    size = 4096
    memories = {kind: indexed.Memory(size, kind) for kind in grid.DATA}
    nearest = {kind: memory.truth(memory.queries(64))[:, 0] for kind, memory in memories.items()}
    # A row of 32 unit normals with noise of 0.1: cosine 1 / sqrt(1.01).
    assert np.median(nearest["near"]) == pytest.approx(1.01**-0.5, abs=0.01)
    assert np.median(nearest["clustered"]) > 0.98
    assert np.median(nearest["random"]) < 0.7
    spread = {kind: memory.words[0].std() for kind, memory in memories.items()}
    assert spread["random"] == pytest.approx(1, abs=0.02)
    assert spread["clustered"] == pytest.approx(1.09**0.5, abs=0.2)
    same = data.Source("near", size).rows(size)
    np.testing.assert_array_equal(same, memories["near"].words[0])


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="got 'odd', expected one of random, clustered, near"):
        data.Source("odd", 64)


def test_overwriting_changes_the_rows_that_it_names():
    memory = indexed.Memory(1024, "random")
    before = memory.words.copy()
    slots = memory.overwrite(5)
    assert slots.shape == (5, 1, 20)
    assert all(len(set(step.ravel().tolist())) == 20 for step in slots)
    changed = np.flatnonzero((memory.words != before).any(-1)[0])
    assert set(changed.tolist()) == set(slots.ravel().tolist())


def test_every_known_backend_is_in_the_grid():
    assert set(grid.BACKENDS) == set(ann_backends.available())
    assert {f"sam-{backend}" for backend in grid.BACKENDS} <= set(grid.MODELS)


@pytest.mark.parametrize("model", ["ntm", "sam-exact"])
def test_a_pass_starts_anew_from_words_that_only_its_state_holds(model):
    measured = passes.Pass(model, 64, 3, 2, warm_ups=1)
    later = measured.state.memory.clone()
    measured.start()
    first = measured.state.memory.clone()
    assert not torch.equal(later, first)
    measured()
    measured.start()
    torch.testing.assert_close(measured.state.memory, first, rtol=0, atol=0)
    assert measured.state.memory.data_ptr() != measured._words.data_ptr()
    empty = passes.Pass(model, 64, 3, 2, warm_ups=0, full=False)
    assert empty.state.memory.abs().max() < 1e-5


@pytest.mark.parametrize("memory_size", [64, 4096])
def test_the_ntm_that_makes_steps_again_has_sam_s_budget_or_little_more_than_works(memory_size):
    measured = passes.Pass(grid.RECOMPUTING, memory_size, 5, 1, warm_ups=0)
    model = measured.model
    assert model.checkpoint == "dp"
    if memory_size == 64:
        assert model.checkpoint_mib == grid.BUDGET_MIB
        return
    assert model.checkpoint_mib > grid.BUDGET_MIB
    measured()
    assert all(part.grad is not None for part in model.parameters())
    model.checkpoint_mib *= 0.5
    with pytest.raises(ValueError, match="checkpoint_mib: got"):
        measured()


def test_where_making_steps_again_would_take_hours_it_is_left_out(monkeypatch):
    monkeypatch.setattr(grid, "PROFILE", "full")
    points = [(1024, 100, 8), (65536, 100, 1), (4096, 100, 8), (262144, 100, 1), (64, 10000, 8)]
    reasons = [grid.model_reason(grid.RECOMPUTING, *point, ()) for point in points]
    assert reasons[:2] == [None, None]
    assert all("would take minutes beyond" in reason for reason in reasons[2:])


def test_the_dnc_is_left_out_where_its_links_do_not_fit(monkeypatch):
    memory = types.SimpleNamespace(total=2**31)
    monkeypatch.setattr("psutil.virtual_memory", lambda: memory)
    monkeypatch.setattr(grid, "PROFILE", "full")
    links = 8 * 2048**2 * 4 * 10 / 2**30  # of 10 steps in 8 memories
    reason = grid.model_reason("dnc", 2048, 10, 8, ())
    needed = float(re.fullmatch(r"needs about (.*) GiB, more than 1.4 GiB", reason)[1])
    assert links < needed < 5 * links
    assert grid.model_reason("ntm", 2048, 10, 8, ()) is None
    assert grid.model_reason("dnc", 256, 10, 8, ()) is None
    for model in ("sdnc-exact", "sdnc-kd_forest"):
        assert grid.model_reason(model, 1048576, 10, 8, ()) is None
    memory.total = 2**50
    assert grid.model_reason("dnc", 4096, 10, 8, ()) is None
    assert "minutes beyond 4,096 words" in grid.model_reason("dnc", 16384, 1, 1, ())


def chosen(profile, suite):
    """The points of a suite that a profile measures, and the reasons for the others."""
    code = (
        f"import json, run; points, reasons = run.sort_points({suite!r})\n"
        "print(json.dumps([[run.pattern(point) for point in points], reasons]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT / "asv_bench",
        env=os.environ | {"SAM_BENCH_PROFILE": profile},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_a_run_starts_no_process_for_a_point_outside_its_profile():
    points, reasons = chosen("quick", "backends")
    names = [
        "Calls.time_search('lsh', 65536, 'clustered')",
        "Calls.time_search('lsh', 1024, 'near')",
    ]
    assert any(re.fullmatch(point, names[0]) for point in points)
    assert not any(re.fullmatch(point, names[1]) for point in points)
    left_out = {(entry["benchmark"], *entry["params"]): entry["reason"] for entry in reasons}
    assert left_out["Calls", "lsh", 1024, "near"] == "not in the quick profile"
    assert len(points) + len(reasons) == 4 * len(grid.BACKENDS) * len(grid.BACKEND_SIZES) * 3
    more, _ = chosen("full", "backends")
    assert set(points) < set(more)


@pytest.mark.parametrize(
    ("suite", "point"),
    [
        ("linked_time", "LinkedTime.time_forward_backward({!r}, {}, 10)"),
        ("total_memory", "TotalMemory.track_peak_bytes({!r}, {}, 'full')"),
    ],
)
def test_figure_7_is_measured_to_a_million_words_and_the_dnc_as_far_as_the_paper_s(suite, point):
    def measured(profile, *sizes):
        points, _ = chosen(profile, suite)
        return any(re.fullmatch(pattern, point.format(*sizes)) for pattern in points)

    for model in ("dnc", "sdnc-exact"):
        assert measured("quick", model, 2048)
    assert measured("figure", "sdnc-exact", 1048576)
    assert measured("figure", "sdnc-kd_forest", 1048576)
    assert measured("figure", "dnc", 2048)
    assert not measured("figure", "dnc", 4096)


@pytest.mark.slow
def test_the_words_of_a_full_memory_count_once_and_those_of_an_empty_one_not_at_all():
    size, words = 65536, 65536 * 32 * 4
    empty, full = (TotalMemory().track_peak_bytes("sam-exact", size, m) for m in ("empty", "full"))
    print(f"empty {empty / 2**20:.2f} MiB, full {full / 2**20:.2f} MiB")
    assert empty < words / 4
    assert words < full - empty < 1.9 * words
