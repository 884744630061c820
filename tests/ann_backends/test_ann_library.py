"""What the indexes on libraries share: the kernels that rank, and packages that may be missing."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ann_backends
from ann_backends import ranking
from ann_backends.testing.trial import similarity_of

CLASSES = {
    "NNDescent": ("nn_descent", "pynndescent", "pynndescent"),
    "HNSW": ("hnsw", "hnswlib", "hnswlib"),
    "IVF": ("ivf", "faiss", "faiss-cpu"),
}


@pytest.mark.parametrize(("class_name", "names"), CLASSES.items())
def test_a_missing_package_is_named_with_what_installs_it(
    class_name: str, names: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, module, package = names
    monkeypatch.delitem(sys.modules, f"ann_backends.{backend}", raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=f"pip install {package}$"):
        ann_backends.create(backend, np.ones((1, 4, 3)))
    with pytest.raises(ImportError, match=f"pip install {package}$"):
        getattr(ann_backends, class_name)


@pytest.mark.parametrize(("class_name", "names"), CLASSES.items())
def test_settings_are_offered_by_the_package(class_name: str, names: tuple[str, str, str]) -> None:
    backend, module, _ = names
    pytest.importorskip(module)
    assert getattr(ann_backends, class_name).name == backend


def test_other_names_are_missing_as_ever() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Annoy'"):
        ann_backends.Annoy  # noqa: B018


steps = st.lists(
    st.tuples(st.booleans(), st.lists(st.integers(-1, 11), max_size=14)), min_size=1, max_size=10
)


@settings(max_examples=100, deadline=None)
@given(steps=steps)
def test_members_are_numbered_without_gaps(steps: list[tuple[bool, list[int]]]) -> None:
    members = ranking.Members(np.zeros(12, np.int32), np.zeros(12, np.int32), np.zeros(1, np.int64))
    expected: set[int] = set()
    for adding, given_slots in steps:
        slots = np.array(given_slots, np.int64)
        named = {slot for slot in given_slots if slot >= 0}
        before = members.slots[: members.size[0]].tolist()
        if adding:
            assert ranking.add(*members, slots).tolist() == sorted(named)
            expected |= named
        else:
            dropped, changed = ranking.drop(*members, slots)
            assert dropped.tolist() == sorted(named & expected)
            expected -= named
            now = members.slots[: members.size[0]].tolist()
            moved = [place for place, slot in enumerate(now) if before[place] != slot]
            assert set(moved) <= set(changed.tolist()) <= set(range(len(now)))
        held = members.slots[: members.size[0]]
        assert sorted(held) == sorted(expected)
        places = np.zeros(12, int)
        places[held] = np.arange(1, held.size + 1)
        assert (members.places == places).all()


@settings(max_examples=100, deadline=None)
@given(calls=st.lists(st.lists(st.integers(-1, 9), max_size=8), max_size=12))
def test_the_slots_written_last_are_remembered_in_their_order(calls: list[list[int]]) -> None:
    recent, number = np.zeros(4, np.int32), np.zeros(1, np.int64)
    expected: list[int] = []
    for slots in calls:
        gone = set()
        for slot in slots:
            if slot >= 0:
                expected = [other for other in expected if other != slot] + [slot]
                gone |= set(expected[:-4])
                expected = expected[-4:]
        got = ranking.remember(recent, number, np.array(slots, np.int64))
        assert got.tolist() == sorted(gone)
        assert recent[: number[0]].tolist() == expected


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("k", [1, 4, 30, 50])
def test_ranking_is_true_whatever_was_proposed(metric: str, dtype: str, k: int) -> None:
    """Candidates repeat, are stale or missing: what comes is the best of the members among them."""
    rng = np.random.default_rng(k)
    words = rng.standard_normal((300, 7)).astype(dtype)
    members = ranking.Members(
        np.zeros(300, np.int32), np.zeros(300, np.int32), np.zeros(1, np.int64)
    )
    ranking.add(*members, rng.permutation(300)[:200])
    queries = rng.standard_normal((3, 7)).astype(dtype)
    for proposed in (0, 2, 60, 400):
        candidates = rng.integers(-1, 300, (3, proposed))
        fresh = rng.integers(0, 300, proposed // 2).astype(np.int32)
        slots, similarity = np.empty((3, k), np.int64), np.empty((3, k), dtype)
        scans = ranking.rank(
            words, *members, queries, metric == "cosine", candidates, fresh, slots, similarity
        )
        expected_scans = 0
        for h in range(3):
            among = {s for s in [*candidates[h], *fresh] if s >= 0 and members.places[s] > 0}
            if len(among) < k:
                expected_scans += 1
                among = set(np.flatnonzero(members.places))
            rows = np.array(sorted(among))
            true = similarity_of(queries[h], words[rows], metric)
            order = np.argsort(-true)[:k]
            assert slots[h].tolist() == rows[order].tolist()
            np.testing.assert_allclose(similarity[h], true[order], rtol=1e-4, atol=1e-5)
        assert scans == expected_scans


def test_points_are_finite_in_float32_and_keep_their_direction() -> None:
    words = np.array([[3.0, 4.0], [0.0, 0.0], [3e200, -4e200], [3e-3, 4e-3]])
    rows = np.arange(4)
    cosine = ranking.points(words[[0, 1, 3]], np.arange(3), True)
    short = 5e-3 / np.sqrt(25e-6 + ann_backends.NORM_EPSILON)
    expected = np.array([[0.6, 0.8], [0, 0], [0.6 * short, 0.8 * short]])
    np.testing.assert_allclose(cosine, expected, rtol=1e-5, atol=1e-7)
    l2 = ranking.points(words, rows, False)
    assert l2.dtype == np.float32
    np.testing.assert_allclose(l2[[0, 3]], words[[0, 3]], rtol=1e-6)
    apart = l2[2] - -l2[2]
    assert np.isfinite((apart * apart).sum())


@pytest.mark.parametrize("backend", ["hnsw", "ivf"])
def test_no_library_object_stands_before_there_are_rows_for_it(backend: str) -> None:
    pytest.importorskip(CLASSES[{"hnsw": "HNSW", "ivf": "IVF"}[backend]][1])
    memory = np.full((2, 4096, 8), np.nan)
    index = ann_backends.create(backend, memory, findable="none", exact_below=100)
    for first in range(0, 160, 20):
        memory[0, first : first + 20] = np.random.default_rng(first).standard_normal((20, 8))
        slots = np.stack([np.arange(first, first + 20), np.full(20, -1)])
        index.update(slots)
        has_object = [structure is not None for structure in index._structures]
        assert has_object == [first + 20 >= 100, False]
    index.reset()
    assert index._structures == [None, None]


@pytest.mark.parametrize("backend", ["hnsw", "ivf"])
def test_what_the_library_does_not_find_is_found_by_a_scan_and_counted(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(CLASSES[{"hnsw": "HNSW", "ivf": "IVF"}[backend]][1])
    memory = np.random.default_rng(0).standard_normal((1, 700, 8))
    index = ann_backends.create(backend, memory)
    index.search(memory[:, :4], 4)
    assert index.scans == 0
    structure = index._structures[0]
    nothing = np.full((4, 8), -1)
    monkeypatch.setattr(structure, "search", lambda points, number: nothing)
    slots, _ = index.search(memory[:, :4], 4)
    assert index.scans == 4
    exact = ann_backends.create("exact", memory)
    assert (slots == exact.search(memory[:, :4], 4)[0]).all()
