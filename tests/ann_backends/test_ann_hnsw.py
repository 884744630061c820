"""The hnsw backend: its points are the rows, the dead do no harm, its settings do what they say."""

from __future__ import annotations

import numpy as np
import pytest

import ann_backends

pytest.importorskip("hnswlib", reason="not installed: pip install hnswlib")
from ann_backends.hnsw import HNSW, RECENT, HNSWIndex


def built(memory: np.ndarray, metric: str = "cosine", **chosen: object) -> HNSWIndex:
    return HNSW(**chosen).build(memory, metric=metric)  # type: ignore[arg-type]


def recall(index: HNSWIndex, queries: np.ndarray) -> float:
    exact = ann_backends.create("exact", index.memory, metric=index.metric)
    least = exact.search(queries, 4)[1][..., -1:]
    return float((index.search(queries, 4)[1] >= least - 1e-6).mean())


def check_graph(index: HNSWIndex, findable: np.ndarray) -> None:
    """Living points and rows belong to each other; those out of date are among the fresh."""
    part, graph = index._parts[0], index._structures[0]
    owners = graph.owners[: graph.points]
    assert graph.graph.get_current_count() == graph.points <= graph.room
    points = np.flatnonzero(owners >= 0)
    assert points.size == graph.living
    assert (graph.point_of[owners[points]] == points + 1).all()
    assert np.count_nonzero(graph.point_of) == graph.living
    fresh = set(part.written_last().tolist())
    known = set(owners[points].tolist())
    assert known <= set(np.flatnonzero(findable)) <= known | fresh
    held = np.array(graph.graph.get_items(points, return_type="list"))
    settled = [i for i, point in enumerate(points) if owners[point] not in fresh]
    np.testing.assert_allclose(
        held[settled], part.points(owners[points][settled].astype(np.int64)), atol=1e-6
    )


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_living_points_are_the_rows(metric: str) -> None:
    rng = np.random.default_rng(0)
    memory = rng.standard_normal((1, 700, 6))
    index = built(memory, metric, exact_below=8, rebuild_every=2500)
    findable = np.ones(700, bool)
    for turn in range(80):
        slots = rng.integers(-1, 700, (1, 60))
        own = slots[slots >= 0]
        if turn % 4 == 3:
            index.remove(slots)
            findable[own] = False
        else:
            memory[0, own] = rng.standard_normal((own.size, 6))
            findable[own] = True
            index.update(slots)
        check_graph(index, findable)
    assert index.stats()["rebuilds"] > 0


def test_the_graph_is_built_anew_when_the_dead_are_as_many_as_the_living() -> None:
    rng = np.random.default_rng(1)
    memory = rng.standard_normal((1, 1000, 8))
    index = built(memory, rebuild_every=10**6)
    most = 0
    for _ in range(150):
        slots = rng.permutation(1000)[None, :20]
        memory[0, slots[0]] = rng.standard_normal((20, 8))
        index.update(slots)
        most = max(most, index._structures[0].points)
    assert 1900 < most <= 2020
    assert index.stats()["rebuilds"] == 2
    index.remove(np.arange(900)[None])
    assert index._structures[0] is None


def test_a_row_written_at_every_step_leaves_no_trail() -> None:
    memory = np.random.default_rng(2).standard_normal((1, 600, 8))
    index = built(memory)
    for turn in range(300):
        memory[0, 5, 0] = turn
        index.update(np.array([[5]]))
    assert index._structures[0].points == 600


def test_dead_points_that_crowd_about_a_query_hide_no_row() -> None:
    """A thousand rows stood where the query is; all but a few have moved away since."""
    rng = np.random.default_rng(3)
    crowd = rng.standard_normal(8)
    memory = rng.standard_normal((1, 3000, 8))
    memory[0, :1000] = crowd + 0.01 * rng.standard_normal((1000, 8))
    index = built(memory, rebuild_every=10**6)
    slots = np.arange(990)
    memory[0, slots] = -memory[0, slots]
    index.update(slots[None])
    away = np.arange(1000, 1000 + RECENT)
    index.update(away[None])
    found = index.search(crowd[None, None], 4)[0][0, 0]
    assert set(found) <= set(range(990, 1000))


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_ef_may_be_assigned_and_outlasts_a_rebuild(metric: str) -> None:
    rng = np.random.default_rng(4)
    memory = rng.standard_normal((1, 4000, 24)).astype(np.float32)
    queries = rng.standard_normal((1, 50, 24)).astype(np.float32)
    index = built(memory, metric, ef=1)
    recalls = []
    for ef in (1, 32, 256):
        index.ef = ef
        recalls.append(recall(index, queries))
    assert recalls[0] + 0.05 < recalls[1] < recalls[2]
    assert recalls[2] > 0.97
    index.rebuild()
    assert recall(index, queries) > 0.97
    index.reset()
    assert index.ef == 256
    for bad in (0, 1.5, "4"):
        with pytest.raises((TypeError, ValueError), match="ef: got"):
            index.ef = bad  # type: ignore[assignment]
    assert index.ef == 256


def test_wear_costs_little_recall() -> None:
    rng = np.random.default_rng(5)
    memory = rng.standard_normal((1, 2000, 16)).astype(np.float32)
    queries = rng.standard_normal((1, 64, 16)).astype(np.float32)
    index = built(memory)
    before = recall(index, queries)
    for _ in range(95):
        slots = rng.permutation(2000)[None, :20]
        memory[0, slots[0]] = rng.standard_normal((20, 16))
        index.update(slots)
    assert index.stats()["rebuilds"] == 0
    assert recall(index, queries) > before - 0.03
    graph = index._structures[0]
    assert graph.graph.ef == index.ef * graph.points // graph.living > 1.6 * index.ef
    assert index.scans == 0
