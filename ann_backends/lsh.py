"""Multi-probe locality-sensitive hashing: O(1) updates, and nothing in it that wears.

A word's code in a table is the signs of its products with random hyperplanes (Charikar 2002): the
nearer two words are in angle, the more of their bits agree. A search looks into the query's own
bucket of every table and into those whose codes differ where the query lies closest to a
hyperplane (Lv et al. 2007, multi-probe LSH). Hyperplanes depend on no data, so overwriting a row
moves it between buckets and leaves everything else as it was.

A bucket is one cache line of `ROOM` entries, oldest first; it overflows where rows crowd. Each
write makes its row *resident* in one table, in turn, and a *guest* in the others. A full bucket
drops its oldest guest, and a resident only for a newer one. Hence what is promised of fresh rows:
the last `ROOM * tables` rows written stand in the bucket that a query equal to them looks into
first, whatever else the memory holds. Older rows in a crowd may stand in no table until the next
rebuild.
"""

from __future__ import annotations

import dataclasses
import functools
import heapq
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ann_backends import checks, lsh_log, lsh_tables
from ann_backends.index import Index, Settings
from ann_backends.log import Log
from ann_backends.lsh_search import search
from ann_backends.lsh_tables import CODES, ENTRY, LOAD, ROOM, Tables
from ann_backends.lsh_wide import MOST_BITS, MOST_PROBES, WideLSHIndex
from ann_backends.prefetching import CACHE_LINE


@dataclasses.dataclass(frozen=True)
class LSH(Settings):
    """Multi-probe LSH for cosine similarity: O(1) per update, sublinear in N per search.

    Building: tables, the number of independent codes of a row (an update's time grows with it,
    and the index's size: 36 to 68 bytes per row and table); bits, the length of a code, by default
    chosen and adapted by the number of findable rows; sketch, whether buckets are wide and their
    rows ranked by 8-bit copies (`ann_backends.lsh_wide`): a search that looks at thousands of rows
    at little cost, so as to find nearly everything.
    Searching, and attributes of the index that may be assigned: probes, the buckets looked into
    per table. More of them find more and cost more; 16 find 0.95 of the nearest 4 to queries near
    one of a million clustered rows. reach, with sketches: of those buckets, the ones farther from
    the query than reach * (1 - s) are left out, where s is the similarity of the k-th best row
    found so far. Queries that have near rows then cost little, others are looked for up to
    `probes`; 0.3 to 0.5 are useful. None: no bucket is.

    With sketches one or two tables are best, and tens of probes or more: with tables=1, probes=512
    and reach=0.35 find 0.95 of a million clustered rows, and for a model in training with 65,536
    words bits=10, probes=256 and reach=0.5 find 0.9. A row of W numbers takes some 2 W + 25 bytes
    per table.

    Where the probed buckets hold fewer than k rows, some rows spread evenly over the findable ones
    (256, or k if that is more) complete the answer, at a loss of recall; with sketches those
    written last do, and if they are too few, all rows.
    """

    name: ClassVar[str] = "lsh"
    metrics: ClassVar[tuple[str, ...]] = ("cosine",)
    min_recall: ClassVar[float] = 0.85
    reversible: ClassVar[bool] = True

    tables: int = 8
    probes: int = 8
    bits: int | None = None
    sketch: bool = False
    reach: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.integer("tables", self.tables, 1, 64)
        checks.integer("probes", self.probes, 1, MOST_PROBES)
        if self.bits is not None:
            checks.integer("bits", self.bits, 0, MOST_BITS)
        if self.reach is not None:
            checks.positive("reach", self.reach)
            if not self.sketch:
                raise ValueError(f"reach: got {self.reach} with sketch=False, expected None")

    def build(
        self,
        memory: npt.ArrayLike,
        *,
        seed: int = 0,
        metric: str = "cosine",
        findable: str = "all",
    ) -> LSHIndex | WideLSHIndex:
        """An index over `memory`; the arguments are those of `Index`."""
        chosen = WideLSHIndex if self.sketch else LSHIndex
        return chosen(self, memory, seed=seed, metric=metric, findable=findable)


