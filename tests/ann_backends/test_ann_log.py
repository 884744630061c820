"""An index carried across its logs: the same structure and the same answers, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import ann_backends
from ann_backends import KDForest, Settings
from tests.ann_backends.index_structure import structure_of

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
