"""Copies of indexes follow their own memory, and are the same index to the bit."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import ann_backends
from ann_backends import Exact, Index, KDForest, Settings
from tests.ann_backends.index_structure import structure_of
from tests.ann_backends.test_ann_log import SETTINGS, Owner
from tests.ann_backends.toy_backend.toy_ann_backend import Toy

ALL: dict[str, Settings] = {**SETTINGS, "toy": Toy()}


def by_pickle(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


def by_state(value: tuple[np.ndarray, Index]) -> tuple[np.ndarray, Index]:
    """The way through a file: the memory, and the index apart from it."""
    memory, index = value[0].copy(), value[1]
    state = index.state_dict()
    made = index.settings.build(memory, seed=index.seed, metric=index.metric, findable="none")
    made.load_state_dict(copy.deepcopy(state))
    return memory, made


def by_gathering(value: tuple[np.ndarray, Index]) -> tuple[np.ndarray, Index]:
    memory, index = value[0].copy(), value[1]
    sources = [(index, b) for b in range(index.batch_size)]
    made = ann_backends.gather(memory, sources, index)
    made._rebuilds = index._rebuilds
    return memory, made


WAYS: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    "pickle": by_pickle,
    "state_dict": by_state,
    "gather": by_gathering,
}


def stood(owner: Owner) -> Any:
    """Structure where it is comparable, and answers."""
    index = owner.index
    return structure_of(index) if index.settings.reversible else None, owner.answers()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["exact", "rebuilds", "sketch-rebuilds", "axes", "toy"])
def test_a_copy_lives_as_the_original_would(name: str, way: str) -> None:
    """Both see the same changes afterwards; neither sees the other's."""
    for findable in ("all", "none"):
        owner = Owner(ALL[name], (2, 90, 4), 3, "float32", findable=findable)
        for _ in range(15):
            owner.act()
        twin = copy.copy(owner)
        twin.memory, twin.index = WAYS[way]((owner.memory, owner.index))
        twin.rng = copy.deepcopy(owner.rng)
        assert twin.index.memory is twin.memory
        assert not np.shares_memory(twin.memory, owner.memory)
        before = stood(owner)
        assert stood(twin) == before
        for _ in range(15):
            twin.act()
        assert stood(owner) == before
        for _ in range(15):
            owner.act()
        assert stood(twin) == stood(owner)


@pytest.mark.parametrize("name", ["exact", "kd_forest", "lsh", "ivf"])
def test_a_copy_finds_what_is_written_to_its_memory(name: str) -> None:
    """Words written after the copy are found first, by it alone."""
    if ann_backends.available()[name] != "ready":
        pytest.skip(f"{name} is not installed")
    rng = np.random.default_rng(0)
    memory = rng.standard_normal((1, 2048, 16)).astype(np.float32)
    index = ann_backends.create(name, memory)
    for make in (copy.deepcopy, by_pickle):
        own, copied = make((memory, index))
        assert copied.memory is own
        for _ in range(20):
            slots = rng.permutation(2048)[None, :20]
            own[0, slots[0]] = rng.standard_normal((20, 16))
            copied.update(slots)
            found = copied.search(own[:, slots[0]].copy(), 1)[0][0, :, 0]
            assert (found == slots[0]).all()
        queries = memory[:, :50].copy()
        assert (index.search(queries, 1)[0][0, :, 0] == np.arange(50)).all()


def test_what_holds_memory_and_index_is_copied_as_a_whole() -> None:
    class Holder:
        def __init__(self) -> None:
            self.index: Index | None = None
            self.memory = np.random.default_rng(0).standard_normal((1, 32, 4))

    for order in ("memory", "index"):
        holder = Holder()
        if order == "index":  # copied first
            vars(holder)["memory"] = vars(holder).pop("memory")
        holder.index = Exact().build(holder.memory)
        copied = copy.deepcopy(holder)
        assert copied.index is not None
        assert copied.index.memory is copied.memory
        assert copied.index is not holder.index
    held = [holder.index, holder.index]
    for both in (copy.deepcopy(held), by_pickle(held)):
        assert both[0] is both[1]


