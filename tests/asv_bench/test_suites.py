"""The suites' own measures against slow ones, and which points a profile chooses."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ann_backends
from asv_bench.benchmarks import data, grid, indexed

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


def chosen(profile, suite):
    """The points of a suite that a profile measures, and the reasons for the others."""
    code = f"import json, run; print(json.dumps(run.sort_points({suite!r})))"
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
