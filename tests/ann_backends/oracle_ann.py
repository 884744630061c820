"""What an index may answer, in plain NumPy: a memory, the rows that are findable, brute force."""

from __future__ import annotations

import numpy as np

# SPEC: added to each squared norm of a cosine.
EPSILON = 1e-6
# Relative error of a similarity in the memory's precision.
PRECISION = {"float32": 1e-5, "float64": 1e-12}


class Oracle:
    """A memory [B, N, W] that the test writes, and what has to be findable in it.

    recent: per element the `window` slots announced last and what they held then, oldest first.
    """

    def __init__(self, memory: np.ndarray, metric: str, full: bool, window: int) -> None:
        self.memory, self.metric, self.window = memory, metric, window
        self.findable = np.full(memory.shape[:2], full)
        self.recent: list[list[tuple[int, np.ndarray]]] = [[] for _ in memory]

    def write(self, slots: np.ndarray, words: np.ndarray) -> None:
        """Overwrite rows: slots [B, n], -1 as padding; words [B, n, W]."""
        for b in range(slots.shape[0]):
            for slot, word in zip(slots[b], words[b], strict=True):
                if slot >= 0:
                    self.memory[b, slot] = word
        self.announce(slots)

    def announce(self, slots: np.ndarray) -> None:
        for b in range(slots.shape[0]):
            for slot in slots[b]:
                if slot >= 0:
                    self.findable[b, slot] = True
                    self.recent[b].append((int(slot), self.memory[b, slot].copy()))
            self.recent[b] = self.recent[b][-self.window :]

    def remove(self, slots: np.ndarray) -> None:
        for b in range(slots.shape[0]):
            for slot in slots[b]:
                if slot >= 0:
                    self.findable[b, slot] = False

    def reset(self) -> None:
        self.findable[:] = False

    def similarity(self, query: np.ndarray, words: np.ndarray) -> np.ndarray:
        """Of query [W] to words [n, W], in double precision: [n]."""
        q, m = query.astype(np.float64), words.astype(np.float64)
        if self.metric == "l2":
            return -((q - m) ** 2).sum(axis=1)
        lengths = np.sqrt((q * q).sum() + EPSILON) * np.sqrt((m * m).sum(axis=1) + EPSILON)
        return (m * q).sum(axis=1) / lengths

    def judge(
        self, queries: np.ndarray, k: int, slots: np.ndarray, similarity: np.ndarray, exact: bool
    ) -> None:
        """Everything that holds for any answer to queries [B, H, W]; if `exact`, the best one's."""
        assert slots.shape == similarity.shape == (*queries.shape[:2], k)
        assert slots.dtype == np.int64
        assert similarity.dtype == self.memory.dtype
        for b in range(queries.shape[0]):
            for h in range(queries.shape[1]):
                self._judge(b, queries[b, h], slots[b, h], similarity[b, h], exact)

    def _judge(
        self, b: int, query: np.ndarray, slots: np.ndarray, similarity: np.ndarray, exact: bool
    ) -> None:
        present = np.flatnonzero(self.findable[b])
        count = min(slots.size, present.size)
        assert (slots[count:] == -1).all(), "the tail is -1 where rows are too few"
        assert (similarity[count:] == -np.inf).all(), "the tail is -inf"
        slots, similarity = slots[:count], similarity[:count]
        assert len(set(slots.tolist())) == count, "distinct"
        assert set(slots.tolist()) <= set(present.tolist()), "findable"
        assert (similarity[1:] <= similarity[:-1]).all(), "best first"
        words = self.memory[b, slots]
        true, errors = self.similarity(query, words), self.rounding(query, words)
        assert (abs(similarity - true) <= errors).all(), "of the present rows"
        if exact:
            every = self.memory[b, present]
            best = -np.sort(-self.similarity(query, every))[:count]
            assert (abs(true - best) <= self.rounding(query, every).max(initial=0)).all(), "nearest"
        if count:
            self._fresh_come_first(b, query, true[0] + errors[0])

    def _fresh_come_first(self, b: int, query: np.ndarray, first: float) -> None:
        for slot, word in self.recent[b]:
            untouched = self.findable[b, slot] and (self.memory[b, slot] == word).all()
            if untouched and (word == query).all():
                own = self.similarity(query, word[None])[0]
                assert first >= own, f"row {slot} was announced of late and is not found"

    def rounding(self, query: np.ndarray, words: np.ndarray) -> np.ndarray:
        """By how much each similarity may be off: [n]. Of cosines, 1 is the scale; of distances,
        the squared norms are, as they may come from those."""
        scale = np.ones(words.shape[0])
        if self.metric == "l2":
            scale += np.square(query.astype(np.float64)).sum()
            scale += np.square(words.astype(np.float64)).sum(axis=1)
        return PRECISION[str(self.memory.dtype)] * scale
