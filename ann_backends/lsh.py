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
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from ann_backends import checks
from ann_backends.index import Index, Settings
from ann_backends.lsh_wide import MOST_BITS, MOST_PROBES, WideLSHIndex
from ann_backends.metric import NORM_EPSILON
from ann_backends.prefetching import CACHE_LINE, prefetch

ENTRY = np.dtype(np.int32)
# Entries per bucket: one cache line.
ROOM = CACHE_LINE // ENTRY.itemsize
# Findable rows per bucket, on average, beyond which codes get another bit.
LOAD = 2
# Rows hashed ahead of the buckets that they go to, so that the waits for memory overlap.
AHEAD = 16
# Rows looked at where the probed buckets hold fewer than k.
SAMPLE = 256
# Sums may be reordered, which is what lets them vectorise; NaN and infinity keep their meaning.
REORDERED = {"reassoc", "contract", "nsz"}
# Columns of a record, before the codes.
PLACE, HOME, CODES = 0, 1, 2
# The home of a member that stands in no table yet.
NOWHERE = -1
# Squared norms below this did not overflow float32.
LARGE_SQUARE = 1e37


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


class Tables(NamedTuple):
    """The hash tables of a batch: every array's first axis is the batch element.

    planes: [W, most_bits * L], shared by the batch; bit j of table t is column j * L + t.
    lines: int32 [B, L << most_bits, ROOM], the buckets, each filled from the left, oldest first;
    an entry is slot + 1 of a guest, -(slot + 1) of a resident, 0 where empty.
    records: int32 [B, N, CODES + L], per row its place in `members` + 1 (0: not findable), the
    table it is resident in, and its codes at full length; a bucket is a code's lowest bits.
    members: int32 [B, N], the findable rows, in no order. recent: int32 [B, ROOM * L], a ring
    of the slots written last. findable, bits, written: int64 [B], the findable rows, the present
    length of the codes, and the writes so far.
    """

    planes: np.ndarray
    lines: np.ndarray
    records: np.ndarray
    members: np.ndarray
    recent: np.ndarray
    findable: np.ndarray
    bits: np.ndarray
    written: np.ndarray


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
        _list_all(self._tables)
        for element in range(self.batch_size):
            self._rebuild(element)

    def _update(self, slots: np.ndarray) -> None:
        _update(self._tables, self.memory, slots)

    def _remove(self, slots: np.ndarray) -> None:
        _remove(self._tables, slots)

    def _search(self, queries: np.ndarray, slots: np.ndarray, similarity: np.ndarray) -> None:
        _search(self._tables, self._probing, self.memory, queries, slots, similarity)

    def _rebuild(self, element: int) -> None:
        _rebuild(self._tables, self.memory, element, self._least_bits)

    def _findable(self) -> np.ndarray:
        return self._tables.findable

    def _bytes(self) -> int:
        return sum(array.nbytes for array in self._tables)


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


@njit(nogil=True, cache=True)
def _prefetch_row(array: np.ndarray, row: int, row_size: int) -> None:
    """Ask for a row of `row_size` entries; the processor follows by itself after some lines."""
    first, line = row * row_size, CACHE_LINE // array.itemsize
    size = min(row_size, 4 * line)
    for i in range(first, first + size, line):
        prefetch(array, i)
    # Rows need not start with a cache line, so that they may end in one more.
    prefetch(array, first + size - 1)


@njit(nogil=True, cache=True)
def _project(words: np.ndarray, row: int, planes: np.ndarray, products: np.ndarray) -> None:
    """products[j] = words[row] . planes[:, j].

    No sum may be reordered here: a query equal to a row must get its very bits, wherever and
    however this is inlined. It vectorises over j.
    """
    products[:] = 0
    whole = words.shape[1] // 4 * 4
    for w in range(0, whole, 4):
        a, b, c, d = words[row, w], words[row, w + 1], words[row, w + 2], words[row, w + 3]
        for j in range(products.size):
            ab = a * planes[w, j] + b * planes[w + 1, j]
            products[j] += ab + (c * planes[w + 2, j] + d * planes[w + 3, j])
    for w in range(whole, words.shape[1]):
        for j in range(products.size):
            products[j] += words[row, w] * planes[w, j]


