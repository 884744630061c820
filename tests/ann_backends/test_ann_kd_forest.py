"""The k-d forest: its structure after any history, what it always finds, recall, wear and speed."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ann_backends
from ann_backends import KDForest, kd_forest
from ann_backends.kd_forest import KDForestIndex
from ann_backends.sketch import LANES

METRICS = ["cosine", "l2"]
DTYPES = ["float32", "float64"]


def forest(memory: np.ndarray, **choices: Any) -> KDForestIndex:
    names = {field.name for field in dataclasses.fields(KDForest)} & choices.keys()
    settings = {name: choices.pop(name) for name in names}
    index = ann_backends.create(KDForest(**settings), memory, **choices)
    assert isinstance(index, KDForestIndex)
    return index


def point(index: KDForestIndex, element: int, word: np.ndarray) -> np.ndarray:
    placed = np.empty_like(word)
    kd_forest._place(word, index.metric == "cosine", index._forest.axes[element], placed)
    return placed


def leaf_of(index: KDForestIndex, element: int, tree: int, where: np.ndarray) -> int:
    """The leaf where a point [W] belongs, by a descent of this file's own."""
    child = int(index._forest.roots[element, tree])
    while child > 0:
        dimension, below, above, _ = index._forest.nodes[element, child]
        child = int(below if where[dimension] < index._forest.thresholds[element, child] else above)
    return -child


def blocks_of(index: KDForestIndex, element: int, leaf: int) -> Iterator[int]:
    while leaf:
        yield leaf
        leaf = int(index._forest.links[element, leaf, kd_forest.NEXT])


def check_structure(index: KDForestIndex, findable: np.ndarray) -> None:
    """Each findable row of `findable` [B, N] is in the one leaf of each tree where it belongs."""
    assert index.stats()["findable"] == findable.sum(axis=1).tolist()
    for element, own in enumerate(findable):
        nodes = blocks = 0
        for tree in range(index.settings.trees):
            counts = check_tree(index, element, tree, np.flatnonzero(own))
            nodes, blocks = nodes + counts[0], blocks + counts[1]
        assert index._forest.state[element, kd_forest.LIVE_NODES] == nodes
        assert index._forest.state[element, kd_forest.LIVE_BLOCKS] == blocks
        assert (index._forest.where[element, ~own] == 0).all()


def check_tree(index: KDForestIndex, element: int, tree: int, rows: np.ndarray) -> tuple[int, int]:
    """Numbers of nodes and blocks of a tree that holds just `rows`."""
    seen: list[int] = []
    nodes = blocks = 0
    pending = [(int(index._forest.roots[element, tree]), 0)] if rows.size else []
    assert rows.size or index._forest.roots[element, tree] == 0
    while pending:
        child, parent = pending.pop()
        assert child != 0
        if child > 0:
            nodes += 1
            assert index._forest.nodes[element, child, kd_forest.PARENT] == parent
            pending += [(int(other), child) for other in index._forest.nodes[element, child, 1:3]]
            continue
        assert index._forest.links[element, -child, kd_forest.OWNER] == parent
        held = check_leaf(index, element, tree, -child)
        blocks += len(list(blocks_of(index, element, -child)))
        seen += held
    assert sorted(seen) == rows.tolist()
    return nodes, blocks


def check_leaf(index: KDForestIndex, element: int, tree: int, leaf: int) -> list[int]:
    """The slots of a leaf, after everything about it held."""
    chain = list(blocks_of(index, element, leaf))
    held = []
    for place, block in enumerate(chain):
        count = int(index._forest.leaves[element, block, 0])
        # Of several blocks all are full except perhaps the second.
        assert count == index.settings.leaf_size or (count >= 1 and len(chain) == 1) or place == 1
        assert count >= 1
        assert place == 0 or index._forest.links[element, block, kd_forest.OWNER] == -leaf
        slots = index._forest.leaves[element, block, 1 : 1 + count].tolist()
        assert (index._forest.where[element, slots, tree] == block).all()
        held += slots
        check_sketches(index, element, block, slots)
    points = [point(index, element, index.memory[element, slot]) for slot in held]
    assert {leaf_of(index, element, tree, own) for own in points} == {leaf}
    assert len(chain) == 1 or (np.array(points) == points[0]).all()
    return held


