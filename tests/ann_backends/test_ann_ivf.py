"""The ivf backend: what faiss holds is what was announced, and its settings do what they say."""

from __future__ import annotations

import numpy as np
import pytest

import ann_backends
from ann_backends.testing.trial import similarity_of

faiss = pytest.importorskip("faiss", reason="not installed: pip install faiss-cpu")
from ann_backends.ivf import IVF, RECENT, IVFIndex  # noqa: E402


def built(memory: np.ndarray, metric: str = "cosine", **chosen: object) -> IVFIndex:
    return IVF(**chosen).build(memory, metric=metric)  # type: ignore[arg-type]


def check_file(index: IVFIndex, announced: np.ndarray, findable: np.ndarray) -> None:
    """Each findable row stands in the file once, as announced [N, W], at its place."""
    structure, members = index._structures[0], index._parts[0].members
    count = int(members.size[0])
    assert sorted(members.slots[:count]) == np.flatnonzero(findable).tolist()
    assert structure.file.ntotal == structure.size >= count
    held = structure.file.reconstruct_batch(np.arange(count))
    rows = announced[members.slots[:count]]
    if index.metric == "cosine":
        rows = rows / np.sqrt((rows**2).sum(axis=1, keepdims=True) + ann_backends.NORM_EPSILON)
    np.testing.assert_allclose(held, rows, atol=1e-5)
    lists = structure.file.invlists
    ids = [faiss.rev_swig_ptr(lists.get_ids(n), lists.list_size(n)) for n in range(lists.nlist)]
    assert sorted(np.concatenate(ids)) == list(range(structure.size))


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_the_file_holds_what_was_announced(metric: str) -> None:
    rng = np.random.default_rng(0)
    memory = rng.standard_normal((1, 120, 6))
    index = built(memory, metric, exact_below=8, lists=7)
    findable = np.ones(120, bool)
    announced = memory[0].copy()
    check_file(index, announced, findable)
    for turn in range(60):
        slots = rng.integers(-1, 120, (1, 14))
        own = slots[slots >= 0]
        if turn % 3 == 2:
            index.remove(slots)
            findable[own] = False
        else:
            memory[0, own] = rng.standard_normal((own.size, 6))
            announced[own], findable[own] = memory[0, own], True
            index.update(slots)
        check_file(index, announced, findable)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_probing_every_list_finds_everything(metric: str, dtype: str) -> None:
    rng = np.random.default_rng(1)
    memory = rng.standard_normal((2, 900, 12)).astype(dtype)
    index = built(memory, metric, probes=30)
    exact = ann_backends.create("exact", memory, metric=metric)
    for _ in range(5):
        slots = rng.integers(0, 900, (2, 200))
        for b in range(2):
            memory[b, slots[b]] = rng.standard_normal((200, 12))
        index.update(slots)
        exact.update(slots)
        queries = rng.standard_normal((2, 6, 12)).astype(dtype)
        assert (index.search(queries, 5)[0] == exact.search(queries, 5)[0]).all()
    assert index.scans == 0


def test_probes_may_be_assigned_and_outlast_a_rebuild() -> None:
    rng = np.random.default_rng(2)
    memory = rng.standard_normal((1, 4000, 16))
    queries = rng.standard_normal((1, 50, 16))
    index, exact = built(memory, probes=1), ann_backends.create("exact", memory)
    least = exact.search(queries, 4)[1][..., -1:]
    recalls = []
    for probes in (1, 4, 16, 63):
        index.probes = probes
        recalls.append(float((index.search(queries, 4)[1] >= least - 1e-9).mean()))
        index.rebuild()
        recalls.append(float((index.search(queries, 4)[1] >= least - 1e-9).mean()))
    before, after = recalls[::2], recalls[1::2]
    assert before == after, "built from the same rows with the same seed"
    assert before == sorted(set(before))
    assert before[0] < 0.5
    assert before[-1] == 1
    index.reset()
    assert index.probes == 63
    for bad in (0, 1.5, "4"):
        with pytest.raises((TypeError, ValueError), match="probes: got"):
            index.probes = bad  # type: ignore[assignment]
    assert index.probes == 63


def test_dead_entries_do_not_pile_up() -> None:
    memory = np.random.default_rng(3).standard_normal((1, 2000, 8))
    index = built(memory)
    for first in range(0, 1900, 20):
        index.remove(np.arange(first, first + 20)[None])
        structure, findable = index._structures[0], 1980 - first
        if structure is not None:
            assert structure.size <= max(findable * 4 / 3 + 1, findable + RECENT)
    assert index.stats()["rebuilds"] > 2


def test_rows_that_float32_cannot_tell_apart_are_found_when_fresh() -> None:
    rng = np.random.default_rng(4)
    memory = np.tile(rng.standard_normal(8), (1, 3000, 1))
    memory += 1e-10 * rng.standard_normal(memory.shape)
    index = built(memory, "l2", probes=1)
    slots = rng.permutation(3000)[None, :RECENT]
    memory[0, slots[0]] += 1e-10 * rng.standard_normal((RECENT, 8))
    index.update(slots)
    first = index.search(memory[:, slots[0]], 1)[0]
    assert (first[..., 0] == slots).all()


def test_a_zero_row_among_others_does_not_lead_a_search_astray() -> None:
    """By their Euclidean distance zeros would come before most rows."""
    rng = np.random.default_rng(5)
    memory = rng.standard_normal((1, 1200, 8))
    memory[:, ::2] = 0
    index = built(memory, probes=40)
    query = rng.standard_normal((1, 1, 8))
    slots = index.search(query, 20)[0][0, 0]
    true = similarity_of(query[0, 0], memory[0], "cosine")
    assert slots.tolist() == np.argsort(-true, kind="stable")[:20].tolist()
