"""An inverted file (Sivic & Zisserman 2003), by faiss: rows in lists by their nearest centroid.

A row's number in the file is its place among the members, so that faiss finds a row's list in an
array, and overwrites it by moving it from list to list, in a time that does not grow with N but
for the search for its centroid. The last member takes the place of one that leaves; what it leaves
behind at the end is dead until the next row comes to that place.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from typing import Any, ClassVar

with contextlib.suppress(ImportError):
    # Loaded after faiss, torch would bring a second OpenMP runtime: on Linux that has made calls
    # five times slower. Where torch is not installed there is nothing to avoid.
    import torch  # noqa: F401

import faiss
import numpy as np
import numpy.typing as npt

from ann_backends import checks, ranking
from ann_backends.library import LibraryIndex, LibrarySettings, Part, Structure

# faiss misses none of these but in a crowd that float32 cannot tell apart.
RECENT = 64
# Rows per list that the centroids are trained on; more of them move the centroids little.
TRAINING_ROWS = 39
# A file with more dead entries than one in so many is built anew.
LEAST_LIVING = 4


@dataclasses.dataclass(frozen=True)
class IVF(LibrarySettings):
    """faiss's IndexIVFFlat, one per batch element, one thread.

    For building, fixed with the index: `lists`, by default the square root of the number of rows
    (and never more than the rows). An update compares the row with every list's centroid.
    For searching, and an attribute of the index that may be assigned: `probes`, the lists that a
    search looks through.

    The centroids are those of the rows at the last rebuild. In the thread that searches, faiss is
    set to one OpenMP thread, for other uses of faiss there as well.
    """

    name: ClassVar[str] = "ivf"
    min_recall: ClassVar[float] = 0.8

    lists: int | None = None
    probes: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lists is not None:
            checks.integer("lists", self.lists, 1, 2**24)
        checks.integer("probes", self.probes, 1, 2**24)

    def build(
        self,
        memory: npt.ArrayLike,
        *,
        seed: int = 0,
        metric: str = "cosine",
        findable: str = "all",
    ) -> IVFIndex:
        """An index over `memory`; the arguments are those of `Index`."""
        return IVFIndex(self, memory, seed=seed, metric=metric, findable=findable)


class IVFIndex(LibraryIndex):
    """The `Index` that `IVF` builds."""

    settings: IVF
    recent_rows = RECENT
    _probes: int | None = None

    @property
    def probes(self) -> int:
        """Lists that a search looks through; starts as the settings' own, and may be assigned."""
        return self.settings.probes if self._probes is None else self._probes

    @probes.setter
    def probes(self, value: int) -> None:
        self._probes = checks.integer("probes", value, 1, 2**24)
        for structure in self._structures:
            if isinstance(structure, InvertedFile):
                structure.file.nprobe = value

    def _build(self, part: Part) -> InvertedFile:
        built = InvertedFile(part, self.settings.lists, self.seed)
        built.file.nprobe = self.probes
        return built


class InvertedFile(Structure):
    """faiss's inverted file of one batch element; `size` entries, the dead ones at the end."""

    def __init__(self, part: Part, lists: int | None, seed: int) -> None:
        faiss.omp_set_num_threads(1)
        super().__init__(part)
        self.size = int(part.members.size[0])
        self.lists = min(lists or math.isqrt(self.size), self.size)
        self.file = _trained(part, self.lists, seed)
        self.file.add(part.points(part.findable()))
        self.file.set_direct_map_type(faiss.DirectMap.Array)

    def update(self, slots: np.ndarray, settled: np.ndarray) -> None:
        places = self.part.members.places[slots].astype(np.int64) - 1
        self._write(np.sort(places))

    def remove(self, slots: np.ndarray, changed: np.ndarray) -> None:
        self._write(changed)

    def search(self, points: np.ndarray, number: int) -> np.ndarray:
        faiss.omp_set_num_threads(1)
        members = self.part.members
        heads, number = len(points), int(min(number, self.size))
        distances = np.empty((heads, number), np.float32)
        places = np.empty((heads, number), np.int64)
        self.file.search_c(heads, _at(points), number, _at(distances), _at(places))
        # Dead entries have places beyond the members', and what was not found has -1.
        return ranking.looked_up(members.slots, members.size[0], places)

    def nbytes(self) -> int:
        word = 4 * self.part.words.shape[1]
        slot = place = 8
        return self.size * (word + slot + place) + self.lists * word

    def outworn(self) -> bool:
        return self.size - self.part.members.size[0] > max(self.size // LEAST_LIVING, RECENT)

    def _write(self, places: np.ndarray) -> None:
        """Enter the members at `places`, sorted, as they are now; those from `size` on are new."""
        if places.size == 0:
            return
        faiss.omp_set_num_threads(1)
        points = self.part.points(self.part.members.slots[places])
        known = int(np.searchsorted(places, self.size))
        if known:
            self.file.update_vectors_c(known, _at(places), _at(points))
        if known < places.size:
            self.file.add_c(places.size - known, _at(points[known:]))
            self.size += places.size - known


def _trained(part: Part, lists: int, seed: int) -> Any:
    """An empty inverted file with centroids drawn from the findable rows."""
    word_size = part.words.shape[1]
    # The inner product of normalised points is their cosine, that of short words included.
    kind = faiss.METRIC_INNER_PRODUCT if part.cosine else faiss.METRIC_L2
    quantizer = faiss.IndexFlatIP(word_size) if part.cosine else faiss.IndexFlatL2(word_size)
    file = faiss.IndexIVFFlat(quantizer, word_size, lists, kind)
    file.cp.seed = seed % 2**31
    file.cp.min_points_per_centroid = 1
    file.cp.max_points_per_centroid = TRAINING_ROWS
    rows = part.findable()
    sample = np.random.default_rng(seed).permutation(rows.size)[: TRAINING_ROWS * lists]
    file.train(part.points(rows[sample]))
    return file


def _at(array: np.ndarray) -> Any:
    return faiss.swig_ptr(array)
