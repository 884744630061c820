"""Locality-sensitive hashing with wide buckets, whose rows are ranked by their sketches.

Codes are vertices of cross-polytopes (Andoni et al. 2015, "Practical and optimal LSH for angular
distance"): a word's coordinates in a random basis are taken by eights, and each eight says
which of its axes the word is nearest to, and at which end; the last may be fewer, so that codes
are of any length. Rotations depend on no data. Codes are short: a bucket holds tens of rows, and a
search scans whole buckets, sixteen rows at a time, by the 8-bit copies that
`ann_backends.sketch` makes. It takes the buckets whose vertices are least farther from the query
than the nearest ones are; with a `reach`, no farther than rows as near as those found already
are likely to be.

A bucket is a chain of blocks, all of them full but the newest. A row that leaves is replaced by
the bucket's last one, and blocks that run empty are used again: nothing wears. A bucket of
`LARGEST` rows drops one of its newest block's for each that comes; such a row stands in one table
less until it is written again.

What is promised of fresh rows: a row found in the query's own bucket of the first table that may
equal the query is scored by itself, so that no crowd hides it, and the rows written last, `RECENT`
of them, are ranked in every search.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from ann_backends import checks, ranking
from ann_backends.index import Index
from ann_backends.metric import NORM_EPSILON
from ann_backends.prefetching import CACHE_LINE, prefetch
from ann_backends.sketch import (
    FOUR,
    LANES,
    QUERY_NUMBERS,
    copy_lane,
    group_shape,
    keep,
    lowest_bit,
    prepare_query,
    score_group,
    write_lane,
)

# Rows per block, a multiple of LANES.
BLOCK = 32
GROUPS = BLOCK // LANES
# Findable rows per bucket, on average, beyond which codes get another bit.
LOAD = 32
# Rows that a bucket holds at most, a multiple of BLOCK; crowds of tens of LOAD are common.
LARGEST = 256 * LOAD
MOST_BITS, MOST_PROBES = 24, 2**16
# Rows written last that every search ranks.
RECENT = 64
# Rows found by their sketches that are ranked by themselves; or twice k, if that is more.
RERANKED = 16
# Equal words have equal sketches, whose scores differ by no more than rounding.
ROUNDING, TINY = 1e-5, 1e-30
# Bisections: more would not tell float32 numbers apart.
CUTS = 24
# Blocks asked for before they are read, and rows hashed before their buckets are changed.
BLOCKS_AHEAD, ROWS_AHEAD = 4, 16
# Bits that say which vertex of a cross-polytope, and so many axes it has.
VERTEX_BITS = 4
AXES = 1 << VERTEX_BITS - 1
# Columns of a record: its place in the list of members, then codes, then places in the tables.
LISTED, CODES = 0, 1
# Columns of Tables.buckets.
NEWEST, SIZE = range(2)
# Columns of Tables.state.
FINDABLE, BITS, WRITTEN, USED, FREE = range(5)


class Tables(NamedTuple):
    """The hash tables of a batch; after `axes` every array's first axis is the batch element.

    axes: [W, L * C], shared by the batch; those of table t, by AXES, are columns t * C and on.
    buckets: int32 [B, L << most_bits, 2], of each bucket its NEWEST block, 0 if it has none, and
    its SIZE, the number of its rows; short codes use the front of a table's part.
    older: int32 [B, M], per block the next one of its bucket, or of those to be used again; 0 if
    none, as blocks are numbered from 1.
    sketches: int8 [B * M * GROUPS, W / 4 + 1, LANES, 4], the rows of all blocks. Behind the numbers
    of a group, where one look at the memory brings them along, stand the rows' slots: the last of
    slots, int32 [B * M * GROUPS, W / 4 + 1, LANES], the same memory.
    records: int32 [B, N, 1 + 2 L], per row its place in `members` + 1 (0: not findable), its codes,
    and where it stands in each table, block * BLOCK + lane (0: nowhere).
    members: int32 [B, N], the findable rows, in no order. recent: int32 [B, RECENT], a ring of the
    slots written last; of others before, or -1.
    state: int64 [B, 5], the findable rows, the present length of codes, the writes so far, the
    blocks in use so far, and the first to be used again.
    """

    axes: np.ndarray
    buckets: np.ndarray
    older: np.ndarray
    sketches: np.ndarray
    slots: np.ndarray
    records: np.ndarray
    members: np.ndarray
    recent: np.ndarray
    state: np.ndarray


class WideLSHIndex(Index):
    """The `Index` that `LSH` builds with sketches."""

    settings: Any  # the `LSH` that builds it, which imports this file

    @property
    def probes(self) -> int:
        """Buckets that a search looks into per table; at first the settings' own."""
        return self._probes

    @probes.setter
    def probes(self, value: int) -> None:
        self._probes = checks.integer("probes", value, 1, MOST_PROBES)

    @property
    def reach(self) -> float | None:
        """How far a search looks, see `LSH`; at first the settings' own."""
        return self._reach

    @reach.setter
    def reach(self, value: float | None) -> None:
        self._reach = value if value is None else checks.positive("reach", value)

    def _clear(self) -> None:
        tables, fixed = self.settings.tables, self.settings.bits
        self._probes = getattr(self, "_probes", self.settings.probes)
        self._reach = getattr(self, "_reach", self.settings.reach)
        self._least_bits = 0 if fixed is None else fixed
        most_bits = bits_for(self.memory_size) if fixed is None else fixed
        batch_size, memory_size = self.batch_size, self.memory_size
        # All blocks of a bucket but one are full.
        blocks = 1 + tables * min(memory_size, memory_size // BLOCK + (1 << most_bits))
        fours, *lanes = group_shape(self.word_size)
        sketches = self._zeros((batch_size * blocks * GROUPS, fours + 1, *lanes), np.int8)
        axes = random_axes(self.word_size, tables, most_bits, self.seed)
        state = np.zeros((batch_size, 5), np.int64)
        state[:, BITS] = self._least_bits
        self._tables = Tables(
            axes=axes.astype(self.memory.dtype),
            buckets=self._zeros((batch_size, tables << most_bits, 2), np.int32),
            older=self._zeros((batch_size, blocks), np.int32),
            sketches=sketches,
            slots=sketches.view(np.int32)[..., 0],
            records=self._zeros((batch_size, memory_size, CODES + 2 * tables), np.int32),
            members=self._zeros((batch_size, memory_size), np.int32),
            recent=np.full((batch_size, RECENT), -1, np.int32),
            state=state,
        )

    def _fill(self) -> None:
        _list_all(self._tables)
        for element in range(self.batch_size):
            self._rebuild(element)

    def _update(self, slots: np.ndarray) -> None:
        _update(self._tables, self.memory, slots)

    def _remove(self, slots: np.ndarray) -> None:
        _remove(self._tables, slots)

    def _search(self, queries: np.ndarray, slots: np.ndarray, similarity: np.ndarray) -> None:
        reach = math.inf if self._reach is None else self._reach
        limits = self._probes, reach
        _search(self._tables, limits, self.memory, queries, slots, similarity)

    def _rebuild(self, element: int) -> None:
        _rebuild(self._tables, self.memory, element, self._least_bits)

    def _findable(self) -> np.ndarray:
        return self._tables.state[:, FINDABLE]

    def _bytes(self) -> int:
        return sum(array.nbytes for array in self._tables) - self._tables.slots.nbytes


def bits_for(rows: int) -> int:
    """The length of the codes that gives buckets of at most LOAD rows on average."""
    return min(max(0, (rows - 1) // LOAD).bit_length(), MOST_BITS)


def random_axes(word_size: int, tables: int, bits: int, seed: int) -> np.ndarray:
    """Random unit vectors [W, tables * C] for codes of `bits`; a table's are orthogonal W by W."""
    rng = np.random.default_rng(seed)
    axes = np.empty((word_size, tables, AXES * math.ceil(bits / VERTEX_BITS)))
    for table in range(tables):
        for first in range(0, axes.shape[2], word_size):
            basis = np.linalg.qr(rng.standard_normal((word_size, word_size)))[0]
            axes[:, table, first : first + word_size] = basis[:, : axes.shape[2] - first]
    return axes.reshape(word_size, -1)


@njit(nogil=True, cache=True)
def _prefetch_groups(index: Tables, group: int, number: int) -> None:
    size = index.sketches.shape[1] * LANES * FOUR
    for i in range(group * size, (group + number) * size, CACHE_LINE):
        prefetch(index.sketches, i)


@njit(nogil=True, cache=True)
def _prefetch_row(index: Tables, memory: np.ndarray, b: int, slot: int) -> None:
    """Ask for a row's record and its word, which will be looked at when all heads have theirs."""
    row, word_size = b * memory.shape[1] + slot, memory.shape[2]
    prefetch(index.records, row * index.records.shape[2])
    for i in range(row * word_size, (row + 1) * word_size, CACHE_LINE // memory.itemsize):
        prefetch(memory, i)


@njit(nogil=True, cache=True)
def _inverse_norm(words: np.ndarray, row: int) -> float:
    # Four sums, as each addition waits for the one before it.
    a = b = c = d = 0.0
    whole = words.shape[1] // FOUR * FOUR
    for w in range(0, whole, FOUR):
        a += np.float64(words[row, w]) ** 2
        b += np.float64(words[row, w + 1]) ** 2
        c += np.float64(words[row, w + 2]) ** 2
        d += np.float64(words[row, w + 3]) ** 2
    for w in range(whole, words.shape[1]):
        a += np.float64(words[row, w]) ** 2
    return 1.0 / np.sqrt((a + b) + (c + d) + NORM_EPSILON)


@njit(nogil=True, cache=True)
def _encode(
    index: Tables, b: int, words: np.ndarray, row: int, products: np.ndarray, codes: np.ndarray
) -> None:
    """products[j] = words[row] . axes[:, j] / |words[row]|, and the codes of all tables [L].

    Nothing may be reordered here: a query equal to a row must get its very codes.
    """
    axes, number = index.axes, index.axes.dtype.type
    scale, whole = _inverse_norm(words, row), words.shape[1] // FOUR * FOUR
    products[:] = 0
    for w in range(0, whole, FOUR):
        p, q = number(words[row, w] * scale), number(words[row, w + 1] * scale)
        r, s = number(words[row, w + 2] * scale), number(words[row, w + 3] * scale)
        for j in range(products.size):
            pq = p * axes[w, j] + q * axes[w + 1, j]
            products[j] += pq + (r * axes[w + 2, j] + s * axes[w + 3, j])
    for w in range(whole, words.shape[1]):
        for j in range(products.size):
            products[j] += number(words[row, w] * scale) * axes[w, j]
    for t in range(codes.size):
        first, left = t * (products.size // codes.size), index.state[b, BITS]
        codes[t] = 0
        while left > 0:
            bits = min(left, VERTEX_BITS)
            vertex = _nearest_vertex(products, first, 1 << bits - 1)
            codes[t] = codes[t] << bits | vertex
            first, left = first + AXES, left - bits


@njit(nogil=True, cache=True)
def _nearest_vertex(coordinates: np.ndarray, first: int, size: int) -> int:
    """Of `size` coordinates from `first` on the largest in size, i: 2 i, or 2 i + 1 if positive."""
    nearest, largest = 0, coordinates[first]
    for i in range(1, size):
        # Not a branch, which would be foreseen wrongly.
        coordinate = coordinates[first + i]
        larger = abs(coordinate) > abs(largest)
        nearest = i if larger else nearest
        largest = coordinate if larger else largest
    return 2 * nearest + int(largest > 0)


@njit(nogil=True, cache=True)
def _bucket(index: Tables, table: int, code: int) -> int:
    """The bucket of a code, in buckets[b]."""
    return table * (index.buckets.shape[1] // (index.records.shape[2] // 2)) + code


@njit(nogil=True, cache=True)
def _group(index: Tables, b: int, place: int) -> int:
    """The group of sketches that a place, block * BLOCK + lane, is in."""
    return b * index.older.shape[1] * GROUPS + place // LANES


@njit(nogil=True, cache=True)
def _slot(index: Tables, b: int, place: int) -> int:
    """The row that stands in a place."""
    return index.slots[_group(index, b, place), index.slots.shape[1] - 1, place % LANES]


@njit(nogil=True, cache=True)
def _enter(index: Tables, words: np.ndarray, b: int, t: int, slot: int) -> None:
    """Append a row to the bucket of its code; in a full one it takes another's place."""
    tables, state = index.records.shape[2] // 2, index.state
    bucket = _bucket(index, t, index.records[b, slot, CODES + t])
    lane = index.buckets[b, bucket, SIZE] % BLOCK
    if index.buckets[b, bucket, SIZE] == LARGEST:
        lane = state[b, WRITTEN] % BLOCK
        dropped = _slot(index, b, index.buckets[b, bucket, NEWEST] * BLOCK + lane)
        index.records[b, dropped, CODES + tables + t] = 0
    else:
        index.buckets[b, bucket, SIZE] += 1
        if lane == 0:
            block = state[b, FREE]
            if block:
                state[b, FREE] = index.older[b, block]
            else:
                state[b, USED] += 1
                block = state[b, USED]
            index.older[b, block] = index.buckets[b, bucket, NEWEST]
            index.buckets[b, bucket, NEWEST] = block
    block = index.buckets[b, bucket, NEWEST]
    place = block * BLOCK + lane
    index.records[b, slot, CODES + tables + t] = place
    group = _group(index, b, place)
    index.slots[group, index.slots.shape[1] - 1, place % LANES] = slot
    write_lane(index.sketches, group, place % LANES, words, slot)


@njit(nogil=True, cache=True)
def _leave(index: Tables, b: int, t: int, slot: int) -> None:
    """Take a row out of its bucket, if it is there; the bucket's last one takes its place."""
    tables, records = index.records.shape[2] // 2, index.records
    place = records[b, slot, CODES + tables + t]
    if place == 0:
        return
    bucket = _bucket(index, t, records[b, slot, CODES + t])
    index.buckets[b, bucket, SIZE] -= 1
    block, lane = index.buckets[b, bucket, NEWEST], index.buckets[b, bucket, SIZE] % BLOCK
    last = block * BLOCK + lane
    if place != last:
        records[b, _slot(index, b, last), CODES + tables + t] = place
        group, to_group = _group(index, b, last), _group(index, b, place)
        copy_lane(index.sketches, group, last % LANES, to_group, place % LANES)
    records[b, slot, CODES + tables + t] = 0
    if lane == 0:
        index.buckets[b, bucket, NEWEST] = index.older[b, block]
        index.older[b, block] = index.state[b, FREE]
        index.state[b, FREE] = block


@njit(nogil=True, cache=True)
def _update(index: Tables, memory: np.ndarray, slots: np.ndarray) -> None:
    """Make the rows at `slots` [B, n] findable under their present codes."""
    products = np.empty(index.axes.shape[1], memory.dtype)
    codes = np.empty((ROWS_AHEAD, index.records.shape[2] // 2), np.int32)
    for b in range(slots.shape[0]):
        for first in range(0, slots.shape[1], ROWS_AHEAD):
            own = slots[b, first : first + ROWS_AHEAD]
            for slot in own:
                if slot >= 0:
                    prefetch(index.records, (b * memory.shape[1] + slot) * index.records.shape[2])
            for i in range(own.size):
                if own[i] >= 0:
                    _encode(index, b, memory[b], own[i], products, codes[i])
                    _prefetch_places(index, b, own[i], codes[i])
            for i in range(own.size):
                if own[i] >= 0:
                    _write(index, memory[b], b, own[i], codes[i])
            _lengthen_codes(index, memory[b], b)


@njit(nogil=True, cache=True)
def _prefetch_places(index: Tables, b: int, slot: int, codes: np.ndarray) -> None:
    """Ask for the sketches that a row leaves and for those that it joins."""
    tables = codes.size
    for t in range(tables):
        old = index.records[b, slot, CODES + tables + t]
        if old:
            bucket = _bucket(index, t, index.records[b, slot, CODES + t])
            lane = (index.buckets[b, bucket, SIZE] - 1) % BLOCK
            last = index.buckets[b, bucket, NEWEST] * BLOCK + lane
            _prefetch_groups(index, _group(index, b, old), 1)
            _prefetch_groups(index, _group(index, b, last), 1)
        bucket = _bucket(index, t, codes[t])
        new = index.buckets[b, bucket, NEWEST] * BLOCK + index.buckets[b, bucket, SIZE] % BLOCK
        _prefetch_groups(index, _group(index, b, new), 1)


@njit(nogil=True, cache=True)
def _write(index: Tables, words: np.ndarray, b: int, slot: int, codes: np.ndarray) -> None:
    """Make a row a member, if it is none, and put it where its new codes belong."""
    tables, records = codes.size, index.records
    if records[b, slot, LISTED] == 0:
        _list(index, b, slot)
    for t in range(tables):
        place = records[b, slot, CODES + tables + t]
        if place and records[b, slot, CODES + t] == codes[t]:
            write_lane(index.sketches, _group(index, b, place), place % LANES, words, slot)
        else:
            _leave(index, b, t, slot)
            records[b, slot, CODES + t] = codes[t]
            _enter(index, words, b, t, slot)
    index.recent[b, index.state[b, WRITTEN] % RECENT] = slot
    index.state[b, WRITTEN] += 1


@njit(nogil=True, cache=True)
def _list(index: Tables, b: int, slot: int) -> None:
    """Make a row a member, that stands in no table yet."""
    index.members[b, index.state[b, FINDABLE]] = slot
    index.state[b, FINDABLE] += 1
    index.records[b, slot, LISTED] = index.state[b, FINDABLE]


@njit(nogil=True, cache=True)
def _list_all(index: Tables) -> None:
    for b in range(index.members.shape[0]):
        for slot in range(index.members.shape[1]):
            _list(index, b, slot)


@njit(nogil=True, cache=True)
def _remove(index: Tables, slots: np.ndarray) -> None:
    """Make the rows at `slots` [B, n] not findable; the last member takes a leaving one's place."""
    records, state = index.records, index.state
    for b in range(slots.shape[0]):
        for slot in slots[b]:
            if slot < 0 or records[b, slot, LISTED] == 0:
                continue
            for t in range(records.shape[2] // 2):
                _leave(index, b, t, slot)
            state[b, FINDABLE] -= 1
            last = index.members[b, state[b, FINDABLE]]
            index.members[b, records[b, slot, LISTED] - 1] = last
            records[b, last, LISTED] = records[b, slot, LISTED]
            records[b, slot, LISTED] = 0


@njit(nogil=True, cache=True)
def _rebuild(index: Tables, memory: np.ndarray, b: int, least_bits: int) -> None:
    """Fill the tables of one element anew with its members as they are now."""
    bits, count = least_bits, index.state[b, FINDABLE]
    while _is_crowded(index, b, bits):
        bits += 1
    _refill(index, memory[b], b, bits)
    # Until as many are written, some rows spread over the memory fill up answers.
    for i in range(min(RECENT, count)):
        if index.recent[b, i] < 0:
            index.recent[b, i] = index.members[b, i * count // min(RECENT, count)]


@njit(nogil=True, cache=True)
def _lengthen_codes(index: Tables, words: np.ndarray, b: int) -> None:
    """Use codes as long as the members have come to need."""
    bits = index.state[b, BITS]
    while _is_crowded(index, b, bits):
        bits += 1
    if bits != index.state[b, BITS]:
        _refill(index, words, b, bits)


@njit(nogil=True, cache=True)
def _is_crowded(index: Tables, b: int, bits: int) -> bool:
    buckets, tables = index.buckets.shape[1], index.records.shape[2] // 2
    return index.state[b, FINDABLE] > LOAD << bits and tables << bits < buckets


@njit(nogil=True, cache=True)
def _refill(index: Tables, words: np.ndarray, b: int, bits: int) -> None:
    """Fill the tables anew with the members under codes of so many bits."""
    tables, state = index.records.shape[2] // 2, index.state
    for t in range(tables):
        first = _bucket(index, t, 0)
        stop = first + (1 << state[b, BITS])
        index.buckets[b, first:stop] = 0
    state[b, BITS] = bits
    state[b, USED] = state[b, FREE] = 0
    products = np.empty(index.axes.shape[1], words.dtype)
    for slot in index.members[b, : state[b, FINDABLE]]:
        _encode(index, b, words, slot, products, index.records[b, slot, CODES : CODES + tables])
        for t in range(tables):
            _enter(index, words, b, t, slot)


@njit(nogil=True, cache=True)
def _search(
    index: Tables,
    limits: tuple[int, float],
    memory: np.ndarray,
    queries: np.ndarray,
    slots: np.ndarray,
    similarity: np.ndarray,
) -> None:
    """The k best of memory [B, N, W] for queries [B, H, W] into slots, similarity [B, H, k].

    limits: of the buckets looked into, their number per table and the reach.
    """
    batch_size, num_heads, k = slots.shape
    tables = index.records.shape[2] // 2
    products = np.empty(index.axes.shape[1], memory.dtype)
    codes = np.empty(tables, np.int32)
    # The blocks to scan, how many rows each has and how far its bucket is. They are the search's
    # own, as other threads may search too; what is not written of them is never resident.
    number_of_blocks = index.older.shape[1]
    blocks = np.empty(number_of_blocks, np.int32), np.empty(number_of_blocks, np.int32)
    distances = np.empty(number_of_blocks, np.float32)
    probes, reach = limits
    prepared = np.empty((index.sketches.shape[1], QUERY_NUMBERS), np.int16)
    found = np.empty((num_heads, max(RERANKED, 2 * k)), np.int64)
    best = np.empty(found.shape[1], np.float32)
    for b in range(batch_size):
        found[:] = -1
        bits, rows, own_queries = index.state[b, BITS], memory[b], queries[b]
        for h in range(num_heads):
            best[:] = -np.inf
            _encode(index, b, own_queries, h, products, codes)
            prepare_query(own_queries[h], prepared)
            asked = rows, own_queries, h, prepared
            equal = _own_score(own_queries, h, prepared)
            # What is found close by says how far to look.
            close = _close_codes(products, bits, 1 if math.isinf(reach) else probes)
            number = doubtful = 0
            for code in close:
                number = _list_blocks(index, b, _bucket(index, 0, code), *blocks, number)
                doubtful = number if code == close[0] else doubtful
            distances[:number] = 0
            listed = blocks[0][:number], blocks[1][:number]
            _scan(index, b, listed, distances, reach, k, (equal, doubtful), asked, found[h], best)
            number = 0
            for t in range(tables):
                coordinates = products[t * (products.size // tables) :]
                farthest = _farthest(reach, best[best.size - k])
                near, gaps = _codes_within(coordinates, bits, probes, farthest)
                for code in near:  # before they are listed, which would wait for one after another
                    at = b * index.buckets.shape[1] + _bucket(index, t, code)
                    prefetch(index.buckets, at * index.buckets.shape[2])
                for i in range(near.size):
                    if t == 0 and _holds(close, near[i]):
                        continue
                    before = number
                    number = _list_blocks(index, b, _bucket(index, t, near[i]), *blocks, number)
                    distances[before:number] = gaps[i]
            listed = blocks[0][:number], blocks[1][:number]
            _scan(index, b, listed, distances, reach, k, (equal, 0), asked, found[h], best)
            for slot in found[h]:
                if slot >= 0:
                    _prefetch_row(index, memory, b, slot)
        places, size = index.records[b, :, LISTED], index.state[b, FINDABLE : FINDABLE + 1]
        given = own_queries, True, found, index.recent[b]
        ranking.rank(rows, index.members[b], places, size, *given, slots[b], similarity[b])


@njit(nogil=True, cache=True)
def _close_codes(coordinates: np.ndarray, bits: int, most: int) -> np.ndarray:
    """A query's own code, then those with the second nearest vertex in one place: int32, to `most`.

    coordinates: the query's along a table's axes.
    """
    codes = np.zeros(1 + (bits + VERTEX_BITS - 1) // VERTEX_BITS, np.int32)
    left = bits
    for place in range(codes.size - 1):
        size, first = min(left, VERTEX_BITS), place * AXES
        nearest = _nearest_vertex(coordinates, first, 1 << size - 1)
        # With one axis alone, its other end.
        second, largest = nearest ^ 1, np.float32(-1)
        for i in range(1 << size - 1):
            coordinate = coordinates[first + i]
            if i != nearest // 2 and abs(coordinate) > largest:
                second, largest = 2 * i + int(coordinate > 0), np.float32(abs(coordinate))
        for i in range(codes.size):
            codes[i] = codes[i] << size | (second if i == place + 1 else nearest)
        left -= size
    return codes[:most]


@njit(nogil=True, cache=True)
def _holds(codes: np.ndarray, code: int) -> bool:
    found = False
    for each in codes:
        found |= each == code
    return found


@njit(nogil=True, cache=True)
def _farthest(reach: float, kth: float) -> float:
    """How far buckets may be to be looked into, when the k-th best row so far scores `kth`."""
    return reach if math.isinf(reach) else reach * (1 - min(kth, 1))


@njit(nogil=True, cache=True)
def _codes_within(
    coordinates: np.ndarray, bits: int, probes: int, farthest: float
) -> tuple[np.ndarray, np.ndarray]:
    """The codes of the buckets that are no farther than that, and their distances: int32, float32.

    The query's own comes first. Of more than `probes`, the nearest ones.
    """
    codes, distances = np.empty(probes, np.int32), np.empty(probes, np.float32)
    vertices, gaps = np.empty(2 * AXES, np.int32), np.empty(2 * AXES, np.float32)
    codes[0], distances[0] = 0, 0
    first, left, count = 0, bits, 1
    while left > 0:
        size = min(left, VERTEX_BITS)
        near = _vertices_within(coordinates, first, 1 << size - 1, farthest, vertices, gaps)
        for i in range(count):
            for vertex in range(1, near):
                distance = distances[i] + gaps[vertex]
                if distance > farthest:
                    break
                if count == probes:
                    return _nearest_codes(coordinates, bits, probes)
                codes[count], distances[count] = codes[i] << size | vertices[vertex], distance
                count += 1
            codes[i] = codes[i] << size | vertices[0]
        first, left = first + AXES, left - size
    return codes[:count], distances[:count]


@njit(nogil=True, cache=True)
def _vertices_within(
    coordinates: np.ndarray,
    first: int,
    size: int,
    farthest: float,
    vertices: np.ndarray,
    gaps: np.ndarray,
) -> int:
    """Set the vertices that are no farther than that, the nearest one first, and how far they are.

    Of `size` coordinates from `first` on. How far: the square of how much less the coordinate there
    is than the largest. Returns how many.
    """
    own = _nearest_vertex(coordinates, first, size)
    largest = abs(coordinates[first + own // 2])
    vertices[0], gaps[0] = own, 0
    count = 1
    for vertex in range(2 * size):
        coordinate = coordinates[first + vertex // 2]
        gap = np.float32(largest - (coordinate if vertex % 2 else -coordinate))
        gap *= gap
        if gap <= farthest and vertex != own:
            place = count
            while place > 1 and gaps[place - 1] > gap:
                vertices[place], gaps[place] = vertices[place - 1], gaps[place - 1]
                place -= 1
            vertices[place], gaps[place] = vertex, gap
            count += 1
    return count


@njit(nogil=True, cache=True)
def _nearest_codes(
    coordinates: np.ndarray, bits: int, probes: int
) -> tuple[np.ndarray, np.ndarray]:
    """The codes of the `probes` buckets nearest to a query, its own first, and their distances.

    coordinates: the query's along a table's axes. A bucket's distance is the sum over its vertices
    of the squared differences between the coordinate there and at the nearest one. The best
    buckets' vertices so far are always among the best of fewer.
    """
    codes, distances = np.zeros(1, np.int32), np.zeros(1, np.float32)
    first = 0
    while bits > 0:
        size = min(bits, VERTEX_BITS)
        own = _nearest_vertex(coordinates, first, 1 << size - 1)
        largest = abs(coordinates[first + own // 2])
        count = codes.size
        wider_codes = np.empty(count << size, np.int32)
        wider_distances = np.empty(count << size, np.float32)
        for i in range(1 << size):
            vertex = np.int32(i ^ own)
            coordinate = coordinates[first + vertex // 2]
            gap = np.float32(largest - (coordinate if vertex % 2 else -coordinate))
            for j in range(count):
                wider_codes[i * count + j] = codes[j] << size | vertex
                wider_distances[i * count + j] = distances[j] + gap * gap
        codes, distances = _nearest(wider_codes, wider_distances, probes)
        first, bits = first + AXES, bits - size
    return codes, distances


@njit(nogil=True, cache=True)
def _nearest(
    codes: np.ndarray, distances: np.ndarray, number: int
) -> tuple[np.ndarray, np.ndarray]:
    """The `number` codes (or all) of least distance, in their order."""
    if number >= codes.size:
        return codes, distances
    farthest, kept = _cutoff(distances, number), 0
    for i in range(codes.size):
        codes[kept], distances[kept] = codes[i], distances[i]
        kept += distances[i] <= farthest
    kept = min(kept, number)
    return codes[:kept], distances[:kept]


@njit(nogil=True, cache=True)
def _cutoff(distances: np.ndarray, number: int) -> float:
    """A distance that `number` of them do not exceed, or with ties some more, by bisection."""
    low, high = np.float32(-1), distances.max()
    for _ in range(CUTS):
        middle = np.float32(0.5) * (low + high)
        within = np.int32(0)
        for i in range(distances.size):
            within += np.int32(distances[i] <= middle)
        if within < number:
            low = middle
        else:
            high = middle
        if within == number:
            break
    return high


@njit(nogil=True, cache=True)
def _list_blocks(
    index: Tables, b: int, bucket: int, blocks: np.ndarray, fills: np.ndarray, number: int
) -> int:
    """Append the blocks of a bucket to blocks[:number], and how many rows each has to `fills`.

    Returns their number then.
    """
    size, block = index.buckets[b, bucket, SIZE], index.buckets[b, bucket, NEWEST]
    fill = (size - 1) % BLOCK + 1
    for left in range((size - 1) // BLOCK, -1, -1):
        blocks[number], fills[number] = block, fill
        number += 1
        if left:  # else it is the last: a look saved, which would most likely miss the caches
            block, fill = index.older[b, block], BLOCK
    return number


@njit(nogil=True, cache=True)
def _scan(
    index: Tables,
    b: int,
    listed: tuple[np.ndarray, np.ndarray],
    distances: np.ndarray,
    reach: float,
    k: int,
    special: tuple[float, int],
    asked: tuple[np.ndarray, np.ndarray, int, np.ndarray],
    found: np.ndarray,
    best: np.ndarray,
) -> None:
    """Take the rows in the `listed` blocks into the best by their sketches, `found` and `best`.

    distances: of the blocks' buckets; those beyond `reach`, as the k-th best then is, are left out.
    special: what a sketch of the query itself scores, and of how many blocks, the first ones, rows
    whose sketches score that come before all others, the nearest first.
    """
    blocks, fills = listed
    words, queries, h, prepared = asked
    equal, doubtful = special
    scores = np.empty(BLOCK, np.float32)
    for n in range(-BLOCKS_AHEAD, blocks.size):
        farthest, ahead = _farthest(reach, best[best.size - k]), n + BLOCKS_AHEAD
        if ahead < blocks.size and distances[ahead] <= farthest:
            groups = (fills[ahead] + LANES - 1) // LANES
            _prefetch_groups(index, _group(index, b, blocks[ahead] * BLOCK), groups)
        if n < 0 or distances[n] > farthest:
            continue
        floor = min(best[0], np.float32(equal - ROUNDING)) if n < doubtful else best[0]
        # First the scores of the whole block, then what stands out: a branch foreseen wrongly
        # keeps the next rows waiting.
        better = 0
        for first in range(0, fills[n], LANES):
            group = _group(index, b, blocks[n] * BLOCK + first)
            own = scores[first : first + LANES]
            better |= score_group(index.sketches, group, prepared, floor, own) << first
        if fills[n] < BLOCK:  # a lane without a row may hold anything
            better &= (1 << fills[n]) - 1
        while better:
            lane = lowest_bit(better)
            better &= better - 1
            slot, score = _slot(index, b, blocks[n] * BLOCK + lane), scores[lane]
            if n < doubtful and abs(score - equal) <= ROUNDING:
                score = np.float32(1 / (_squared_distance(words, slot, queries, h) + TINY))
            if score > best[0]:
                keep(slot, score, found, best)


@njit(nogil=True, cache=True)
def _own_score(queries: np.ndarray, h: int, prepared: np.ndarray) -> float:
    """The score that the sketch of a row equal to the query has."""
    sketch = np.zeros((1, prepared.shape[0] - 1, LANES, FOUR), np.int8)
    scores = np.empty(LANES, np.float32)
    write_lane(sketch, 0, 0, queries, h)
    score_group(sketch, 0, prepared, np.float32(0), scores)
    return scores[0]


@njit(nogil=True, cache=True)
def _squared_distance(words: np.ndarray, slot: int, queries: np.ndarray, h: int) -> float:
    """That of the directions of words[slot] and queries[h]: exactly 0 where they are equal."""
    scale, query_scale = _inverse_norm(words, slot), _inverse_norm(queries, h)
    total = 0.0
    for w in range(words.shape[1]):
        total += (words[slot, w] * scale - queries[h, w] * query_scale) ** 2
    return total