def check_sketches(index: KDForestIndex, element: int, block: int, slots: list[int]) -> None:
    """The rows of a block, from its second place on, stand in its lanes in 8 bits."""
    if not index.settings.sketch:
        return
    groups = -(-(1 + index.settings.leaf_size) // LANES)
    own = index._forest.sketches[element, block * groups : (block + 1) * groups]
    lanes = own.transpose(0, 2, 1, 3).reshape(groups * LANES, -1)[1 : 1 + len(slots)]
    words = index.memory[element, slots].astype(float)
    directions = words / np.sqrt(np.sum(words**2, axis=1, keepdims=True) + 1e-6)
    assert np.abs(lanes[:, : words.shape[1]] - 127 * directions).max() <= 0.5001
    assert not lanes[:, words.shape[1] :].any()


def best_similarity(index: KDForestIndex, findable: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Similarity of every findable row, best first, -inf for the others: [B, H, N]."""
    values = ann_backends.similarity(
        queries.astype(float), index.memory.astype(float), index.metric
    )
    return -np.sort(-np.where(findable[:, None], values, -np.inf))


def new_words(
    kind: str, memory: np.ndarray, slots: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    word_size = memory.shape[1]
    words = rng.standard_normal((slots.size, word_size))
    return {
        "random": words,
        "coarse": np.round(words),
        "duplicate": np.tile(memory[0], (slots.size, 1)),
        "scaled": memory[slots] * 2,
        "near": memory[0] * (1 + 1e-7 * np.round(words)),
        "zero": words * 0,
        "line": np.arange(slots.size)[:, None] * np.ones(word_size),
    }[kind]


KINDS = ["random", "coarse", "duplicate", "scaled", "near", "zero", "line"]
steps = st.lists(
    st.tuples(
        st.sampled_from(["update", "update", "update", "remove", "reset", "rebuild"]),
        st.lists(st.integers(-1, 39), min_size=2, max_size=30),
        st.sampled_from(KINDS),
    ),
    max_size=12,
)


@settings(max_examples=100, deadline=None)
@given(
    steps=steps,
    metric=st.sampled_from(METRICS),
    dtype=st.sampled_from(DTYPES),
    word_size=st.integers(1, 9),
    trees=st.integers(1, 5),
    leaf_size=st.integers(1, 7) | st.integers(14, 34),
    sketch=st.booleans(),
    principal_axes=st.booleans(),
    start=st.sampled_from(["all", "none"]),
    first=st.sampled_from(["random", "coarse", "zero"]),
    rebuild_every=st.sampled_from([None, 1, 20]),
    seed=st.integers(0, 2**16),
)
def test_any_history_leaves_every_row_where_it_belongs(
    steps: list[tuple[str, list[int], str]],
    metric: str,
    dtype: str,
    word_size: int,
    trees: int,
    leaf_size: int,
    sketch: bool,
    principal_axes: bool,
    start: str,
    first: str,
    rebuild_every: int | None,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    memory = np.zeros((2, 40, word_size), dtype)
    for own in memory:
        own[:] = new_words(first, own, np.arange(40), rng)
    index = forest(
        memory,
        trees=trees,
        leaf_size=leaf_size,
        sketch=sketch and metric == "cosine",
        principal_axes=principal_axes,
        checks=1,
        rebuild_every=rebuild_every,
        metric=metric,
        findable=start,
        seed=seed,
    )
    findable = np.full((2, 40), start == "all")
    check_structure(index, findable)
    for action, chosen, kind in steps:
        slots = np.array([chosen, chosen[::-1]])
        rows = [own[own >= 0] for own in slots]
        if action == "update":
            for b, own in enumerate(rows):
                memory[b, own] = new_words(kind, memory[b], own, rng)
                findable[b, own] = True
            index.update(slots)
            check_found_first(index, findable, slots)
        elif action == "remove":
            for b, own in enumerate(rows):
                findable[b, own] = False
            index.remove(slots)
        elif action == "reset":
            findable[:] = False
            index.reset()
        else:
            index.rebuild()
        check_structure(index, findable)
        check_exhaustive_search_is_exact(index, findable, rng)


def check_found_first(index: KDForestIndex, findable: np.ndarray, slots: np.ndarray) -> None:
    """With a single check, queries equal to the rows just updated still find the nearest row."""
    queries = np.take_along_axis(index.memory, np.maximum(slots, 0)[..., None], 1)
    own = slots >= 0
    found = index.search(queries, 1)[1][..., 0]
    # For cosine a longer row of the same direction is nearer: "equal" is only as near as itself.
    itself = np.array(
        [
            [ann_backends.similarity(q[None], q[None], index.metric)[0, 0] for q in per_element]
            for per_element in queries.astype(float)
        ]
    )
    assert (found[own] >= itself[own] - (1e-5 if index.memory.dtype == np.float32 else 1e-12)).all()


def check_exhaustive_search_is_exact(
    index: KDForestIndex, findable: np.ndarray, rng: np.random.Generator
) -> None:
    memory = index.memory
    queries = rng.standard_normal((2, 3, memory.shape[2])).astype(memory.dtype)
    index.checks = memory.shape[1]
    slots, similarity = index.search(queries, 40)
    index.checks = 1
    tolerance = 1e-4 if memory.dtype == np.float32 else 1e-11
    expected = best_similarity(index, findable, queries)
    np.testing.assert_allclose(similarity, expected, rtol=tolerance, atol=tolerance)
    for b, own in enumerate(findable):
        for found in slots[b]:
            assert sorted(found[found >= 0].tolist()) == np.flatnonzero(own).tolist()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_just_updated_is_found_first_with_one_check(dtype: str, metric: str) -> None:
    rng = np.random.default_rng(0)
    memory = rng.standard_normal((2, 5000, 8)).astype(dtype)
    index = forest(memory, checks=1, metric=metric)
    for _ in range(100):
        slots = np.stack([rng.permutation(5000)[:20] for _ in range(2)])
        words = rng.standard_normal((2, 20, 8))
        np.put_along_axis(memory, slots[..., None], words.astype(dtype), 1)
        index.update(slots)
        found = index.search(np.take_along_axis(memory, slots[..., None], 1), 4)[0]
        assert (found[..., 0] == slots).all()


@pytest.mark.parametrize("start", ["all", "none"])
def test_a_memory_of_equal_rows_is_searched_and_updated_in_small_time(start: str) -> None:
    memory = np.zeros((1, 20_000, 8), np.float32)
    index = forest(memory, findable=start)
    index.update(np.arange(20_000)[None])
    findable = np.ones((1, 20_000), bool)
    check_structure(index, findable)
    assert index._forest.state[0, kd_forest.LIVE_NODES] == 0
    slots, similarity = index.search(np.ones((1, 2, 8), np.float32), 40)
    assert all(np.unique(own).size == 40 for own in slots[0])
    assert (similarity == 0).all()
    # One row among all those moves away and back; nothing else has to.
    for value in (1, 0, -1, 0):
        memory[0, 7] = value
        index.update(np.array([[7]]))
        first = index.search(memory[:, 7:8], 1)[0][0, 0, 0]
        assert value == 0 or first == 7
    check_structure(index, findable)


def test_few_rows_that_differ_are_told_apart_by_a_build() -> None:
    """Those are missed by the sample that splits look at."""
    rng = np.random.default_rng(0)
    memory = np.zeros((1, 10_000, 8), np.float32)
    memory[0, 5000:5060] = rng.standard_normal((60, 8))
    index = forest(memory, checks=1)
    check_structure(index, np.ones((1, 10_000), bool))
    assert index.search(memory[:, 5000:5060], 1)[0][0, :, 0].tolist() == list(range(5000, 5060))


def test_equal_similarities_come_lowest_slot_first() -> None:
    memory = np.random.default_rng(0).standard_normal((1, 300, 32)).astype(np.float32)
    twins = [3, 50, 127, 128, 200, 299]
    memory[0, twins] = memory[0, 3]
    assert forest(memory).search(memory[:, 3:4], 4)[0].tolist() == [[twins[:4]]]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("principal_axes", [False, True])
@pytest.mark.parametrize("sketch", [False, True])
def test_recall_grows_with_checks_up_to_exact(
    metric: str, principal_axes: bool, sketch: bool
) -> None:
    if sketch and metric == "l2":
        with pytest.raises(ValueError, match="sketch: got True with metric='l2'"):
            forest(np.ones((1, 2, 2)), sketch=True, metric=metric)
        return
    rng = np.random.default_rng(1)
    memory = rng.standard_normal((1, 4096, 16)).astype(np.float32)
    queries = rng.standard_normal((1, 64, 16)).astype(np.float32)
    index = forest(memory, metric=metric, principal_axes=principal_axes, sketch=sketch)
    recalls = []
    # By sketches a row counts once in every tree.
    for checks in (32, 128, 512, 2048, 4096 * index.settings.trees):
        index.checks = checks
        recalls.append(recall(index, queries))
    assert recalls == sorted(recalls)
    assert recalls[0] > 0.05
    assert recalls[-1] == 1


def test_principal_axes_find_more_where_rows_differ_along_few_of_them() -> None:
    rng = np.random.default_rng(5)
    spread = np.diag(0.8 ** np.arange(16)) @ np.linalg.qr(rng.standard_normal((16, 16)))[0]
    memory = (rng.standard_normal((1, 8192, 16)) @ spread).astype(np.float32)
    queries = (rng.standard_normal((1, 64, 16)) @ spread).astype(np.float32)
    plain, turned = (
        recall(forest(memory, trees=1, checks=128, principal_axes=chosen), queries)
        for chosen in (False, True)
    )
    assert turned > plain + 0.05


def test_a_row_is_found_by_sketch_among_thousands_that_are_nearly_equal() -> None:
    rng = np.random.default_rng(6)
    memory = (1 + 1e-2 * rng.standard_normal((1, 4096, 32))).astype(np.float32)
    index = forest(memory, trees=1, leaf_size=255, checks=1, sketch=True)
    slots = rng.choice(4096, (1, 64), replace=False)
    memory[0, slots[0]] = 1 + 1e-2 * rng.standard_normal((64, 32))
    index.update(slots)
    assert (index.search(memory[:, slots[0]], 1)[0][..., 0] == slots).all()


def recall(index: KDForestIndex, queries: np.ndarray, k: int = 4) -> float:
    exact = ann_backends.create("exact", index.memory, metric=index.metric).search(queries, k)[0]
    found = np.concatenate(
        [index.search(queries[:, h : h + 4], k)[0] for h in range(0, queries.shape[1], 4)], axis=1
    )
    return float(np.mean(np.any(found[..., None] == exact[..., None, :], axis=-1)))


def test_checks_may_change_between_searches_and_outlast_a_reset() -> None:
    index = forest(np.ones((1, 8, 4)), checks=5)
    assert index.checks == 5
    index.checks = 7
    index.reset()
    assert index.checks == 7
    with pytest.raises(ValueError, match="checks: got 0"):
        index.checks = 0


@pytest.mark.parametrize("bad", [{"trees": 0}, {"checks": 0}, {"leaf_size": 0}, {"trees": 2.0}])
def test_bad_settings_are_named(bad: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=f"{next(iter(bad))}: got"):
        KDForest(**bad)


def test_seeds_give_other_trees_and_the_same_seed_the_same() -> None:
    memory = np.random.default_rng(2).standard_normal((1, 2000, 16))
    one, same, other = (forest(memory, seed=seed)._forest.nodes for seed in (5, 5, 6))
    assert (one == same).all()
    assert one.shape != other.shape or (one != other).any()


def test_room_for_one_element_changes_no_other() -> None:
    """Elements share the size of their arrays, which must not show in their answers."""
    rng = np.random.default_rng(3)
    memory = rng.standard_normal((2, 3000, 8)).astype(np.float32)
    queries = rng.standard_normal((2, 16, 8)).astype(np.float32)
    together, alone = forest(memory, findable="none"), forest(memory[1:], findable="none")
    together.update(np.stack([np.arange(3000), np.full(3000, -1)]))
    for first in range(0, 3000, 500):
        slots = np.arange(first, first + 500)
        together.update(np.stack([np.full(500, -1), slots]))
        alone.update(slots[None])
        found = together.search(queries, 4)[0][1]
        assert (found == alone.search(queries[1:], 4)[0][0]).all()


def test_the_clock_of_visited_rows_starts_over() -> None:
    rng = np.random.default_rng(4)
    memory = rng.standard_normal((1, 100, 8))
    index = forest(memory, checks=100)
    index._spaces[0].clock[0] = 2**32 - 6
    for _ in range(6):
        queries = rng.standard_normal((1, 2, 8))
        expected = ann_backends.create("exact", memory).search(queries, 4)[0]
        assert (index.search(queries, 4)[0] == expected).all()


def test_rows_coming_in_order_get_the_trees_balanced_again() -> None:
    memory = np.arange(1.0, 20_001).reshape(1, -1, 1)
    index = forest(memory, metric="l2", findable="none", rebuild_every=2**40)
    for first in range(0, 20_000, 20):
        index.update(np.arange(first, first + 20)[None])
    assert 1 <= index.stats()["rebuilds"] <= 40
    assert index._forest.state[0, kd_forest.DEPTH] <= 16 + 4 * np.log2(20_001) + 400
    check_structure(index, np.ones((1, 20_000), bool))
    assert index.search(memory[:, ::500], 1)[0][0, :, 0].tolist() == list(range(0, 20_000, 500))


@pytest.mark.parametrize("length", [1e-30, 1e15, 1e30])
def test_cosine_survives_extreme_lengths(length: float) -> None:
    memory = np.random.default_rng(2).standard_normal((1, 60, 8)).astype(np.float32)
    queries = memory[:, :4] * np.float32(1e15)
    memory[0, 4:] *= np.float32(length)
    slots, similarity = forest(memory, checks=60).search(queries, 60)
    assert (np.sort(slots) == np.arange(60)).all()
    assert np.isfinite(similarity).all()


RESIDENT = """
import mmap, numpy as np, ann_backends
def resident():
    fields = open("/proc/self/statm").read().split()
    return int(fields[1]) * mmap.PAGESIZE
def create(memory_size):
    memory = np.zeros((1, memory_size, 32), np.float32)
    return ann_backends.create("kd_forest", memory, findable="none")
queries, slot = np.ones((1, 4, 32), np.float32), np.array([[77]])
index = create(64)
index.update(slot - 70), index.search(queries, 4), index.reset()
before = resident()
index = create(1048576)
created = resident() - before
for slot in range(0, 1048576, 65536):
    index.update(np.array([[slot]])), index.search(queries, 4)
print(created, resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_empty_index_of_a_million_words_is_not_resident() -> None:
    done = subprocess.run([sys.executable, "-c", RESIDENT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    created, used = map(int, done.stdout.split())
    assert created < 1 << 20
    assert used < 2 << 20


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def searching(index: KDForestIndex, queries: np.ndarray) -> float:
    """Seconds that it takes to find the 4 nearest of `queries`."""
    return seconds(partial(index.search, queries, 4))


def clustered(memory_size: int, rng: np.random.Generator) -> np.ndarray:
    """Rows [1, memory_size, 32] around 4000 centres."""
    centres = rng.standard_normal((4000, 32), dtype=np.float32)
    rows = centres[rng.integers(0, 4000, memory_size)]
    return (rows + 0.5 * rng.standard_normal(rows.shape, dtype=np.float32))[None]


def near_rows(memory: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    rows = memory[:, rng.integers(0, memory.shape[1], count)]
    return rows + 0.3 * rng.standard_normal(rows.shape, dtype=np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("rebuild_every", [None, 2**40])
def test_overwriting_every_row_thrice_wears_nothing_out(rebuild_every: int | None) -> None:
    """Search time and recall stay within 20 % of a fresh build's."""
    rng = np.random.default_rng(5)
    memory = clustered(65_536, rng)
    index = forest(memory, checks=128, rebuild_every=rebuild_every)
    for _ in range(3):
        words = clustered(65_536, rng)[0]
        for slots in np.array_split(rng.permutation(65_536), 65_536 // 20):
            memory[0, slots] = words[slots]
            index.update(slots[None])
    fresh = forest(memory, checks=128)
    queries = near_rows(memory, 800, rng)
    calls = [queries[:, h : h + 4] for h in range(0, 800, 4)]
    # Taken in turns, so that a busy moment of the machine meets both.
    pairs = [(searching(index, call), searching(fresh, call)) for call in calls * 5]
    worn_time, fresh_time = np.median(pairs, axis=0)
    worn_recall, fresh_recall = recall(index, queries), recall(fresh, queries)
    figures = (
        f"{worn_time * 1e6:.0f} us at recall {worn_recall:.3f}, "
        f"fresh {fresh_time * 1e6:.0f} us at {fresh_recall:.3f}"
    )
    print(figures)
    assert worn_time <= 1.2 * fresh_time, figures
    assert worn_recall >= 0.8 * fresh_recall, figures


@pytest.mark.slow
def test_a_million_rows_cost_microseconds() -> None:
    rng = np.random.default_rng(6)
    memory = clustered(1_048_576, rng)
    forest(memory[:, :64].copy()).search(memory[:, :4], 4)
    start = time.perf_counter()
    index = forest(memory)
    build = time.perf_counter() - start
    queries = near_rows(memory, 4000, rng)
    search = np.median([searching(index, queries[:, h : h + 4]) for h in range(0, 4000, 4)])
    updates = []
    for _ in range(1000):
        slots = rng.integers(0, 1_048_576, (1, 20))
        memory[0, slots[0]] += 0.1 * rng.standard_normal((20, 32), dtype=np.float32)
        updates.append(seconds(partial(index.update, slots)))
    update = np.median(updates) / 20
    figures = f"build {build:.1f} s, search {search * 1e6:.0f} us, row {update * 1e6:.1f} us"
    print(figures)
    assert build < 10, figures
    assert search < 75e-6, figures
    assert update < 10e-6, figures


@pytest.mark.slow
def test_elements_cost_alike() -> None:
    """A batch of 8 takes about 8 times one: no element pays for the others."""
    rng = np.random.default_rng(7)
    memory = np.concatenate([clustered(65_536, rng) for _ in range(8)])
    queries = np.concatenate([near_rows(memory[:1], 4, rng) for _ in range(8)])
    batch, alone = forest(memory, checks=128), forest(memory[:1].copy(), checks=128)
    pairs = [(searching(batch, queries), searching(alone, queries[:1])) for _ in range(500)]
    together, one = np.median(pairs, axis=0)
    assert together < 16 * one, f"{together * 1e6:.0f} us for 8, {one * 1e6:.0f} us for 1"