@njit(nogil=True, cache=True)
def _encode(products: np.ndarray, codes: np.ndarray, row: int, first: int) -> None:
    """The codes of one word, all tables, into codes[row, first:]; 0 and -0 are the same side."""
    tables = codes.shape[1] - first
    codes[row, first:] = 0
    for j in range(products.size // tables):
        for t in range(tables):
            codes[row, first + t] += np.int32(products[j * tables + t] > 0) << np.int32(j)


@njit(nogil=True, cache=True)
def _enter(lines: np.ndarray, b: int, line: int, slot: int, resident: bool) -> None:
    """Append a row to a bucket; a full one drops its oldest guest, or resident for resident."""
    entry = np.int32(-(slot + 1) if resident else slot + 1)
    if lines[b, line, ROOM - 1] == 0:
        for i in range(ROOM):
            if lines[b, line, i] == 0:
                lines[b, line, i] = entry
                return
    for i in range(ROOM):
        if lines[b, line, i] > 0:
            _close_up(lines, b, line, i)
            lines[b, line, ROOM - 1] = entry
            return
    if resident:
        _close_up(lines, b, line, 0)
        lines[b, line, ROOM - 1] = entry


@njit(nogil=True, cache=True)
def _leave(lines: np.ndarray, b: int, line: int, slot: int) -> None:
    """Take a row out of a bucket, if it is there."""
    for i in range(ROOM):
        if abs(lines[b, line, i]) == slot + 1:
            _close_up(lines, b, line, i)
            return


@njit(nogil=True, cache=True)
def _close_up(lines: np.ndarray, b: int, line: int, gap: int) -> None:
    for i in range(gap, ROOM - 1):
        lines[b, line, i] = lines[b, line, i + 1]
    lines[b, line, ROOM - 1] = 0


@njit(nogil=True, cache=True)
def _update(index: Tables, memory: np.ndarray, slots: np.ndarray) -> None:
    """Make the rows at `slots` [B, n] findable under their present codes."""
    tables = index.records.shape[2] - CODES
    products = np.empty(index.planes.shape[1], memory.dtype)
    codes = np.empty((AHEAD, tables), np.int32)
    for b in range(slots.shape[0]):
        words = memory[b]
        for first in range(0, slots.shape[1], AHEAD):
            stop = min(first + AHEAD, slots.shape[1])
            _prefetch_records(index, b, slots, first, stop)
            for i in range(first, stop):
                if slots[b, i] >= 0:
                    _project(words, slots[b, i], index.planes, products)
                    _encode(products, codes, i - first, 0)
                    _prefetch_lines(index, b, slots[b, i], codes, i - first)
            for i in range(first, stop):
                if slots[b, i] >= 0:
                    _write(index, b, slots[b, i], codes, i - first)
            _lengthen_codes(index, b)


@njit(nogil=True, cache=True)
def _prefetch_records(index: Tables, b: int, slots: np.ndarray, first: int, stop: int) -> None:
    rows, size = index.records.shape[1:]
    for i in range(first, stop):
        if slots[b, i] >= 0:
            _prefetch_row(index.records, b * rows + slots[b, i], size)


@njit(nogil=True, cache=True)
def _prefetch_lines(index: Tables, b: int, slot: int, codes: np.ndarray, row: int) -> None:
    """Ask for the buckets that a row stands in and for those that it goes to."""
    lines = b * index.lines.shape[1]
    listed = index.records[b, slot, PLACE] > 0
    for t in range(codes.shape[1]):
        prefetch(index.lines, (lines + _line(index, b, t, codes[row, t])) * ROOM)
        if listed:
            old = index.records[b, slot, CODES + t]
            prefetch(index.lines, (lines + _line(index, b, t, old)) * ROOM)


@njit(nogil=True, cache=True)
def _line(index: Tables, b: int, table: int, code: int) -> int:
    """Where the bucket of a code is in lines[b]; short codes use the front of a table's part."""
    tables = index.records.shape[2] - CODES
    return table * (index.lines.shape[1] // tables) + (code & ((1 << index.bits[b]) - 1))


@njit(nogil=True, cache=True)
def _write(index: Tables, b: int, slot: int, codes: np.ndarray, row: int) -> None:
    """Make a row a member, if it is none, with codes[row]; the tables take turns as its home."""
    if index.records[b, slot, PLACE] == 0:
        _list(index, b, slot)
    ring, tables = index.recent.shape[1], codes.shape[1]
    _move(index, b, slot, codes, row, index.written[b] % tables)
    index.recent[b, index.written[b] % ring] = slot
    index.written[b] += 1


@njit(nogil=True, cache=True)
def _list(index: Tables, b: int, slot: int) -> None:
    """Make a row a member that stands in no table yet."""
    index.members[b, index.findable[b]] = slot
    index.findable[b] += 1
    index.records[b, slot, PLACE] = index.findable[b]
    index.records[b, slot, HOME] = NOWHERE


@njit(nogil=True, cache=True)
def _move(index: Tables, b: int, slot: int, codes: np.ndarray, row: int, home: int) -> None:
    """Put a member into the buckets of codes[row], as the newest there and resident at home.

    Where its bucket stays the same a guest stays as it is.
    """
    records = index.records
    old_home = records[b, slot, HOME]
    for t in range(codes.shape[1]):
        old = _line(index, b, t, records[b, slot, CODES + t])
        new = _line(index, b, t, codes[row, t])
        records[b, slot, CODES + t] = codes[row, t]
        if old_home != NOWHERE:
            if old == new and t != home and t != old_home:
                continue
            _leave(index.lines, b, old, slot)
        _enter(index.lines, b, new, slot, t == home)
    records[b, slot, HOME] = home


@njit(nogil=True, cache=True)
def _remove(index: Tables, slots: np.ndarray) -> None:
    """Make the rows at `slots` [B, n] not findable."""
    for b in range(slots.shape[0]):
        for i in range(slots.shape[1]):
            if slots[b, i] >= 0 and index.records[b, slots[b, i], PLACE] > 0:
                _unlist(index, b, slots[b, i])


@njit(nogil=True, cache=True)
def _unlist(index: Tables, b: int, slot: int) -> None:
    """Take a member out of its buckets; the last of the members takes its place among them."""
    records = index.records
    for t in range(records.shape[2] - CODES):
        _leave(index.lines, b, _line(index, b, t, records[b, slot, CODES + t]), slot)
    index.findable[b] -= 1
    last = index.members[b, index.findable[b]]
    index.members[b, records[b, slot, PLACE] - 1] = last
    records[b, last, PLACE] = records[b, slot, PLACE]
    records[b, slot, PLACE] = 0


@njit(nogil=True, cache=True)
def _list_all(index: Tables) -> None:
    for b in range(index.members.shape[0]):
        for slot in range(index.members.shape[1]):
            _list(index, b, slot)


@njit(nogil=True, cache=True)
def _rebuild(index: Tables, memory: np.ndarray, b: int, least_bits: int) -> None:
    """Encode the members of one element as they are now, and fill its tables with them."""
    words = memory[b]
    products = np.empty(index.planes.shape[1], memory.dtype)
    for i in range(index.findable[b]):
        slot = index.members[b, i]
        _project(words, slot, index.planes, products)
        _encode(products, index.records[b], slot, CODES)
    bits = least_bits
    while _is_crowded(index, b, bits):
        bits += 1
    _refill(index, b, bits)


@njit(nogil=True, cache=True)
def _lengthen_codes(index: Tables, b: int) -> None:
    """Use as many bits of the codes as the members have come to need."""
    bits = index.bits[b]
    while _is_crowded(index, b, bits):
        bits += 1
    if bits != index.bits[b]:
        _refill(index, b, bits)


@njit(nogil=True, cache=True)
def _is_crowded(index: Tables, b: int, bits: int) -> bool:
    tables = index.records.shape[2] - CODES
    return index.findable[b] > LOAD << bits and bits < index.planes.shape[1] // tables


@njit(nogil=True, cache=True)
def _refill(index: Tables, b: int, bits: int) -> None:
    """Fill the tables anew from the members' codes, `bits` long; the fresh rows come last."""
    tables = index.records.shape[2] - CODES
    for t in range(tables):
        front = _line(index, b, t, 0)
        index.lines[b, front : front + (1 << index.bits[b])] = 0
    index.bits[b] = bits
    for t in range(tables):
        _refill_table(index, b, t)
    for i in range(index.findable[b]):
        index.records[b, index.members[b, i], HOME] = i % tables
    _replay(index, b)


@njit(nogil=True, cache=True)
def _refill_table(index: Tables, b: int, t: int) -> None:
    """Enter all members into an empty table: one in `tables` as residents, in turn."""
    records, count, tables = index.records, index.findable[b], index.records.shape[2] - CODES
    lines = b * index.lines.shape[1]
    for i in range(count):
        ahead = index.members[b, min(i + AHEAD, count - 1)]
        line = _line(index, b, t, records[b, ahead, CODES + t])
        prefetch(index.lines, (lines + line) * ROOM)
        slot = index.members[b, i]
        line = _line(index, b, t, records[b, slot, CODES + t])
        _enter(index.lines, b, line, slot, i % tables == t)


@njit(nogil=True, cache=True)
def _replay(index: Tables, b: int) -> None:
    """Move the rows written last as if they were written again, in their order."""
    ring, tables = index.recent.shape[1], index.records.shape[2] - CODES
    codes = np.empty((1, tables), np.int32)
    for turn in range(max(0, index.written[b] - ring), index.written[b]):
        slot = index.recent[b, turn % ring]
        if index.records[b, slot, PLACE] > 0:
            codes[0] = index.records[b, slot, CODES:]
            _move(index, b, slot, codes, 0, turn % tables)


@njit(nogil=True, cache=True)
def _search(
    index: Tables,
    probing: np.ndarray,
    memory: np.ndarray,
    queries: np.ndarray,
    slots: np.ndarray,
    similarity: np.ndarray,
) -> None:
    """The k best of memory [B, N, W] for queries [B, H, W] into slots, similarity [B, H, k].

    All buckets of an element's queries are asked for before the first is read, and all rows of a
    query likewise: waiting for memory is most of a search.
    """
    batch_size, num_heads, k = slots.shape
    tables, probes = index.records.shape[2] - CODES, probing.shape[1]
    memory_size = memory.shape[1]
    lines = np.empty((num_heads, tables * probes), np.int64)
    found = np.empty(min(memory_size, tables * probes * ROOM + max(k, SAMPLE)), np.int64)
    scores = np.empty((2, found.size), memory.dtype)
    met = np.zeros(_power_of_two(found.size * 3 // 2 + 1), np.int64)
    ready = np.empty((num_heads, memory.shape[2]), memory.dtype)
    turn = 0
    slots[:] = -1
    similarity[:] = -np.inf
    for b in range(batch_size):
        sequence, words = probing[index.bits[b]], memory[b]
        for h in range(num_heads):
            _choose_lines(index, sequence, b, queries[b], h, lines)
            _normalise(queries[b], h, ready)
        for h in range(num_heads):
            turn += 1
            number = _gather(index, b, lines, h, memory, found, met, turn)
            if number < k:
                number = _sample(index, b, max(k, SAMPLE), found, number, met, turn)
            rows = found[:number]
            _products(words, ready, h, rows, scores)
            _cosines(words, rows, scores)
            _keep_best(rows, scores, slots[b, h], similarity[b, h])
            _sort(slots[b, h], similarity[b, h])


@njit(nogil=True, cache=True)
def _power_of_two(least: int) -> int:
    power = 1
    while power < least:
        power *= 2
    return power


@njit(nogil=True, cache=True)
def _choose_lines(
    index: Tables,
    sequence: np.ndarray,
    b: int,
    queries: np.ndarray,
    h: int,
    lines: np.ndarray,
) -> None:
    """The buckets to look into for queries[h], into lines[h]; -1 behind the last code's."""
    tables, probes = index.records.shape[2] - CODES, sequence.shape[0]
    bits = index.bits[b]
    products = np.empty(index.planes.shape[1], queries.dtype)
    codes = np.empty((1, tables), np.int32)
    nearest = np.empty(bits, np.int64)
    _project(queries, h, index.planes, products)
    _encode(products, codes, 0, 0)
    ranks = 0
    for p in range(probes):
        ranks = max(ranks, sequence[p, 1] + 1)
    for t in range(tables):
        _rank_planes(products, t, tables, ranks, nearest)
        first = t * probes
        lines[h, first] = _line(index, b, t, codes[0, t])
        for p in range(1, probes):
            lines[h, first + p] = -1
            if sequence[p, 0] >= 0:
                flipped = 1 << nearest[sequence[p, 1]]
                lines[h, first + p] = lines[h, first + sequence[p, 0]] ^ flipped
        for p in range(probes):
            prefetch(index.lines, (b * index.lines.shape[1] + max(0, lines[h, first + p])) * ROOM)


@njit(nogil=True, cache=True)
def _rank_planes(
    products: np.ndarray, t: int, tables: int, ranks: int, nearest: np.ndarray
) -> None:
    """The bits of table t, those of the `ranks` nearest hyperplanes first and in order."""
    for j in range(nearest.size):
        nearest[j] = j
    for r in range(ranks):
        best = r
        for j in range(r + 1, nearest.size):
            closer = abs(products[nearest[j] * tables + t])
            if closer < abs(products[nearest[best] * tables + t]):
                best = j
        nearest[r], nearest[best] = nearest[best], nearest[r]


@njit(nogil=True, cache=True)
def _gather(
    index: Tables,
    b: int,
    lines: np.ndarray,
    h: int,
    memory: np.ndarray,
    found: np.ndarray,
    met: np.ndarray,
    turn: int,
) -> int:
    """The rows in the buckets lines[h], each once, into `found`; their number."""
    number, (_, rows, word_size) = 0, memory.shape
    for p in range(lines.shape[1]):
        if lines[h, p] < 0:
            continue
        for i in range(ROOM):
            entry = index.lines[b, lines[h, p], i]
            if entry == 0:
                break
            slot = abs(entry) - 1
            if _is_new(met, turn, slot):
                found[number] = slot
                number += 1
                _prefetch_row(memory, b * rows + slot, word_size)
    return number


@njit(nogil=True, cache=True)
def _sample(
    index: Tables, b: int, size: int, found: np.ndarray, number: int, met: np.ndarray, turn: int
) -> int:
    """Add up to `size` members, evenly spread over their list, to `found`; the new number.

    At least `size` of them (or all) are in `found` then, as those looked at are distinct.
    """
    size = min(size, index.findable[b])
    for i in range(size):
        slot = index.members[b, i * index.findable[b] // size]
        if _is_new(met, turn, slot):
            found[number] = slot
            number += 1
    return number


@njit(nogil=True, cache=True)
def _is_new(met: np.ndarray, turn: int, slot: int) -> bool:
    """Whether this turn meets a slot for the first time; `met` is a hash set of (turn, slot).

    Entries of earlier turns count as empty, so that a new turn costs nothing.
    """
    entry = turn << 32 | slot
    i = (slot * 0x9E3779B1 >> 15) & (met.size - 1)
    while met[i] >> 32 == turn:
        if met[i] == entry:
            return False
        i = (i + 1) & (met.size - 1)
    met[i] = entry
    return True


@njit(nogil=True, cache=True)
def _normalise(queries: np.ndarray, h: int, ready: np.ndarray) -> None:
    """ready[h] = queries[h] / sqrt(|queries[h]|^2 + eps)."""
    factor = 1.0 / np.sqrt(_squared_norm(queries, h) + NORM_EPSILON)
    for w in range(ready.shape[1]):
        ready[h, w] = queries[h, w] * factor


@njit(nogil=True, cache=True)
def _squared_norm(words: np.ndarray, row: int) -> float:
    """In double precision: no finite float32 word overflows it."""
    total = 0.0
    for w in range(words.shape[1]):
        total += np.float64(words[row, w]) ** 2
    return total


@njit(nogil=True, cache=True, fastmath=REORDERED)
def _products(
    words: np.ndarray, ready: np.ndarray, h: int, found: np.ndarray, scores: np.ndarray
) -> None:
    """scores[0], [1]: words[found] . ready[h] and |words[found]|^2, from one reading of a row."""
    for i in range(found.size):
        slot = found[i]
        dot = squared_norm = words.dtype.type(0)
        for w in range(words.shape[1]):
            dot += words[slot, w] * ready[h, w]
            squared_norm += words[slot, w] * words[slot, w]
        scores[0, i], scores[1, i] = dot, squared_norm


# NumPy's divisions raise nothing, which lets them vectorise.
@njit(nogil=True, cache=True, error_model="numpy")
def _cosines(words: np.ndarray, found: np.ndarray, scores: np.ndarray) -> None:
    """scores[0] becomes the similarity of the `found` rows."""
    epsilon = scores.dtype.type(NORM_EPSILON)
    largest = scores.dtype.type(0)
    for i in range(found.size):
        largest = max(largest, scores[1, i])
    if largest < LARGE_SQUARE:
        for i in range(found.size):
            scores[0, i] /= np.sqrt(scores[1, i] + epsilon)
    else:
        for i in range(found.size):
            scores[0, i] /= np.sqrt(_squared_norm(words, found[i]) + NORM_EPSILON)


@njit(nogil=True, cache=True)
def _keep_best(
    found: np.ndarray, scores: np.ndarray, slots: np.ndarray, similarity: np.ndarray
) -> None:
    """Take the `found` rows into the best [k] so far of one query: a heap led by the worst."""
    for i in range(found.size):
        value = scores[0, i]
        if value > similarity[0] or (value == similarity[0] and found[i] < slots[0]):
            similarity[0], slots[0] = value, found[i]
            _sink(slots, similarity, slots.size)


@njit(nogil=True, cache=True)
def _sink(slots: np.ndarray, similarity: np.ndarray, size: int) -> None:
    """Restore the heap of the first `size` entries after its leader was replaced."""
    parent = 0
    while True:
        child = 2 * parent + 1
        if child >= size:
            return
        if child + 1 < size and _is_worse(slots, similarity, child + 1, child):
            child += 1
        if not _is_worse(slots, similarity, child, parent):
            return
        _swap(slots, similarity, parent, child)
        parent = child


@njit(nogil=True, cache=True)
def _sort(slots: np.ndarray, similarity: np.ndarray) -> None:
    """Turn the heap into a list, best first: its worst goes to the end, again and again."""
    for last in range(slots.size - 1, 0, -1):
        _swap(slots, similarity, 0, last)
        _sink(slots, similarity, last)


@njit(nogil=True, cache=True)
def _is_worse(slots: np.ndarray, similarity: np.ndarray, i: int, j: int) -> bool:
    """Whether entry i comes after entry j: less similar, or as similar at a higher slot."""
    if similarity[i] == similarity[j]:
        return slots[i] > slots[j]
    return similarity[i] < similarity[j]


@njit(nogil=True, cache=True)
def _swap(slots: np.ndarray, similarity: np.ndarray, i: int, j: int) -> None:
    slots[i], slots[j] = slots[j], slots[i]
    similarity[i], similarity[j] = similarity[j], similarity[i]
