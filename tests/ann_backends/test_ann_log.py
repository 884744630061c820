"""An index carried across its logs: the same structure and the same answers, to the bit."""

from __future__ import annotations

import copy
import pickle
import weakref
from typing import Any

import numpy as np
import pytest

import ann_backends
from ann_backends import KDForest, Settings
from tests.ann_backends.index_structure import structure_of
from tests.ann_backends.toy_backend.toy_ann_backend import Toy

EXACT = ann_backends.Exact
SETTINGS: dict[str, Settings] = {
    "exact": EXACT(),
    "exact-rebuilds": EXACT(rebuild_every=60),
    "forest": KDForest(),
    "one-tree": KDForest(trees=1, leaf_size=1, checks=3),
    "rebuilds": KDForest(leaf_size=3, trees=3, rebuild_every=50),
    "large-leaves": KDForest(trees=2, leaf_size=70),
    "sketch": KDForest(sketch=True, leaf_size=5, trees=2),
    "sketch-rebuilds": KDForest(sketch=True, leaf_size=20, trees=2, rebuild_every=70),
    "axes": KDForest(principal_axes=True, leaf_size=4, rebuild_every=90),
}


class Owner:
    """A memory [B, N, W] and its index, to which things happen at random."""

    def __init__(
        self, settings: Settings, shape: tuple[int, int, int], seed: int, dtype: str, **how: Any
    ) -> None:
        self.rng = np.random.default_rng(seed)
        self.memory = self.words(shape).astype(dtype)
        self.index = settings.build(self.memory, seed=seed, **how)

    def words(self, shape: tuple[int, ...]) -> np.ndarray:
        """Few distinct ones at times, so that rows are alike."""
        words = self.rng.standard_normal(shape)
        return np.round(words) if self.rng.random() < 0.3 else words

    def act(self) -> None:
        """One random change."""
        kind = self.rng.choice(8, p=[0.3, 0.2, 0.15, 0.2, 0.1, 0.03, 0.01, 0.01])
        batch_size, memory_size, word_size = self.memory.shape
        slots = self.rng.integers(0, memory_size, (batch_size, self.rng.integers(0, 40)))
        slots[self.rng.random(slots.shape) < 0.15] = -1
        if kind < 3:
            words = self.words((*slots.shape, word_size))
            if kind == 2 and words.size:
                words[:] = words[:1, :1]
            for b, own in enumerate(slots):
                self.memory[b, own[own >= 0]] = words[b, own >= 0]
            self.index.update(slots)
        elif kind == 3:
            self.index.remove(slots)
        elif kind == 4:
            self.index.update(np.where(self.rng.random(slots.shape) < 0.5, slots, -1))
        elif kind == 5:
            self.index.rebuild()
        elif kind == 6:
            self.index.reset()
        else:
            self.index.remove(np.tile(np.arange(memory_size), (batch_size, 1)))

    def answers(self) -> list[bytes]:
        """What it finds for some words, always the same."""
        rng = np.random.default_rng(5)
        batch_size, memory_size, word_size = self.memory.shape
        found = []
        for k in {1, min(4, memory_size), memory_size}:
            queries = rng.standard_normal((batch_size, 3, word_size)).astype(self.memory.dtype)
            found += [part.tobytes() for part in self.index.search(queries, k)]
        return found

    def stand(self, rows: np.ndarray, log: ann_backends.Log, forward: bool) -> None:
        """Carry rows and index across a log."""
        self.memory[:] = rows
        self.index.carry(log, forward=forward)

    def passed(self, changes: int) -> tuple[np.ndarray, ann_backends.Log]:
        """Some changes: the rows before them, and their log."""
        rows = self.memory.copy()
        log = self.index.start_log()
        for _ in range(changes):
            self.act()
        self.index.stop_log()
        return rows, log

    def all(self) -> tuple[dict[str, Any], list[bytes]]:
        return structure_of(self.index), self.answers()


