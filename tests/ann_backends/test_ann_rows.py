"""Rows and queries that no similarity can be computed from are refused; all others are ranked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import ann_backends
from ann_backends import checks

# Few rows: every backend looks at all of them, so that the nearest is found.
BACKENDS: list[tuple[str, dict[str, Any]]] = [
    ("exact", {}),
    ("kd_forest", {"checks": 500}),
    ("kd_forest", {"checks": 500, "sketch": True}),
    ("lsh", {"probes": 64}),
    ("lsh", {"tables": 1, "probes": 64, "sketch": True}),
    ("hnsw", {"exact_below": 8, "ef": 500}),
    ("ivf", {"exact_below": 8, "probes": 500}),
]
NAMES = [name + "-sketch" * ("sketch" in settings) for name, settings in BACKENDS]
LONG = {
    ("cosine", "float32"): 1.1e37,
    ("l2", "float32"): 1.1e18,
    ("cosine", "float64"): 1.1e150,
    ("l2", "float64"): 1.1e150,
}


def built(backend: tuple[str, dict[str, Any]], memory: np.ndarray, metric: str) -> Any:
    """Its index; the test is skipped where the backend is not installed or lacks the metric."""
    name, settings = backend
    if ann_backends.available()[name] != "ready":
        pytest.skip(f"{name} is not installed")
    if metric == "l2" and (name == "lsh" or "sketch" in settings):
        pytest.skip(f"{name} is for cosine only")
    return ann_backends.create(name, memory, metric=metric, **settings)


def exactly(query: np.ndarray, words: np.ndarray, metric: str) -> np.ndarray:
    """Similarity of one query [W] to words [N, W] in extended precision: nothing overflows."""
    q, m = query.astype(np.longdouble), words.astype(np.longdouble)
    if metric == "l2":
        return -((m - q) ** 2).sum(1)
    return (m @ q) / np.sqrt((q @ q + 1e-6) * ((m * m).sum(1) + 1e-6))


def random(dtype: str, *shape: int) -> np.ndarray:
    rows = np.random.default_rng(0).standard_normal(shape)
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("backend", BACKENDS, ids=NAMES)
def test_a_row_that_cannot_be_ranked_is_refused_and_nothing_is_indexed(
    backend: tuple[str, dict[str, Any]], metric: str, dtype: str
) -> None:
    memory = random(dtype, 2, 200, 8)
    index = built(backend, memory, metric)
    queries = random(dtype, 2, 16, 8)[..., ::-1].copy()
    before, stats = index.search(queries, 4), index.stats()
    slots = np.array([[3, 150, -1, 7], [9, 8, 7, 6]])
    long = [LONG[metric, dtype], -LONG[metric, dtype], np.finfo(dtype).max]
    for bad in (np.nan, np.inf, -np.inf, *long):
        for element, slot, place in [(0, 7, 0), (1, 9, 7)]:
            held = memory[element, slot].copy()
            memory[element, slot, place] = bad
            with pytest.raises(ValueError, match=rf"in row {slot} of element {element}, expected"):
                index.update(slots)
            memory[element, slot] = held
            assert index.stats() == stats
    after = index.search(queries, 4)
    assert np.array_equal(before[0], after[0])
    assert np.array_equal(before[1], after[1])


@pytest.mark.parametrize(
    ("dtype", "length"),
    [
        ("float32", 1e-44),
        ("float32", 1e-30),
        ("float32", 9e17),
        ("float32", 1e30),
        ("float32", 9e36),
        ("float64", 1e-320),
        ("float64", 1e-200),
        ("float64", 1e40),
        ("float64", 1e100),
        ("float64", 9e149),
    ],
)
@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("backend", BACKENDS, ids=NAMES)
def test_rows_of_any_length_are_ranked_as_in_extended_precision(
    backend: tuple[str, dict[str, Any]], metric: str, dtype: str, length: float
) -> None:
    if length >= LONG[metric, dtype]:
        pytest.skip("refused")
    memory = random(dtype, 1, 300, 8)
    memory[0, ::10] *= length
    index = built(backend, memory, metric)
    queries = random(dtype, 1, 40, 8)[..., ::-1].copy()
    if metric == "l2" and length > 1:
        queries[0, ::2] = memory[0, :200:10]
    slots, similarity = index.search(queries, 1)
    tiny, rounding = np.finfo(dtype).tiny, 64 * np.finfo(dtype).eps
    for query, slot, got in zip(queries[0], slots[0, :, 0], similarity[0, :, 0], strict=True):
        right = exactly(query, memory[0], metric)
        assert right[slot] >= right.max() - rounding * abs(right.max()) - tiny
        assert abs(got - right[slot]) <= rounding * (abs(right[slot]) + (metric == "cosine")) + tiny


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_a_memory_and_queries_that_are_too_long_are_refused(metric: str, dtype: str) -> None:
    memory = random(dtype, 2, 20, 8)
    index = ann_backends.create("exact", memory, metric=metric)
    queries = random(dtype, 2, 3, 8)
    queries[1, 2] *= LONG[metric, dtype]
    with pytest.raises(ValueError, match=r"queries: got a norm of 1\.1e\+\d+, expected finite"):
        index.search(queries, 1)
    memory[1, 5] *= LONG[metric, dtype]
    with pytest.raises(ValueError, match=r"memory: got a norm of 1\.1e\+\d+ in row 5 of element 1"):
        ann_backends.create("exact", memory, metric=metric)
    ann_backends.create("exact", memory, metric=metric, findable="none")


def test_a_bad_row_may_be_removed_and_is_not_read_where_it_is_not_announced() -> None:
    memory = random("float32", 1, 64, 8)
    for name in ("exact", "kd_forest", "lsh"):
        index = ann_backends.create(name, memory, findable="none")
        index.update(np.arange(40)[None])
        memory[0, 39:] = np.nan
        index.remove(np.array([[39, 63]]))
        index.update(np.array([[-1, 5]]))
        index.rebuild()
        slots, similarity = index.search(memory[:, :8], 39)
        assert set(slots[0, 0].tolist()) == set(range(39))
        assert np.isfinite(similarity).all()
        memory[:] = random("float32", 1, 64, 8)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("length", [0.0, 1e-40, 1e-20, 1e18, 1e37])
def test_the_similarity_in_numpy_takes_any_finite_numbers(dtype: str, length: float) -> None:
    words = random(dtype, 20, 8)
    words[::2] *= length
    queries = np.concatenate([random(dtype, 2, 8), words[:2]])
    got = ann_backends.similarity(queries, words)
    right = np.array([exactly(query, words, "cosine") for query in queries], float)
    assert got == pytest.approx(right, rel=1e-5, abs=1e-6)
    assert got.dtype == dtype


def test_the_similarity_in_numpy_of_the_largest_numbers() -> None:
    for dtype in ("float32", "float64"):
        words = np.full((1, 4), np.finfo(dtype).max, dtype)
        assert ann_backends.similarity(words, words)[0, 0] == pytest.approx(1)
        assert ann_backends.similarity(words, -words, "l2")[0, 0] == -np.inf


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_check_names_the_first_bad_row_and_reads_no_padding(dtype: str) -> None:
    memory = np.full((2, 50, 33), np.nan, dtype)
    memory[:, 10:20] = 1
    slots = np.array([[10, -1, 11, 19], [12, 12, -1, -1]])
    assert checks.announced(slots, memory, 1e9) is not None
    with pytest.raises(ValueError, match="in row 20 of element 1"):
        checks.announced(slots + 8 * (slots == 12), memory, 1e9)
    with pytest.raises(ValueError, match="slots: got values from 10 to 50"):
        checks.announced(np.array([[10], [50]]), memory, 1e9)
    with pytest.raises(ValueError, match=r"a norm of 5\.74 in row 10 of element 0"):
        checks.announced(slots, memory, 5.7)
    assert checks.announced(slots, memory, 5.75) is not None
