"""What happened to an index, in order, so that it can be taken back and made again."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ann_backends.index import Index

# Numbers in a first chunk, and at most in a chunk that the next call does not need larger.
LEAST_CHUNK, MOST_CHUNK = 1 << 10, 1 << 18
# Given to kernels where nothing is logged.
NO_CHUNK = np.empty(0, np.int32)


@dataclasses.dataclass(eq=False)
class Log:
    """The changes of an index between `Index.start_log` and `Index.stop_log`.

    It is for `Index.carry` alone, and nobody but its owner keeps it once it is stopped.

    counters: what the index's `_counters` held on the other side. entries: the other changes, the
    oldest first, as the backend notes them. taken_back: whether the index stands before them.
    """

    index: Index
    counters: list[np.ndarray]
    rebuilds: int
    entries: list[Any] = dataclasses.field(default_factory=list)
    taken_back: bool = False

    def chunk(self, numbers: int) -> np.ndarray:
        """The last entry, or a new one: an int32 array with room for so many numbers more.

        Its first number says how many places are in use, that one among them.
        """
        last = self.entries[-1] if self.entries else None
        if isinstance(last, np.ndarray) and last.size - last[0] >= numbers:
            return last
        before = last.size if isinstance(last, np.ndarray) else LEAST_CHUNK // 2
        # Pages that are never written never become resident.
        made = np.empty(max(1 + numbers, min(2 * before, MOST_CHUNK)), np.int32)
        made[0] = 1
        self.entries.append(made)
        return made

    def trim(self) -> None:
        """Give back what the last chunk does not use."""
        if self.entries and isinstance(self.entries[-1], np.ndarray):
            self.entries[-1] = self.entries[-1][: self.entries[-1][0]].copy()

    @property
    def nbytes(self) -> int:
        """Size of what it holds."""
        return sum(entry.nbytes for entry in (*self.entries, *self.counters))

    def __deepcopy__(self, memo: dict[int, Any]) -> Log:
        raise TypeError("log: it belongs to one index and cannot be copied")

    def __reduce__(self) -> str:
        raise TypeError("log: it belongs to one index and cannot be pickled")


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
