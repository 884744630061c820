"""Searches that want many rows: as right as others, and not in time quadratic in k."""

from __future__ import annotations

import time

import numpy as np
import pytest

import ann_backends
from ann_backends import Exact, KDForest, Settings, similarity
from ann_backends.best import LISTED, keep_best
from ann_backends.sketch import keep

WIDE = KDForest(sketch=True, trees=3, leaf_size=20)


@pytest.mark.parametrize("size", [LISTED + 1, 200, 1000])
def test_a_heap_keeps_the_rows_that_a_list_keeps(size: int) -> None:
    """Ties, repetitions and fewer rows than places included."""
    rng = np.random.default_rng(size)
    for number, distinct in ((size // 2, 20), (5 * size, 50), (4 * size, 10**6), (3 * size, 1)):
        own = np.round(rng.standard_normal(10 * size) * distinct).astype(np.float32) / distinct
        lists, heaps = ((np.full(size, -1), np.full(size, -np.inf, np.float32)) for _ in range(2))
        arrivals, seen = np.zeros(size + 1, np.int64), np.zeros(10 * size, np.uint32)
        for slot in rng.integers(0, 10 * size, number):
            if own[slot] > lists[1][0]:
                keep(slot, own[slot], *lists)
            if own[slot] > heaps[1][0]:
                keep_best(slot, own[slot], *heaps, arrivals, seen, 7)
            assert lists[1][0] == heaps[1][0]
        assert (np.sort(lists[0]) == np.sort(heaps[0])).all()


@pytest.mark.parametrize("name", ["exact", "kd_forest", "wide", "ivf", "hnsw"])
def test_all_rows_are_found_in_their_order(name: str) -> None:
    settings: Settings | str = WIDE if name == "wide" else name
    if isinstance(settings, str) and ann_backends.available()[name] != "ready":
        pytest.skip(f"{name} is not installed")
    rng = np.random.default_rng(0)
    memory = rng.standard_normal((2, 700, 8))
    memory[:, 100:200] = memory[:, :1]
    memory[1] *= 3
    index = ann_backends.create(settings, memory)
    index.remove(np.tile(np.arange(20, 30), (2, 1)))
    queries = rng.standard_normal((2, 3, 8))
    queries[0, 0] = memory[0, 150]
    for k in (129, 300, 689, 690, 691, 700):
        slots, values = index.search(queries, k)
        for b in range(2):
            rows = np.setdiff1d(np.arange(700), np.arange(20, 30))
            near = np.full((3, 700), -np.inf)
            near[:, rows] = similarity(queries[b], memory[b, rows], "cosine")
            expected = -np.sort(-near, axis=1)[:, :k]
            if k >= 690:  # every row is wanted
                np.testing.assert_allclose(values[b, :, :690], expected[:, :690], rtol=1e-9)
                assert (np.sort(slots[b, :, :690], axis=1) == rows).all()
            assert (slots[b, :, 690:] == -1).all()
            found = slots[b, :, :690]
            assert all(len(set(own.tolist())) == own.size for own in found)
            taken = np.take_along_axis(near, found, 1)
            np.testing.assert_allclose(values[b, :, :690], taken, rtol=1e-9)


@pytest.mark.parametrize("settings", [WIDE, KDForest(), Exact()], ids=["wide", "forest", "exact"])
def test_four_times_the_rows_take_no_sixteen_times_the_time(settings: Settings) -> None:
    rng = np.random.default_rng(0)
    took = []
    for size in (8192, 32768):
        memory = rng.standard_normal((1, size, 4)).astype(np.float32)
        index, query = settings.build(memory), memory[:, :1].copy()
        index.search(query, size)
        best = min(_seconds(index, query, size) for _ in range(3))
        took.append(best)
    assert took[1] < 10 * took[0] + 0.01


def _seconds(index: ann_backends.Index, query: np.ndarray, k: int) -> float:
    started = time.process_time()
    index.search(query, k)
    return time.process_time() - started