class LSHIndex(Index):
    """The `Index` that `LSH` builds."""

    settings: LSH
    _probing: np.ndarray

    @property
    def probes(self) -> int:
        """Buckets that a search looks into per table; at first the settings' own."""
        return self._probing.shape[1]

    @probes.setter
    def probes(self, value: int) -> None:
        checks.integer("probes", value, 1, MOST_PROBES)
        self._probing = probing(self._least_bits, len(self._probing) - 1, value)

    def _clear(self) -> None:
        tables, fixed = self.settings.tables, self.settings.bits
        most_bits = bits_for(self.memory_size) if fixed is None else fixed
        self._least_bits = 0 if fixed is None else fixed
        if not hasattr(self, "_probing"):  # what was assigned outlives a reset
            self._probing = probing(self._least_bits, most_bits, self.settings.probes)
        batch_size, memory_size = self.batch_size, self.memory_size
        planes = np.random.default_rng(self.seed).standard_normal(
            (self.word_size, most_bits * tables)
        )
        self._tables = Tables(
            planes=planes.astype(self.memory.dtype),
            lines=self._lines(tables << most_bits),
            records=self._zeros((batch_size, memory_size, CODES + tables), np.int32),
            members=self._zeros((batch_size, memory_size), np.int32),
            recent=np.zeros((batch_size, ROOM * tables), np.int32),
            findable=np.zeros(batch_size, np.int64),
            bits=np.full(batch_size, self._least_bits),
            written=np.zeros(batch_size, np.int64),
        )

    def _lines(self, number: int) -> np.ndarray:
        """Empty buckets [B, number, ROOM], each within one cache line: starting at one's start."""
        size = self.batch_size * number * ROOM
        spare = CACHE_LINE // ENTRY.itemsize
        entries = self._zeros((size + spare,), ENTRY)
        first = -entries.ctypes.data % CACHE_LINE // ENTRY.itemsize
        return entries[first : first + size].reshape(self.batch_size, number, ROOM)

    def _fill(self) -> None:
        lsh_tables.list_all(self._tables)
        for element in range(self.batch_size):
            self._rebuild(element)

    def _update(self, slots: np.ndarray) -> None:
        done = 0
        while done < slots.size:
            chunk = self._chunk(slots.shape[1])
            done = lsh_tables.update(self._tables, self.memory, slots, done, chunk)
            if done < 0:
                done = -done
                self._lengthen_codes((done - 1) // slots.shape[1])

    def _lengthen_codes(self, element: int) -> None:
        if self._open_log is not None:
            self._note_rebuild(element, self._open_log)
        lsh_tables.lengthen_codes(self._tables, element)

    def _remove(self, slots: np.ndarray) -> None:
        lsh_tables.remove(self._tables, slots, self._chunk(slots.shape[1]))

    def _search(self, queries: np.ndarray, slots: np.ndarray, similarity: np.ndarray) -> None:
        search(self._tables, self._probing, self.memory, queries, slots, similarity)

    def _rebuild(self, element: int) -> None:
        lsh_tables.rebuild(self._tables, self.memory, element, self._least_bits)

    def _findable(self) -> np.ndarray:
        return self._tables.findable

    def _bytes(self) -> int:
        return sum(array.nbytes for array in self._tables)

    def _chunk(self, rows: int) -> np.ndarray:
        """Where to note what happens to so many rows of each element."""
        return self._log_chunk(rows * lsh_tables.note_size(self.settings.tables))

    def _structure(self) -> dict[str, np.ndarray]:
        return {name: array for name, array in self._tables._asdict().items() if name != "planes"}

    def _note_rebuild(self, element: int, log: Log) -> None:
        log.entries.append(lsh_log.Filling.of(self._tables, element))

    def _carry_entry(self, entry: Any, forward: bool) -> None:
        if isinstance(entry, lsh_log.Filling):
            entry.exchange(self._tables)
        elif forward:
            lsh_log.redo(self._tables, entry)
        else:
            lsh_log.undo(self._tables, entry)

    def _element_problem(self, element: int) -> str:
        return lsh_log.problem(self._tables, element, self._least_bits)


def bits_for(rows: int) -> int:
    """The length of the codes that gives buckets of at most LOAD rows on average."""
    return min(max(0, (rows - 1) // LOAD).bit_length(), MOST_BITS)


@functools.lru_cache
def probing(least_bits: int, most_bits: int, probes: int) -> np.ndarray:
    """Which codes to look into, for every length of codes: int32 [most_bits + 1, probes, 2].

    Entry p of a length stands for the code of entry [p, 0] with one more bit flipped: that whose
    hyperplane is the [p, 1]-th nearest to the query. Entry 0 is the query's own code, [-1, -1];
    so are those past the last code.
    """
    sequence = np.full((most_bits + 1, probes, 2), -1, np.int32)
    for bits in range(least_bits, most_bits + 1):
        found: dict[int, int] = {0: 0}
        for p, flipped in enumerate(_flips(bits, probes), start=1):
            last = flipped.bit_length() - 1
            found[flipped] = p
            sequence[bits, p] = found[flipped ^ (1 << last)], last
    return sequence


def _flips(bits: int, probes: int) -> list[int]:
    """The sets of ranks to flip (as bit masks) after the empty one, the likeliest first.

    Near 0 the r-th smallest distance to a hyperplane (r from 1) is about proportional to r, so a
    set's score, the sum of its squared distances, is expected as the sum of r^2. Each set leads
    to two others of higher score: its last rank moved up by one, and the next rank added.
    """
    flips: list[int] = []
    waiting = [(1, 1)]
    while len(flips) + 1 < min(probes, 1 << bits):
        score, flipped = heapq.heappop(waiting)
        flips.append(flipped)
        rank = flipped.bit_length()
        if rank < bits:
            added = flipped | 1 << rank
            score += (rank + 1) ** 2
            heapq.heappush(waiting, (score, added))
            heapq.heappush(waiting, (score - rank**2, added ^ 1 << rank - 1))
    return flips
