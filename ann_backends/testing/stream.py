"""A check by histories: all that an index can do, in random order, every answer verified."""

from __future__ import annotations

import numpy as np

from ann_backends.testing.trial import Trial, World, expect_equal

# [B, N, W] of the histories: corners that only small memories have, and structure.
SHAPES = [(1, 1, 3), (3, 5, 1), (2, 24, 4), (1, 1000, 8)]
ACTIONS = 30
# Slots that one call announces at most, and how many of them are asked for.
MOST_SLOTS, ASKED = 20, 4


def any_history_is_answered_truthfully(trial: Trial) -> None:
    """Writes, removals, rebuilds and resets in any order: rows just written come first, none that
    was overwritten or removed comes back, and the count is right."""
    for shape in SHAPES:
        for findable in ("all", "none"):
            history = History(trial, shape, findable)
            for _ in range(ACTIONS):
                history.act()
                history.ask()


class History:
    """A world to which things happen, and the words that its rows have held of late."""

    def __init__(self, trial: Trial, shape: tuple[int, int, int], findable: str) -> None:
        full = findable == "all"
        memory = trial.random(*shape) if full else np.full(shape, np.nan, trial.dtype)
        self.world = World(trial, memory, findable)
        self.rng = np.random.default_rng([trial.seed, *shape])
        # Some slots of the last two announcements [B, 2 * ASKED], and what they held [..., W].
        self.slots = np.full((shape[0], 2 * ASKED), -1)
        self.words = np.zeros((shape[0], 2 * ASKED, shape[2]), trial.dtype)

    def act(self) -> None:
        """One random change."""
        actions = [self._write, self._write, self._announce, self._remove, self.world.rebuild]
        # Seldom, as little is left to be seen afterwards.
        rare = self.rng.random() < 0.02
        (self.world.reset if rare else actions[self.rng.integers(len(actions))])()

    def ask(self) -> None:
        """Search for words that rows hold or held of late, for random ones and for zeros."""
        world, memory = self.world, self.world.memory
        random = self.rng.standard_normal((memory.shape[0], 1, memory.shape[2]))
        queries = np.concatenate([self.words, random, 0 * random], 1).astype(memory.dtype)
        slots = world.search(queries, min(int(self.rng.choice([1, 4, 9])), memory.shape[1]))
        held = np.take_along_axis(memory, self.slots[..., None], 1)
        fresh = self._findable(self.slots) & (held == self.words).all(axis=2)
        world.expect_nearest(queries, np.where(fresh, self.slots, -1), slots[..., 0])
        counts = world.findable.sum(axis=1).tolist()
        expect_equal("findable", world.index.stats()["findable"], counts)

    def _write(self) -> None:
        """Overwrite rows with new words, or all with one word."""
        world, slots = self.world, self._some_slots()
        words = self.rng.standard_normal((*slots.shape, world.memory.shape[2]))
        if self.rng.random() < 0.2:
            words[:] = words[:, :1]
        world.write(slots, words)
        self._remember(slots)

    def _announce(self) -> None:
        """Announce findable rows that have not changed."""
        slots = self._some_slots()
        slots = np.where(self._findable(slots), slots, -1)
        self.world.update(slots)
        self._remember(slots)

    def _remove(self) -> None:
        """Remove rows, findable or not; what those hold from then on is nobody's business."""
        self.world.remove(self._some_slots())
        if self.rng.random() < 0.5:
            self.world.memory[~self.world.findable] = np.nan

    def _remember(self, slots: np.ndarray) -> None:
        """Some of the slots [B, n] just announced are to be asked for, with what they hold now."""
        some = self.rng.choice(slots, ASKED, axis=1)
        held = np.take_along_axis(self.world.memory, some[..., None], 1)
        held[some < 0] = 0
        self.slots = np.concatenate([self.slots, some], 1)[:, -2 * ASKED :]
        self.words = np.concatenate([self.words, held], 1)[:, -2 * ASKED :]

    def _findable(self, slots: np.ndarray) -> np.ndarray:
        return np.take_along_axis(self.world.findable, slots, 1) & (slots >= 0)

    def _some_slots(self) -> np.ndarray:
        """[B, n] slots, duplicates and padding among them."""
        batch_size, memory_size, _ = self.world.memory.shape
        shape = (batch_size, self.rng.integers(1, MOST_SLOTS + 1))
        slots = self.rng.integers(0, memory_size, shape)
        return np.where(self.rng.random(shape) < 0.1, -1, slots)


CHECKS = (any_history_is_answered_truthfully,)
