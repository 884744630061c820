"""What happened to an index, in order, so that it can be taken back and made again."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

# Numbers per element in a new chunk: some times those that the next call may need, at least twice
# those of the chunk before, but no more than the last of these unless a call needs it.
AHEAD, LEAST_CHUNK, MOST_CHUNK = 8, 1 << 9, 1 << 18


@dataclasses.dataclass(eq=False)
class Log:
    """The changes of an index between `Index.start_log` and `Index.stop_log`.

    It is for `Index.carry` alone, and nobody but its owner keeps it once it is stopped.

    index: the one that it belongs to, of so many elements. counters: what its `_counters` held on
    the other side. entries: the other changes, the oldest first, as the backend notes them.
    before, after: what the index's `_moment` is before and after them.
    """

    index: object
    batch_size: int
    counters: list[np.ndarray]
    rebuilds: int
    entries: list[Any] = dataclasses.field(default_factory=list)
    before: object = None
    after: object = dataclasses.field(default_factory=object)
    _left: int = 0

    def chunk(self, numbers: int) -> np.ndarray:
        """The last entry, or a new one: int32 [B, n] with room for so many numbers per element.

        The first number of each element's says how many are in use, that one among them.
        """
        last = self.entries[-1] if self.entries else None
        if not isinstance(last, np.ndarray):
            last = self._add_chunk(LEAST_CHUNK, numbers)
        elif self._left < numbers:  # by the most that the calls so far may have needed
            self._left = last.shape[1] - _used(last)
            if self._left < numbers:
                last = self._add_chunk(2 * last.shape[1], numbers)
        self._left -= numbers
        return last

    def _add_chunk(self, least: int, numbers: int) -> np.ndarray:
        self.trim()
        size = max(1 + numbers, min(max(least, AHEAD * numbers), MOST_CHUNK))
        # Pages that are never written never become resident.
        made = np.empty((self.batch_size, size), np.int32)
        made[:, 0] = 1
        self.entries.append(made)
        self._left = size - 1
        return made

    def trim(self) -> None:
        """Give back what the last chunk does not use."""
        if self.entries and isinstance(self.entries[-1], np.ndarray):
            last = self.entries[-1]
            self.entries[-1] = last[:, : _used(last)].copy()

    @property
    def nbytes(self) -> int:
        """Size of what it holds."""
        return sum(entry.nbytes for entry in (*self.entries, *self.counters))

    def __deepcopy__(self, memo: dict[int, Any]) -> Log:
        raise TypeError("log: it belongs to one index and cannot be copied")

    def __reduce__(self) -> str:
        raise TypeError("log: it belongs to one index and cannot be pickled")


def _used(chunk: np.ndarray) -> int:
    """The most numbers in use by an element; for few elements much faster than `chunk.max`."""
    return max(chunk[:, 0].tolist())


@dataclasses.dataclass(eq=False)
class Snapshot:
    """One element as it was on the other side of a rebuild: its part of `Index._structure`."""

    element: int
    part: dict[str, np.ndarray]

    @property
    def nbytes(self) -> int:
        """Size of its arrays."""
        return sum(array.nbytes for array in self.part.values())


@dataclasses.dataclass(eq=False)
class Touched:
    """Rows that were announced or removed. places: int64 [n], each element * N + slot.

    findable: bool [n], whether they were findable on the other side.
    """

    places: np.ndarray
    findable: np.ndarray

    @classmethod
    def joined(cls, entries: list[Touched]) -> Touched:
        """All of the entries, the oldest first, as one that names each row once."""
        places = np.concatenate([np.empty(0, np.int64), *(entry.places for entry in entries)])
        findable = np.concatenate([np.empty(0, np.bool_), *(entry.findable for entry in entries)])
        distinct, first = np.unique(places, return_index=True)
        return cls(distinct, findable[first])

    @property
    def nbytes(self) -> int:
        """Size of its arrays."""
        return self.places.nbytes + self.findable.nbytes
