"""Hierarchical navigable small worlds (Malkov & Yashunin 2018), by hnswlib.

hnswlib can overwrite a point in place, but that links the whole neighbourhood of its old place
anew, at five to nine times the cost of adding a point. So a row that changes gets a new point, and
its old one is dead: searches walk through it and leave it out of their answers. (hnswlib's own mark
for that, `mark_deleted`, can crash its 0.8.0: adding a point where none but marked ones are in
reach reads past an empty list.) The graph is built anew when the dead are as many as the living.

The rows written last are ranked in every search anyway, so a row gets its point when it is among
them no more: one that is written at every step is not added at every step.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import hnswlib
import numpy as np
import numpy.typing as npt

from ann_backends import checks, ranking
from ann_backends.library import LibraryIndex, LibrarySettings, Part, Structure

# The graph may lose hold of a point: its links depend on which points came before and after.
RECENT = 256
# Room for points to come, in parts of those at the start; grows likewise.
GROWTH = 2
# A search that met too many dead points asks for so many times as many.
MORE = 4


@dataclasses.dataclass(frozen=True)
class HNSW(LibrarySettings):
    """hnswlib's graph, one per batch element, one thread.

    For building, fixed with the index: `M`, a point's links per layer (twice as many in the
    lowest); `ef_construction`, the candidates looked at when a point is linked.
    For searching, and an attribute of the index that may be assigned: `ef`, the nearest points
    that a search keeps while it walks.

    An update costs what adding a row does when the graph is built: some 100 microseconds for words
    of 32 numbers.
    """

    name: ClassVar[str] = "hnsw"
    min_recall: ClassVar[float] = 0.9

    M: int = 16
    ef_construction: int = 100
    ef: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.integer("M", self.M, 2, 1000)
        checks.integer("ef_construction", self.ef_construction, 1, 2**31)
        checks.integer("ef", self.ef, 1, 2**31)

    def build(
        self,
        memory: npt.ArrayLike,
        *,
        seed: int = 0,
        metric: str = "cosine",
        findable: str = "all",
    ) -> HNSWIndex:
        """An index over `memory`; the arguments are those of `Index`."""
        return HNSWIndex(self, memory, seed=seed, metric=metric, findable=findable)


class HNSWIndex(LibraryIndex):
    """The `Index` that `HNSW` builds."""

    settings: HNSW
    recent_rows = RECENT
    _ef: int | None = None

    @property
    def ef(self) -> int:
        """Points that a search keeps; starts as the settings' own, and may be assigned."""
        return self.settings.ef if self._ef is None else self._ef

    @ef.setter
    def ef(self, value: int) -> None:
        self._ef = checks.integer("ef", value, 1, 2**31)
        for structure in self._structures:
            if isinstance(structure, Graph):
                structure.ef = value

    def _build(self, part: Part) -> Graph:
        graph = Graph(part, self.settings, self.seed)
        graph.ef = self.ef
        return graph


class Graph(Structure):
    """hnswlib's graph of one batch element.

    Its points are numbered in the order of their coming. owners: int32 [room], the slot of each
    point, -1 of a dead one; point_of: int64 [N], the living point of each slot + 1, 0 if none.
    """

    def __init__(self, part: Part, settings: HNSW, seed: int) -> None:
        super().__init__(part)
        rows = part.findable().astype(np.int64)
        self.room = GROWTH * rows.size
        # The inner product of normalised points is their cosine, that of short words included.
        self.graph = hnswlib.Index("ip" if part.cosine else "l2", part.words.shape[1])
        self.graph.init_index(
            self.room, M=settings.M, ef_construction=settings.ef_construction, random_seed=seed
        )
        self.graph.set_num_threads(1)
        self.owners = np.zeros(self.room, np.int32)
        self.point_of = np.zeros(len(part.words), np.int64)
        self.points = self.living = 0
        self.ef = settings.ef
        self._append(rows)

    def update(self, slots: np.ndarray, settled: np.ndarray) -> None:
        present = settled[self.part.members.places[settled] > 0]
        self._bury(present)
        self._append(present)

    def remove(self, slots: np.ndarray, changed: np.ndarray) -> None:
        self._bury(slots)

    def search(self, points: np.ndarray, number: int) -> np.ndarray:
        """Points enough to hold `number` living ones and, while searching, `ef` of them."""
        number = min(number, self.living)
        none = np.empty((len(points), 0), np.int64)
        if number == 0:
            return none
        # That is so many if the dead are spread evenly; where they crowd it takes more.
        asked = number * self.points // self.living
        self.graph.set_ef(self.ef * self.points // self.living)
        while True:
            asked = min(asked, self.points)
            try:
                found, _ = self.graph.knn_query(points, asked, num_threads=1)
            except RuntimeError:
                # So many are not in reach of one of the queries, and none gets an answer.
                return none
            candidates = ranking.looked_up(self.owners, self.points, found.view(np.int64))
            living = np.count_nonzero(candidates >= 0, axis=1)
            if asked == self.points or living.min() >= number:
                return candidates
            asked *= MORE

    def nbytes(self) -> int:
        return self.graph.index_file_size() + self.owners.nbytes + self.point_of.nbytes

    def outworn(self) -> bool:
        return self.points > GROWTH * max(self.living, RECENT)

    def _bury(self, slots: np.ndarray) -> None:
        """Leave the points of the rows at `slots`, where they have any, without an owner."""
        points = self.point_of[slots]
        points = points[points > 0] - 1
        self.owners[points] = -1
        self.living -= points.size
        self.point_of[slots] = 0

    def _append(self, slots: np.ndarray) -> None:
        if slots.size == 0:
            return
        points = np.arange(self.points, self.points + slots.size)
        self._reserve(self.points + slots.size)
        self.graph.add_items(self.part.points(slots), points, num_threads=1)
        self.owners[points] = slots
        self.point_of[slots] = points + 1
        self.points += slots.size
        self.living += slots.size

    def _reserve(self, needed: int) -> None:
        if needed > self.room:
            self.graph.resize_index(GROWTH * needed)
            more = np.zeros(GROWTH * needed - self.room, np.int32)
            self.owners = np.concatenate([self.owners, more])
            self.room = self.owners.size
