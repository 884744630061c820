"""A memory full of rows, and what a model would do to it and to an index over it."""

from __future__ import annotations

import numpy as np

import ann_backends

from . import data, grid

# Rows of the memory on which a backend is tried once, so that whatever it compiles is compiled.
WARM_UP_ROWS = 2048


class Memory:
    """One memory full of rows of a kind; `words` is float32 [1, N, W]."""

    def __init__(self, memory_size: int, kind: str) -> None:
        self.source = data.Source(kind, memory_size)
        self.words = self.source.rows(memory_size)[None]

    def index(self, backend: str | ann_backends.Settings) -> ann_backends.Index:
        return ann_backends.create(backend, memory=self.words)

    def overwrite(self, steps: int) -> np.ndarray:
        """Write the rows of so many steps; their slots [steps, 1, 20], yet to be announced."""
        slots = self.source.slots(steps)
        self.words[0, slots.ravel()] = self.source.rows(slots.size)
        return slots[:, None]

    def queries(self, calls: int) -> np.ndarray:
        """float32 [calls, 1, 4, W]."""
        drawn = self.source.queries(self.words[0], calls * grid.NUM_HEADS)
        return drawn.reshape(calls, 1, grid.NUM_HEADS, grid.WORD_SIZE)

    def truth(self, queries: np.ndarray) -> np.ndarray:
        """The similarities of the k best rows to queries [..., W]: [n, k], descending."""
        flat = queries.reshape(1, -1, grid.WORD_SIZE)
        return self.index("exact").search(flat, grid.K)[1][0]

    def recall(self, queries: np.ndarray, slots: np.ndarray, best: np.ndarray) -> float:
        """recall@4 of the slots [..., k] found for queries [..., W], of truth `best` [n, k]."""
        flat = queries.reshape(-1, grid.WORD_SIZE)
        return data.recall(self.words[0], flat, slots.reshape(-1, grid.K), best)


def warm_up(backend: str | ann_backends.Settings) -> None:
    """Have a backend compile what it compiles: built, updated, searched and rebuilt once."""
    memory = Memory(WARM_UP_ROWS, "clustered")
    index = memory.index(backend)
    index.update(memory.overwrite(1)[0])
    index.search(memory.queries(1)[0], grid.K)
    index.rebuild()