def metrics(settings: Settings) -> list[str]:
    return ["cosine"] if getattr(settings, "sketch", False) else ["cosine", "l2"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SETTINGS)
def test_logs_are_taken_back_and_made_again_to_the_bit(name: str, dtype: str) -> None:
    settings = SETTINGS[name]
    for metric in metrics(settings):
        for number, (shape, findable) in enumerate(
            [((2, 150, 5), "all"), ((1, 60, 3), "none"), ((3, 7, 2), "all")]
        ):
            owner = Owner(settings, shape, number, dtype, metric=metric, findable=findable)
            states, rows, logs = [owner.all()], [], []
            for _ in range(5):
                before, log = owner.passed(int(owner.rng.integers(0, 25)))
                rows.append(before)
                logs.append(log)
                states.append(owner.all())
            rows.append(owner.memory.copy())
            where = 5
            for goal in (2, 5, 0, 1, 0, 4, 3, 5, 0, 5):
                while where > goal:
                    where -= 1
                    owner.stand(rows[where], logs[where], forward=False)
                    assert owner.all() == states[where]
                while where < goal:
                    where += 1
                    owner.stand(rows[where], logs[where - 1], forward=True)
                    assert owner.all() == states[where]


@pytest.mark.parametrize("name", ["exact", "rebuilds", "sketch-rebuilds"])
def test_what_comes_after_a_way_back_is_as_without_it(name: str) -> None:
    """An index taken back lives on as its copy from then does, of which nothing was taken back."""
    owner = Owner(SETTINGS[name], (2, 120, 4), 1, "float32")
    for _ in range(4):
        owner.passed(10)
    copied = copy.copy(owner)
    copied.memory, copied.index = copy.deepcopy((owner.memory, owner.index))
    logs = [owner.passed(12) for _ in range(3)]
    for rows, log in reversed(logs):
        owner.stand(rows, log, forward=False)
    copied.rng = copy.deepcopy(owner.rng)
    for one in (owner, copied):
        one.passed(25)
    assert owner.all() == copied.all()


def test_a_plug_in_finds_what_was_findable() -> None:
    """A backend without hooks of its own: the same rows are findable, as they are now."""
    for seed in range(4):
        owner = Owner(Toy(), (2, 40, 3), seed, "float64", findable=["all", "none"][seed % 2])
        states, rows, logs = [owner.answers()], [], []
        for _ in range(4):
            before, log = owner.passed(int(owner.rng.integers(0, 12)))
            rows.append(before)
            logs.append(log)
            states.append(owner.answers())
        rows.append(owner.memory.copy())
        for where in (3, 2, 1, 0):
            owner.stand(rows[where], logs[where], forward=False)
            assert owner.answers() == states[where]
        for where in range(4):
            owner.stand(rows[where + 1], logs[where], forward=True)
            assert owner.answers() == states[where + 1]


def test_a_log_is_carried_by_its_index_alone_and_to_its_other_side() -> None:
    memory = np.random.default_rng(0).standard_normal((1, 20, 3))
    for settings in (EXACT(), KDForest(), Toy()):
        index, other = settings.build(memory.copy()), settings.build(memory.copy())
        with pytest.raises(RuntimeError, match="no log open"):
            index.stop_log()
        log = index.start_log()
        with pytest.raises(RuntimeError, match="log is open"):
            index.start_log()
        index.remove(np.array([[3]]))
        with pytest.raises(RuntimeError, match="log is open"):
            index.carry(log, forward=False)
        with pytest.raises(RuntimeError, match="log is open"):
            index.load_state_dict(other.state_dict())
        index.stop_log()
        with pytest.raises(ValueError, match="another index"):
            other.carry(log, forward=False)
        with pytest.raises(ValueError, match="not the next to be made again"):
            index.carry(log, forward=True)
        index.carry(log, forward=False)
        with pytest.raises(ValueError, match="not the next to be taken back"):
            index.carry(log, forward=False)
        assert index.stats()["findable"] == [20]
        # Another way on from there does not end this one, but what no log knows does.
        index.start_log()
        index.remove(np.array([[5, 6]]))
        index.stop_log()
        with pytest.raises(ValueError, match="not the next to be made again"):
            index.carry(log, forward=True)
        for refused in (copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="log: it belongs to one index"):
                refused(log)


