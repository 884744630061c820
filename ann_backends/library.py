"""What the indexes on other people's libraries share.

A library holds points in float32, sees a row when it is told of it, and answers approximately.
So it only proposes: the rows that it proposes, and those changed so lately that it may not know
them, are ranked on the memory as it is now. Until a batch element has `exact_below` findable rows
it has no library object at all; its rows are scanned.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ann_backends import checks, ranking
from ann_backends.index import Index, Settings
from ann_backends.ranking import Members

# What is asked of a library beyond k, for those of its answers that are out of date.
SPARE = 4


@dataclasses.dataclass(frozen=True)
class LibrarySettings(Settings):
    """exact_below: with fewer findable rows than this when it is built, an element is scanned."""

    exact_below: int = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.integer("exact_below", self.exact_below, 1, 2**31)


class Part(NamedTuple):
    """One batch element: its rows `words` [N, W], and which of them are findable.

    cosine: how they compare, else as in l2. recent: int32 [recent_rows], the first
    `recent_number[0]` of them the slots written last, each once, the oldest first.
    """

    words: np.ndarray
    members: Members
    cosine: bool
    recent: np.ndarray
    recent_number: np.ndarray

    def points(self, slots: np.ndarray) -> np.ndarray:
        """The rows at `slots` [n] as a library sees them: float32 [n, W]."""
        return ranking.points(self.words, slots, self.cosine)

    def written_last(self) -> np.ndarray:
        """Slots whose words no search may miss: int32 [n], a view."""
        return self.recent[: self.recent_number[0]]

    def findable(self) -> np.ndarray:
        """The slots that are findable now: int32 [n], a view."""
        return self.members.slots[: self.members.size[0]]


class Structure(abc.ABC):
    """A library's object over one batch element, and the rows that it may not know as they are."""

    def __init__(self, part: Part) -> None:
        self.part = part

    @abc.abstractmethod
    def update(self, slots: np.ndarray, settled: np.ndarray) -> None:
        """Rows have been written.

        slots: int64 [n], distinct, those written; all are members. settled: int64 [m], distinct,
        those that have been written, and now are among the rows written last no more.
        """

    @abc.abstractmethod
    def remove(self, slots: np.ndarray, changed: np.ndarray) -> None:
        """Forget the rows at `slots`, int64 [n], distinct; they are members no more.

        changed: int64 [m], the places among the members that another row has taken.
        """

    @abc.abstractmethod
    def search(self, points: np.ndarray, number: int) -> np.ndarray:
        """About `number` candidates for points [H, W]: int64 slots [H, C], -1 for none."""

    def fresh(self) -> np.ndarray:
        """Slots that every search ranks beside the candidates: int32 [n]."""
        return self.part.written_last()

    @abc.abstractmethod
    def nbytes(self) -> int:
        """Size of the library's object and of what belongs to it, as far as it can be told."""

    def outworn(self) -> bool:
        """Whether it should be built anew before it is due."""
        return False


class LibraryIndex(Index):
    """An `Index` over one library object per batch element; a subclass builds it.

    recent_rows: as many as these, of the rows written last, are ranked in every search, were they
    out of the library's reach.
    """

    settings: LibrarySettings
    recent_rows: ClassVar[int]

    def rebuild_outworn(self) -> None:
        """Build those elements anew whose structure asks for it."""
        for element, structure in enumerate(self._structures):
            if structure is not None and structure.outworn():
                self._rebuild_element(element)

    def update(self, slots: Any) -> None:
        super().update(slots)
        self.rebuild_outworn()

    def remove(self, slots: Any) -> None:
        super().remove(slots)
        self.rebuild_outworn()

    @property
    def scans(self) -> int:
        """Queries so far for which the library proposed too few findable rows.

        They were answered by a look at every findable row.
        """
        return self._scans

    @abc.abstractmethod
    def _build(self, part: Part) -> Structure:
        """The library's object over the rows that are findable in `part` now."""

    def _clear(self) -> None:
        self._scans = 0
        self._parts = [self._part(words) for words in self.memory]
        self._structures: list[Structure | None] = [None] * self.batch_size

    def _part(self, words: np.ndarray) -> Part:
        members = Members(
            slots=self._zeros((self.memory_size,), np.int32),
            places=self._zeros((self.memory_size,), np.int32),
            size=np.zeros(1, np.int64),
        )
        recent, number = np.zeros(self.recent_rows, np.int32), np.zeros(1, np.int64)
        return Part(words, members, self.metric == "cosine", recent, number)

    def _fill(self) -> None:
        everything = np.arange(self.memory_size, dtype=np.int64)
        for element, part in enumerate(self._parts):
            ranking.add(*part.members, everything)
            self._rebuild(element)

    def _update(self, slots: np.ndarray) -> None:
        for element, part in enumerate(self._parts):
            added = ranking.add(*part.members, slots[element])
            settled = ranking.remember(part.recent, part.recent_number, slots[element])
            structure = self._structures[element]
            if structure is not None:
                structure.update(added, settled)
        # Last, as building may fail: by then every element knows its rows, and can be scanned.
        for element, part in enumerate(self._parts):
            unbuilt = self._structures[element] is None
            if unbuilt and part.members.size[0] >= self.settings.exact_below:
                self._rebuild(element)

    def _remove(self, slots: np.ndarray) -> None:
        for element, part in enumerate(self._parts):
            dropped, changed = ranking.drop(*part.members, slots[element])
            structure = self._structures[element]
            if structure is not None:
                structure.remove(dropped, changed)

    def _search(self, queries: np.ndarray, slots: np.ndarray, similarity: np.ndarray) -> None:
        for element, part in enumerate(self._parts):
            own, k = queries[element], slots.shape[2]
            candidates, fresh = self._candidates(element, own, k)
            self._scans += ranking.rank(
                part.words,
                *part.members,
                own,
                part.cosine,
                candidates,
                fresh,
                slots[element],
                similarity[element],
            )

    def _candidates(
        self, element: int, queries: np.ndarray, k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """What to rank for queries [H, W]: slots [H, C] for each, and slots [n] for all."""
        part, structure = self._parts[element], self._structures[element]
        if structure is None:
            return np.empty((len(queries), 0), np.int64), part.findable()
        points = ranking.points(queries, np.arange(len(queries)), part.cosine)
        return structure.search(points, k + SPARE), structure.fresh()

    def _rebuild(self, element: int) -> None:
        part = self._parts[element]
        enough = part.members.size[0] >= self.settings.exact_below
        # The old object goes first, so that the two do not stand in memory together.
        self._structures[element] = None
        self._structures[element] = self._build(part) if enough else None

    def _findable(self) -> np.ndarray:
        return np.array([part.members.size[0] for part in self._parts])

    def _bytes(self) -> int:
        arrays = sum(array.nbytes for part in self._parts for array in part.members)
        return arrays + sum(s.nbytes() for s in self._structures if s is not None)
