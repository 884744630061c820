"""Rows and queries for measuring indexes by themselves, and the recall of what they find.

random: rows and queries of unit variance, the hardest case, as there is no structure to use.
clustered: rows about centres, each query near a stored row. near: random rows, each query near one.
What a network in training really asks is in the traces beside the suites.
"""

from __future__ import annotations

import numpy as np

import ann_backends

from . import grid

# Of clustered rows: how many share a centre, their spread about it, and a query's about its row.
ROWS_PER_CENTRE, ROW_SPREAD, QUERY_SPREAD = 256, 0.3, 0.1
# A row so much less similar than the worst of the true ones is as good: rounding.
TOLERANCE = 1e-6


class Source:
    """Draws rows of a kind for a memory of some size, and queries to it, from one seed."""

    def __init__(self, kind: str, memory_size: int, seed: int = 0) -> None:
        if kind not in grid.DATA:
            raise ValueError(f"kind: got {kind!r}, expected one of {', '.join(grid.DATA)}")
        self._kind = kind
        self._memory_size = memory_size
        self._generator = np.random.default_rng(seed)
        self._centres = self._noise(max(memory_size // ROWS_PER_CENTRE, 1))

    def rows(self, count: int) -> np.ndarray:
        """float32 [count, W]."""
        noise = self._noise(count)
        if self._kind != "clustered":
            return noise
        chosen = self._generator.integers(len(self._centres), size=count)
        return self._centres[chosen] + np.float32(ROW_SPREAD) * noise

    def queries(self, memory: np.ndarray, count: int) -> np.ndarray:
        """float32 [count, W], to the rows as memory [N, W] holds them now."""
        noise = self._noise(count)
        if self._kind == "random":
            return noise
        near = self._generator.integers(self._memory_size, size=count)
        return memory[near] + np.float32(QUERY_SPREAD) * noise

    def slots(self, steps: int) -> np.ndarray:
        """Slots to overwrite, int64 [steps, 20], distinct within a step."""
        choose, size = self._generator.choice, (self._memory_size, grid.ROWS_PER_STEP)
        return np.stack([choose(*size, replace=False) for _ in range(steps)])

    def all_slots(self) -> np.ndarray:
        """Every slot once, in random order: int64 [N]."""
        return self._generator.permutation(self._memory_size)

    def _noise(self, count: int) -> np.ndarray:
        return self._generator.standard_normal((count, grid.WORD_SIZE), dtype=np.float32)


def recall(memory: np.ndarray, queries: np.ndarray, slots: np.ndarray, best: np.ndarray) -> float:
    """Share of the slots [n, k] found for queries [n, W] that are among the k most similar rows.

    memory: [N, W]. best: [n, k], the true similarities, descending. Ties are forgiven: a row as
    similar as the last of the true ones is one of them. Only ids are trusted: what is no slot, or
    there twice, is not found.
    """
    slots = np.sort(slots, axis=1)
    found = ann_backends.similarity(queries[:, None], memory[slots])[:, 0]
    counts = (slots >= 0) & (found >= best[:, -1:] - TOLERANCE)
    counts[:, 1:] &= slots[:, 1:] != slots[:, :-1]
    return float(counts.mean())
