"""The exact backend against a naive oracle, over random histories."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ann_backends

DTYPES = {"float32": 1e-5, "float64": 1e-12}


def oracle(
    memory: np.ndarray, findable: np.ndarray, query: np.ndarray, k: int, metric: str
) -> list[tuple[float, int]]:
    """(similarity, slot) of the k best, equal ones by slot, for memory [N, W] and query [W]."""
    found = []
    for slot in np.flatnonzero(findable):
        row = memory[slot].astype(float)
        q = query.astype(float)
        if metric == "l2":
            similarity = -sum((q - row) ** 2)
        else:
            similarity = sum(q * row) / (sum(q * q) + 1e-6) ** 0.5 / (sum(row * row) + 1e-6) ** 0.5
        found.append((similarity, int(slot)))
    return sorted(found, key=lambda pair: (-pair[0], pair[1]))[:k]


def compare(
    index: Any, memory: np.ndarray, findable: np.ndarray, queries: np.ndarray, k: int
) -> None:
    slots, similarity = index.search(queries, k)
    tolerance = DTYPES[str(memory.dtype)] * 100
    for b, h in np.ndindex(queries.shape[:2]):
        best = oracle(memory[b], findable[b], queries[b, h], k, index.metric)
        want = np.array([s for s, _ in best] + [-np.inf] * (k - len(best)))
        np.testing.assert_allclose(similarity[b, h], want, rtol=tolerance, atol=tolerance)
        got = slots[b, h, : len(best)]
        assert (slots[b, h, len(best) :] == -1).all()
        assert len(set(got.tolist())) == len(best)
        assert findable[b, got].all()
        # Equal similarities come lowest slot first.
        ties = np.diff(similarity[b, h, : len(best)]) == 0
        assert (np.diff(got)[ties] > 0).all()


words = st.sampled_from(["random", "duplicate", "zero"])
steps = st.lists(
    st.tuples(
        st.sampled_from(["update", "remove", "search", "reset", "rebuild"]),
        st.lists(st.integers(-1, 10), min_size=2, max_size=6),
        words,
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(
    steps=steps,
    metric=st.sampled_from(["cosine", "l2"]),
    dtype=st.sampled_from(list(DTYPES)),
    word_size=st.integers(1, 11),
    num_heads=st.integers(1, 6),
    k=st.integers(1, 11),
    start=st.sampled_from(["all", "none"]),
    rebuild_every=st.sampled_from([None, 1, 4]),
    seed=st.integers(0, 2**16),
)
def test_any_history_gives_the_oracles_answers(
    steps: list[tuple[str, list[int], str]],
    metric: str,
    dtype: str,
    word_size: int,
    num_heads: int,
    k: int,
    start: str,
    rebuild_every: int | None,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    memory = rng.standard_normal((2, 11, word_size)).astype(dtype)
    findable = np.full((2, 11), start == "all")
    index = ann_backends.create(
        "exact", memory, metric=metric, findable=start, rebuild_every=rebuild_every
    )
    for action, chosen, word in [*steps, ("search", [0, 0], "random")]:
        slots = np.array([chosen, chosen[::-1]])
        rows = [own[own >= 0] for own in slots]
        if action == "update":
            for b, own in enumerate(rows):
                memory[b, own] = {
                    "random": rng.standard_normal((own.size, word_size)),
                    "duplicate": memory[b, 0].copy(),
                    "zero": 0,
                }[word]
                findable[b, own] = True
            index.update(slots)
        elif action == "remove":
            for b, own in enumerate(rows):
                findable[b, own] = False
            index.remove(slots)
        elif action == "reset":
            findable[:] = False
            index.reset()
        elif action == "rebuild":
            index.rebuild()
        else:
            queries = rng.standard_normal((2, num_heads, word_size)).astype(dtype)
            compare(index, memory, findable, queries, k)
        assert index.stats()["findable"] == findable.sum(axis=1).tolist()


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("memory_size", [127, 128, 129, 1000])
def test_all_rows_come_in_order(memory_size: int, dtype: str, metric: str) -> None:
    rng = np.random.default_rng(memory_size)
    memory = rng.standard_normal((1, memory_size, 13)).astype(dtype)
    memory[0, 60:90] = memory[0, 7]
    queries = rng.standard_normal((1, 5, 13)).astype(dtype)
    index = ann_backends.create("exact", memory, metric=metric)
    compare(index, memory, np.ones((1, memory_size), bool), queries, memory_size)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_equal_rows_come_lowest_slot_first(dtype: str, metric: str) -> None:
    memory = np.random.default_rng(0).standard_normal((1, 300, 32)).astype(dtype)
    twins = [3, 50, 127, 128, 200, 299]
    memory[0, twins] = memory[0, 3]
    index = ann_backends.create("exact", memory, metric=metric)
    for _ in range(3):
        assert index.search(memory[:, 3:4], 4)[0].tolist() == [[twins[:4]]]
        index.update(np.array([[299, 50]]))
        index.rebuild()


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_similarity_is_the_public_one(dtype: str, metric: str) -> None:
    rng = np.random.default_rng(1)
    memory = rng.standard_normal((2, 50, 32)).astype(dtype)
    queries = rng.standard_normal((2, 3, 32)).astype(dtype)
    slots, found = ann_backends.create("exact", memory, metric=metric).search(queries, 50)
    expected = ann_backends.similarity(queries, memory, metric)
    expected = np.take_along_axis(expected, slots, axis=2)
    np.testing.assert_allclose(found, expected, rtol=DTYPES[dtype] * 10, atol=DTYPES[dtype])


def test_zero_words_are_similar_to_nothing() -> None:
    zeros, ones = np.zeros((1, 2, 4)), np.ones((1, 2, 4))
    assert (ann_backends.similarity(zeros, ones, "cosine") == 0).all()
    assert (ann_backends.create("exact", zeros).search(ones, 2)[1] == 0).all()


@pytest.mark.parametrize("length", [1e-30, 1e15, 1e30])
def test_cosine_survives_extreme_lengths(length: float) -> None:
    memory = np.random.default_rng(2).standard_normal((1, 20, 8)).astype(np.float32)
    queries = memory[:, :4] * np.float32(1e15)
    memory[0, 4:] *= np.float32(length)
    slots, similarity = ann_backends.create("exact", memory).search(queries, 20)
    assert (np.sort(slots) == np.arange(20)).all()
    assert np.isfinite(similarity).all()
    assert (slots[0, :, 0] == np.arange(4)).all() or length > 1


def test_unknown_metric_is_refused() -> None:
    with pytest.raises(ValueError, match="metric: got 'dot'"):
        ann_backends.similarity(np.ones((1, 2)), np.ones((1, 2)), "dot")