@pytest.mark.parametrize("change", ["update", "remove", "reset", "rebuild", "load_state_dict"])
@pytest.mark.parametrize("settings", [EXACT(), KDForest(), Toy()], ids=str)
def test_a_log_ends_with_a_change_that_it_does_not_know(settings: Settings, change: str) -> None:
    index = settings.build(np.random.default_rng(0).standard_normal((1, 20, 3)))
    given = {"update": [np.array([[1]])], "remove": [np.array([[1]])]}
    given["load_state_dict"] = [index.state_dict()]
    log = index.start_log()
    index.remove(np.array([[3]]))
    index.stop_log()
    getattr(index, change)(*given.get(change, []))
    before = index.stats()
    with pytest.raises(ValueError, match="not the next to be taken back"):
        index.carry(log, forward=False)
    assert index.stats() == before


def test_two_ways_on_from_one_moment() -> None:
    """Back from the one, along the other, and back and along the first again."""
    for name in ("exact", "rebuilds", "sketch-rebuilds", "axes"):
        owner = Owner(SETTINGS[name], (2, 70, 3), 2, "float32")
        start, ways = owner.all(), []
        for _ in range(3):
            rows, log = owner.passed(15)
            ways.append((owner.memory.copy(), log, owner.all()))
            owner.stand(rows, log, forward=False)
            assert owner.all() == start
        for way in (2, 0, 1, 0, 2):
            there, log, then = ways[way]
            owner.stand(there, log, forward=True)
            assert owner.all() == then
            owner.stand(rows, log, forward=False)
            assert owner.all() == start


def test_a_log_is_small_and_goes_with_its_owner() -> None:
    """Per row and tree of a forest some 16 bytes, and what splits and joins of leaves take."""
    rng = np.random.default_rng(0)
    memory = rng.standard_normal((1, 4096, 16)).astype(np.float32)
    for settings, most in ((EXACT(), 4), (KDForest(), 4 * 20), (KDForest(trees=1), 32)):
        index = settings.build(memory)
        log = index.start_log()
        for _ in range(100):
            slots = rng.permutation(4096)[None, :20]
            memory[0, slots[0]] = rng.standard_normal((20, 16))
            index.update(slots)
        index.stop_log()
        assert log.nbytes < 2000 * most + 200
        kept = weakref.ref(log)
        del log
        assert kept() is None


def test_an_index_that_is_logged_changes_as_one_that_is_not() -> None:
    for name in ("exact", "rebuilds", "sketch-rebuilds"):
        owners = [Owner(SETTINGS[name], (2, 80, 4), 3, "float32") for _ in range(2)]
        for _ in range(3):
            owners[0].passed(20)
            for _ in range(20):
                owners[1].act()
            assert owners[0].all() == owners[1].all()


def test_a_long_log_takes_several_chunks() -> None:
    owner = Owner(KDForest(leaf_size=2), (1, 3000, 2), 0, "float64")
    before, rows, log = owner.all(), owner.memory.copy(), owner.index.start_log()
    for _ in range(60):
        slots = owner.rng.integers(0, 3000, (1, 500))
        owner.memory[0, slots[0]] = owner.rng.standard_normal((500, 2))
        owner.index.update(slots)
    owner.index.stop_log()
    assert len(log.entries) > 3
    after, now = owner.all(), owner.memory.copy()
    owner.stand(rows, log, forward=False)
    assert owner.all() == before
    owner.stand(now, log, forward=True)
    assert owner.all() == after
