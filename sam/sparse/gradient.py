"""The gradient of a memory, kept only for the rows that have one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ann_backends import kernel


class SparseGradient:
    """dL/dM of B memories [N, W], zero but for some rows; its size does not depend on N.

    rows: [n, W], the gradients in the order in which `places` first met their rows; as many as
    have been met, or more, which are zero. numbers: int64 [capacity], b N + slot of each. table: a
    hash table with open addressing, which holds 1 + a place in `rows`, or 0; at most half full, so
    that a search soon ends.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.shape = shape
        self.rows = np.zeros((0, shape[2]), dtype)
        self.numbers = np.zeros(0, np.int64)
        self.count = 0
        self.table = np.zeros(2, np.int64)

    @classmethod
    def of(cls, dense: np.ndarray) -> SparseGradient:
        """That of an array [B, N, W]."""
        gradient = cls(dense.shape, dense.dtype)
        rows = dense.reshape(-1, dense.shape[2])
        numbers = np.flatnonzero(rows.any(1))
        gradient._add_to(numbers, rows[numbers])
        return gradient

    def places(self, *slots: np.ndarray) -> list[np.ndarray]:
        """Where the rows of `slots` lie in `rows`: of each int64 [T, B, ...], both; -1 stays -1.

        May replace `rows`: look at it only after the last call.
        """
        self._reserve(self.count + sum(own.size for own in slots))
        places = [
            self._places_of(own.reshape(*own.shape[:2], -1)).reshape(own.shape) for own in slots
        ]
        self._add_rows()
        return places

    def add(self, other: SparseGradient) -> None:
        self._add_to(other.numbers[: other.count], other.rows[: other.count])

    def of_elements(self, elements: Sequence[int], shape: tuple[int, ...]) -> SparseGradient:
        """That of B' memories, given as `shape` [B', N, W], of which these are copies.

        elements: of each of these memories, which of those it is a copy of, -1 for none.
        """
        gradient = SparseGradient(shape, self.rows.dtype)
        memory, slots = np.divmod(self.numbers[: self.count], self.shape[1])
        originals = np.asarray(elements)[memory]
        for memory_of in np.unique(memory):  # one at a time, as two may be copies of one
            own = (memory == memory_of) & (originals >= 0)
            rows = self.rows[: self.count][own]
            gradient._add_to(originals[own] * shape[1] + slots[own], rows)
        return gradient

    def _add_to(self, numbers: np.ndarray, rows: np.ndarray) -> None:
        """Add to the rows with these numbers, which are distinct."""
        self._reserve(self.count + len(numbers))
        places = self._places_of(numbers[None, None])[0, 0]
        self._add_rows()
        self.rows[places] += rows

    def dense(self, *, shared: bool) -> np.ndarray:
        """As an array [B, N, W]; with `shared`, summed over the B memories: [N, W]."""
        batch_size, memory_size, word_size = self.shape
        numbers = self.numbers[: self.count]
        dense = np.zeros(((1 if shared else batch_size) * memory_size, word_size), self.rows.dtype)
        np.add.at(dense, numbers % memory_size if shared else numbers, self.rows[: self.count])
        return dense if shared else dense.reshape(self.shape)

    def _places_of(self, slots: np.ndarray) -> np.ndarray:
        """As `places`, of slots [T, B, n], where there is room for them.

        Numbers are those of slots as of one memory: [1, 1, n].
        """
        places = np.empty(slots.shape, np.int64)
        known = self.table, self.numbers
        self.count = _find_or_add(slots, self.shape[1], *known, self.count, places)
        return places

    def _reserve(self, length: int) -> None:
        """Make room for `length` numbers; by doubling, so that many small passes stay cheap."""
        if length <= len(self.numbers):
            return
        numbers = self.numbers[: self.count]
        capacity = max(length, 2 * len(self.numbers))
        self.numbers = np.empty(capacity, np.int64)
        self.table = np.zeros(1 << (2 * capacity).bit_length(), np.int64)
        self.count = 0
        self._places_of(numbers[None, None])

    def _add_rows(self) -> None:
        """Have a row for all that have been met; by doubling, too, once there are some."""
        known = len(self.rows)
        if self.count > known:
            rows = np.zeros((max(self.count, 2 * known), self.rows.shape[1]), self.rows.dtype)
            rows[:known] = self.rows
            self.rows = rows


@kernel
def _find_or_add(
    slots: np.ndarray,
    memory_size: int,
    table: np.ndarray,
    numbers: np.ndarray,
    count: int,
    places: np.ndarray,
) -> int:
    """Find or add each slot >= 0 of [T, B, n], and set its place; returns the new count."""
    mask = len(table) - 1
    for t in range(slots.shape[0]):
        for b in range(slots.shape[1]):
            for i in range(slots.shape[2]):
                places[t, b, i] = -1
                if slots[t, b, i] < 0:
                    continue
                number = b * memory_size + slots[t, b, i]
                entry = (number * 0x9E3779B1 >> 16) & mask  # Knuth's multiplicative hashing
                while table[entry] != 0 and numbers[table[entry] - 1] != number:
                    entry = (entry + 1) & mask
                if table[entry] == 0:
                    numbers[count] = number
                    count += 1
                    table[entry] = count
                places[t, b, i] = table[entry] - 1
    return count