def test_an_index_over_a_tensor_is_copied_with_it() -> None:
    words = torch.randn(1, 64, 8)
    index = KDForest().build(words)
    for own, copied in (copy.deepcopy((words, index)), by_pickle((words, index))):
        own[0, 5] = 7.0
        copied.update(np.array([[5]]))
        assert copied.search(np.full((1, 1, 8), 7.0, np.float32), 1)[0].tolist() == [[[5]]]
        assert not (words == 7.0).any()


VIEWS: dict[str, Callable[[Any], Any]] = {
    "reshaped": lambda words: words.reshape(1, 64, 8),
    "new axis": lambda words: words[None],
    "view of a view": lambda words: words.reshape(-1)[:].reshape(1, 64, 8),
    "bytes": lambda words: words.view(np.uint8).view(np.float32)[None],
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("first", ["words", "index"])
def test_an_index_over_a_view_of_all_is_copied_with_what_it_shows(view: str, first: str) -> None:
    words = np.random.default_rng(0).standard_normal((64, 8)).astype(np.float32)
    index = KDForest().build(VIEWS[view](words))
    held = (
        {"words": words, "index": index} if first == "words" else {"index": index, "words": words}
    )
    copied = copy.deepcopy(held)
    copied["words"][5] = 7.0
    copied["index"].update(np.array([[5]]))
    found = copied["index"].search(np.full((1, 1, 8), 7.0, np.float32), 1)[0]
    assert found.tolist() == [[[5]]]
    assert not (words == 7.0).any()


def test_an_index_over_views_of_tensors_is_copied_with_them() -> None:
    for show in (lambda t: t[None], lambda t: t.numpy()[None], lambda t: t.view(1, 64, 8)):
        words = torch.randn(64, 8)
        own, copied = copy.deepcopy((words, KDForest().build(show(words))))
        own[5] = 7.0
        copied.update(np.array([[5]]))
        assert copied.search(np.full((1, 1, 8), 7.0, np.float32), 1)[0].tolist() == [[[5]]]


def test_an_index_over_a_part_has_a_part_of_its_own() -> None:
    words = np.random.default_rng(0).standard_normal((3, 64, 8))
    index = KDForest().build(words[1:2])
    copied = copy.deepcopy(index)
    assert copied.memory.nbytes == index.memory.nbytes
    assert not np.shares_memory(copied.memory, words)


def test_an_index_over_a_result_of_autograd_is_copied_and_keeps_no_graph() -> None:
    weight = torch.randn(1, 64, 8, requires_grad=True)
    words = weight * 2
    index = KDForest().build(words)
    copied = copy.deepcopy(index)
    assert (copied.memory == index.memory).all()
    assert by_pickle(index).memory.shape == (1, 64, 8)
    assert copy.deepcopy(KDForest().build(weight)).memory.shape == (1, 64, 8)
    assert index._given.grad_fn is None


def test_a_shallow_copy_is_another_index_over_the_same_memory() -> None:
    memory = np.random.default_rng(0).standard_normal((1, 40, 4))
    index = KDForest().build(memory)
    other = copy.copy(index)
    assert other.memory is memory
    other.remove(np.arange(40)[None])
    assert index.stats()["findable"] == [40]
    assert other.stats()["findable"] == [0]


def test_what_was_assigned_is_copied() -> None:
    index = KDForest(checks=5).build(np.ones((1, 4, 2)))
    index.checks = 77
    for copied in (copy.copy(index), copy.deepcopy(index), by_pickle(index)):
        assert copied.checks == 77
    assert ann_backends.gather(np.ones((1, 4, 2)), [None], index).checks == 77


def test_a_copy_of_an_index_of_which_little_is_written_is_not_resident() -> None:
    """The pages of an empty index stay lazy in its copy."""
    memory = ann_backends.lazy_zeros((1, 1 << 20, 4), np.dtype(np.float32))
    index = KDForest().build(memory, findable="none")
    memory[0, 3] = 1
    index.update(np.array([[3]]))
    before = resident()
    made = ann_backends.gather(memory, [(index, 0)], index)
    assert resident() - before < 2 << 20
    assert made.search(np.ones((1, 1, 4), np.float32), 2)[0].tolist() == [[[3, -1]]]


def resident() -> int:
    with open("/proc/self/statm") as fields:
        return int(fields.read().split()[1]) * 4096


# Gathering elements.


@pytest.mark.parametrize("name", ["exact", "forest", "rebuilds", "sketch-rebuilds", "axes", "toy"])
def test_gathered_elements_live_on_as_they_would(name: str) -> None:
    """Picked, repeated, reordered, from two indexes, and beside empty ones."""
    owners = [Owner(ALL[name], (3, 80, 4), seed, "float64", findable="none") for seed in (0, 0)]
    owners[1].rng = np.random.default_rng(9)
    for owner in owners:
        for _ in range(20):
            owner.act()
    picks = [(1, 2), None, (0, 0), (1, 2), (0, 1)]
    memory = np.zeros((5, 80, 4))
    for b, pick in enumerate(picks):
        if pick is not None:
            memory[b] = owners[pick[0]].memory[pick[1]]
    sources = [None if pick is None else (owners[pick[0]].index, pick[1]) for pick in picks]
    made = ann_backends.gather(memory, sources, owners[0].index)
    rng = np.random.default_rng(1)
    for _ in range(12):
        queries = rng.standard_normal((1, 4, 4))
        found = made.search(np.tile(queries, (5, 1, 1)), 7)
        for b, pick in enumerate(picks):
            if pick is None:
                assert (found[0][b] == -1).all()
                continue
            own = owners[pick[0]].index.search(np.tile(queries, (3, 1, 1)), 7)
            assert own[0][pick[1]].tobytes() == found[0][b].tobytes()
            assert own[1][pick[1]].tobytes() == found[1][b].tobytes()
        # The same writes everywhere but in the empty element.
        slots, words = rng.integers(0, 80, 30), rng.standard_normal((30, 4))
        for index in (owners[0].index, owners[1].index, made):
            index.memory[:, slots] = words
            given = np.tile(slots, (index.batch_size, 1))
            if index is made:
                index.memory[1] = 0
                given[1] = -1
            index.update(given)


def test_what_cannot_be_gathered_is_refused() -> None:
    memory = np.random.default_rng(0).standard_normal((2, 9, 3))
    like = KDForest().build(memory)
    other = {
        "settings": KDForest(trees=2).build(memory),
        "seed": KDForest().build(memory, seed=1),
        "metric": KDForest().build(memory, metric="l2"),
        "dtype": KDForest().build(memory.astype(np.float32)),
        "memory": KDForest().build(memory[:, :8].copy()),
    }
    for name, index in other.items():
        with pytest.raises(ValueError, match=f"sources: got an index with {name}"):
            ann_backends.gather(memory, [(like, 0), (index, 0)], like)
    with pytest.raises(ValueError, match="sources: got 2, expected an integer from 0 to 1"):
        ann_backends.gather(memory, [(like, 0), (like, 2)], like)
    with pytest.raises(ValueError, match=r"memory: got float64 \[2, 9, 3\], expected .* 1 sources"):
        ann_backends.gather(memory, [None], like)
    for bad in (like, (like,), (memory, 0), 3):
        with pytest.raises(TypeError, match=r"sources: got .* expected \(index, element\) or None"):
            ann_backends.gather(memory, [None, bad], like)
    with pytest.raises(TypeError, match="like: got KDForest, expected an index"):
        ann_backends.gather(memory, [None, None], KDForest())


# States, from a file that may hold anything.


def test_a_state_of_another_index_is_refused_and_changes_nothing() -> None:
    memory = np.random.default_rng(0).standard_normal((2, 30, 3))
    index = KDForest(leaf_size=2, trees=2).build(memory, seed=4)
    state = index.state_dict()
    before = structure_of(index)
    others = [
        KDForest(leaf_size=2, trees=2).build(memory, seed=5),
        KDForest(leaf_size=3, trees=2).build(memory, seed=4),
        KDForest(leaf_size=2, trees=1).build(memory, seed=4),
        KDForest(leaf_size=2, trees=2).build(memory, seed=4, metric="l2"),
        KDForest(leaf_size=2, trees=2).build(memory[:1].copy(), seed=4),
        KDForest(leaf_size=2, trees=2).build(memory.astype(np.float32), seed=4),
        Exact().build(memory, seed=4),
    ]
    for other in others:
        held = other.state_dict()
        with pytest.raises(ValueError, match="state"):
            other.load_state_dict(state)
        assert all((held["structure"][n] == a).all() for n, a in other._structure().items())
        with pytest.raises(ValueError, match="state"):
            index.load_state_dict(held)
        assert structure_of(index) == before
    for bad in ({}, {**state, "structure": None}, {**state, "insertions": np.zeros(3, np.int64)}):
        with pytest.raises(ValueError, match="state"):
            index.load_state_dict(bad)
    with pytest.raises((TypeError, ValueError), match="state"):
        index.load_state_dict({**state, "rebuilds": "1"})
    assert structure_of(index) == before


@pytest.mark.parametrize("name", ["forest", "one-tree", "sketch", "axes", "exact"])
def test_a_damaged_state_is_refused_or_harmless(name: str) -> None:
    """Numbers changed at random: a clear error, or an index that every call comes back from."""
    rng = np.random.default_rng(0)
    owner = Owner(ALL[name], (1, 50, 3), 0, "float32", findable="none")
    for _ in range(10):
        owner.act()
    state, refused = owner.index.state_dict(), 0
    for _ in range(150):
        damaged = copy.deepcopy(state)
        arrays = [a for a in damaged["structure"].values() if a.size]
        array = arrays[rng.integers(len(arrays))]
        flat = array.reshape(-1)
        value = np.int64(rng.choice([0, 1, 2, 3, 7, 50, 77, 100, 10**9, -1, -3]))
        flat[rng.integers(flat.size)] = value.astype(flat.dtype)
        memory = owner.memory.copy()
        made = ALL[name].build(memory, findable="none")
        try:
            made.load_state_dict(damaged)
        except ValueError as error:
            refused += str(error).startswith("state: got ")
            continue
        later = copy.copy(owner)
        later.memory, later.index = memory, made
        for _ in range(4):
            later.act()
            later.answers()
    assert refused > 0


def test_rows_that_are_not_finite_are_refused_with_their_state() -> None:
    for name in ("exact", "forest", "toy"):
        memory = np.ones((1, 6, 2))
        state = ALL[name].build(memory).state_dict()
        bad = memory.copy()
        bad[0, 3, 1] = np.nan
        with pytest.raises(ValueError, match="state: got NaN or infinite values"):
            ALL[name].build(bad, findable="none").load_state_dict(state)


def test_a_state_may_hold_tensors() -> None:
    memory = np.random.default_rng(0).standard_normal((2, 30, 3))
    for name in ("exact", "sketch", "toy"):
        index = ALL[name].build(memory)
        state = index.state_dict()
        state["insertions"] = torch.from_numpy(state["insertions"])
        state["structure"] = {n: torch.from_numpy(a) for n, a in state["structure"].items()}
        made = ALL[name].build(memory.copy(), findable="none")
        made.load_state_dict(state)
        assert made.stats()["findable"] == [30, 30]
