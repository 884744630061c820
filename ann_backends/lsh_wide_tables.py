"""The hash tables of lsh with sketches: how rows come into their buckets, move and leave them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ann_backends.kernels.jit import kernel
from ann_backends.metric import NORM_EPSILON
from ann_backends.prefetching import CACHE_LINE, prefetch
from ann_backends.sketch import FOUR, LANES, copy_lane, write_lane
from ann_backends.uncounted import UNCOUNTED

# Rows per block, a multiple of LANES.
BLOCK = 32
GROUPS = BLOCK // LANES
# Findable rows per bucket, on average, beyond which codes get another bit.
LOAD = 32
# Rows that a bucket holds at most, a multiple of BLOCK; crowds of tens of LOAD are common.
LARGEST = 256 * LOAD
# Rows written last that every search ranks.
RECENT = 64
# Rows hashed before their buckets are changed.
ROWS_AHEAD = 16
# Bits that say which vertex of a cross-polytope, and so many axes it has.
VERTEX_BITS = 4
AXES = 1 << VERTEX_BITS - 1
# Columns of a record: its place in the list of members, then codes, then places in the tables.
LISTED, CODES = 0, 1
# Columns of Tables.buckets.
NEWEST, SIZE = range(2)
# Columns of Tables.state.
FINDABLE, BITS, WRITTEN, USED, FREE = range(5)
# A log says of each row written or removed, in int32 numbers: its slot, or -1 - slot if it was
# removed; of one written, what stood in the places of `members` and `recent` that it
# took, in the first -1 if it was a member before; of one removed, its place in `members`. Then,
# for each table, its code and place before, and the row that it made its new bucket drop, as
# slot + 1, or NONE; NEW_BLOCK if it stands in a block never used before; STAYED where it was.
SLOT, MEMBER, OLDEST, PARTS = range(4)
OLD_CODE, OLD_PLACE, DROPPED, PART = range(4)
NONE, NEW_BLOCK, STAYED = 0, -1, -2


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


@kernel(**UNCOUNTED)
def prefetch_groups(index: Tables, group: int, number: int) -> None:
    size = index.sketches.shape[1] * LANES * FOUR
    for i in range(group * size, (group + number) * size, CACHE_LINE):
        prefetch(index.sketches, i)


@kernel(**UNCOUNTED)
def inverse_norm(words: np.ndarray, row: int) -> float:
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


@kernel(**UNCOUNTED)
def encode(
    index: Tables, b: int, words: np.ndarray, row: int, products: np.ndarray, codes: np.ndarray
) -> None:
    """products[j] = words[row] . axes[:, j] / |words[row]|, and the codes of all tables [L].

    Nothing may be reordered here: a query equal to a row must get its very codes.
    """
    axes, number = index.axes, index.axes.dtype.type
    scale, whole = inverse_norm(words, row), words.shape[1] // FOUR * FOUR
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
            vertex = nearest_vertex(products, first, 1 << bits - 1)
            codes[t] = codes[t] << bits | vertex
            first, left = first + AXES, left - bits


@kernel(**UNCOUNTED)
def nearest_vertex(coordinates: np.ndarray, first: int, size: int) -> int:
    """Of `size` coordinates from `first` on the largest in size, i: 2 i, or 2 i + 1 if positive."""
    nearest, largest = 0, coordinates[first]
    for i in range(1, size):
        # Not a branch, which would be foreseen wrongly.
        coordinate = coordinates[first + i]
        larger = abs(coordinate) > abs(largest)
        nearest = i if larger else nearest
        largest = coordinate if larger else largest
    return 2 * nearest + int(largest > 0)


@kernel(**UNCOUNTED)
def bucket_of(index: Tables, table: int, code: int) -> int:
    """The bucket of a code, in buckets[b]."""
    return table * (index.buckets.shape[1] // (index.records.shape[2] // 2)) + code


@kernel(**UNCOUNTED)
def group_of(index: Tables, b: int, place: int) -> int:
    """The group of sketches that a place, block * BLOCK + lane, is in."""
    return b * index.older.shape[1] * GROUPS + place // LANES


@kernel(**UNCOUNTED)
def slot_at(index: Tables, b: int, place: int) -> int:
    """The row that stands in a place."""
    return index.slots[group_of(index, b, place), index.slots.shape[1] - 1, place % LANES]


@kernel(**UNCOUNTED)
def _enter(index: Tables, words: np.ndarray, b: int, t: int, slot: int) -> int:
    """Append a row to the bucket of its code; in a full one it takes another's place.

    Returns what was dropped, as a log has it.
    """
    noted = NONE
    tables, state = index.records.shape[2] // 2, index.state
    bucket = bucket_of(index, t, index.records[b, slot, CODES + t])
    lane = index.buckets[b, bucket, SIZE] % BLOCK
    if index.buckets[b, bucket, SIZE] == LARGEST:
        lane = state[b, WRITTEN] % BLOCK
        dropped = slot_at(index, b, index.buckets[b, bucket, NEWEST] * BLOCK + lane)
        index.records[b, dropped, CODES + tables + t] = 0
        noted = dropped + 1
    else:
        index.buckets[b, bucket, SIZE] += 1
        if lane == 0:
            block = state[b, FREE]
            if block:
                state[b, FREE] = index.older[b, block]
            else:
                state[b, USED] += 1
                block = state[b, USED]
                noted = NEW_BLOCK
            index.older[b, block] = index.buckets[b, bucket, NEWEST]
            index.buckets[b, bucket, NEWEST] = block
    block = index.buckets[b, bucket, NEWEST]
    settle(index, words, b, t, slot, block * BLOCK + lane)
    return noted


@kernel(**UNCOUNTED)
def settle(index: Tables, words: np.ndarray, b: int, t: int, slot: int, place: int) -> None:
    """Have a row stand in a place of a table, with its sketch."""
    index.records[b, slot, CODES + index.records.shape[2] // 2 + t] = place
    group = group_of(index, b, place)
    index.slots[group, index.slots.shape[1] - 1, place % LANES] = slot
    write_lane(index.sketches, group, place % LANES, words, slot)


@kernel(**UNCOUNTED)
def _leave(index: Tables, b: int, t: int, slot: int) -> None:
    """Take a row out of its bucket, if it is there; the bucket's last one takes its place."""
    tables, records = index.records.shape[2] // 2, index.records
    place = records[b, slot, CODES + tables + t]
    if place == 0:
        return
    bucket = bucket_of(index, t, records[b, slot, CODES + t])
    index.buckets[b, bucket, SIZE] -= 1
    block, lane = index.buckets[b, bucket, NEWEST], index.buckets[b, bucket, SIZE] % BLOCK
    last = block * BLOCK + lane
    if place != last:
        records[b, slot_at(index, b, last), CODES + tables + t] = place
        group, to_group = group_of(index, b, last), group_of(index, b, place)
        copy_lane(index.sketches, group, last % LANES, to_group, place % LANES)
    records[b, slot, CODES + tables + t] = 0
    if lane == 0:
        index.buckets[b, bucket, NEWEST] = index.older[b, block]
        index.older[b, block] = index.state[b, FREE]
        index.state[b, FREE] = block


@kernel
def update(index: Tables, memory: np.ndarray, slots: np.ndarray, done: int, log: np.ndarray) -> int:
    """Make the rows at `slots` [B, n] findable under their present codes, after the first `done`.

    Returns how many are done. If that is negative, the codes of the last one's element must be
    lengthened before the next. log: int32 [B, n], a log's chunk, in which what is done is noted;
    n is 0 for none.
    """
    products = np.empty(index.axes.shape[1], memory.dtype)
    codes = np.empty((ROWS_AHEAD, index.records.shape[2] // 2), np.int32)
    return _update(index, memory, slots, done, log, products, codes)


@kernel(**UNCOUNTED)
def _update(
    index: Tables,
    memory: np.ndarray,
    slots: np.ndarray,
    done: int,
    log: np.ndarray,
    products: np.ndarray,
    codes: np.ndarray,
) -> int:
    """As `update`. products, codes: room for those of one row, and of ROWS_AHEAD."""
    n = slots.shape[1]
    for b in range(done // n, slots.shape[0]):
        own_log = log[b]
        for first in range(max(0, done - b * n), n, ROWS_AHEAD):
            own = slots[b, first : first + ROWS_AHEAD]
            for slot in own:
                if slot >= 0:
                    prefetch(index.records, (b * memory.shape[1] + slot) * index.records.shape[2])
            for i in range(own.size):
                if own[i] >= 0:
                    encode(index, b, memory[b], own[i], products, codes[i])
                    _prefetch_places(index, b, own[i], codes[i])
            for i in range(own.size):
                if own[i] >= 0:
                    write(index, memory[b], b, own[i], codes[i], own_log)
            if _is_crowded(index, b, index.state[b, BITS]):
                return -(b * n + first + own.size)
    return slots.size


@kernel(**UNCOUNTED)
def _prefetch_places(index: Tables, b: int, slot: int, codes: np.ndarray) -> None:
    """Ask for the sketches that a row leaves and for those that it joins."""
    tables = codes.size
    for t in range(tables):
        old = index.records[b, slot, CODES + tables + t]
        if old:
            bucket = bucket_of(index, t, index.records[b, slot, CODES + t])
            lane = (index.buckets[b, bucket, SIZE] - 1) % BLOCK
            last = index.buckets[b, bucket, NEWEST] * BLOCK + lane
            prefetch_groups(index, group_of(index, b, old), 1)
            prefetch_groups(index, group_of(index, b, last), 1)
        bucket = bucket_of(index, t, codes[t])
        new = index.buckets[b, bucket, NEWEST] * BLOCK + index.buckets[b, bucket, SIZE] % BLOCK
        prefetch_groups(index, group_of(index, b, new), 1)


@kernel(**UNCOUNTED)
def write(
    index: Tables, words: np.ndarray, b: int, slot: int, codes: np.ndarray, log: np.ndarray
) -> None:
    """Make a row a member, if it is none, and put it where its new codes belong."""
    tables, records, state = codes.size, index.records, index.state
    turn, at = state[b, WRITTEN] % RECENT, 0
    known = records[b, slot, LISTED] > 0
    if log.size > 0:
        at = _next_note(log, slot, tables)
        log[at + MEMBER] = -1 if known else index.members[b, state[b, FINDABLE]]
        log[at + OLDEST] = index.recent[b, turn]
    if not known:
        _list(index, b, slot)
    for t in range(tables):
        code, place = records[b, slot, CODES + t], records[b, slot, CODES + tables + t]
        dropped = STAYED
        if place and code == codes[t]:
            write_lane(index.sketches, group_of(index, b, place), place % LANES, words, slot)
        else:
            _leave(index, b, t, slot)
            records[b, slot, CODES + t] = codes[t]
            dropped = _enter(index, words, b, t, slot)
        if log.size > 0:
            part = at + PARTS + PART * t
            log[part + OLD_CODE], log[part + OLD_PLACE], log[part + DROPPED] = code, place, dropped
    index.recent[b, turn] = slot
    state[b, WRITTEN] += 1


@kernel(**UNCOUNTED)
def note_size(tables: int) -> int:
    """Numbers in a log per row written or removed."""
    return PARTS + PART * tables


@kernel(**UNCOUNTED)
def _next_note(log: np.ndarray, slot: int, tables: int) -> int:
    """Where the note of one more row begins."""
    at = log[0]
    log[0] += note_size(tables)
    log[at + SLOT] = slot
    return at


@kernel(**UNCOUNTED)
def _list(index: Tables, b: int, slot: int) -> None:
    """Make a row a member, that stands in no table yet."""
    index.members[b, index.state[b, FINDABLE]] = slot
    index.state[b, FINDABLE] += 1
    index.records[b, slot, LISTED] = index.state[b, FINDABLE]


@kernel
def list_all(index: Tables) -> None:
    for b in range(index.members.shape[0]):
        for slot in range(index.members.shape[1]):
            _list(index, b, slot)


@kernel
def remove(index: Tables, slots: np.ndarray, log: np.ndarray) -> None:
    """Make the rows at `slots` [B, n] not findable. log: as in `update`."""
    for b in range(slots.shape[0]):
        own_log = log[b]
        for slot in slots[b]:
            if slot >= 0 and index.records[b, slot, LISTED] > 0:
                unlist(index, b, slot, own_log)


@kernel(**UNCOUNTED)
def unlist(index: Tables, b: int, slot: int, log: np.ndarray) -> None:
    """Take a member out of its buckets; the last of the members takes its place among them."""
    records, state = index.records, index.state
    at, tables, place = 0, records.shape[2] // 2, records[b, slot, LISTED] - 1
    if log.size > 0:
        at = _next_note(log, -1 - slot, tables)
        log[at + MEMBER] = place
    for t in range(tables):
        if log.size > 0:
            log[at + PARTS + PART * t + OLD_PLACE] = records[b, slot, CODES + tables + t]
        _leave(index, b, t, slot)
    state[b, FINDABLE] -= 1
    last = index.members[b, state[b, FINDABLE]]
    index.members[b, place] = last
    records[b, last, LISTED] = place + 1
    records[b, slot, LISTED] = 0


@kernel
def rebuild(index: Tables, memory: np.ndarray, b: int, least_bits: int) -> None:
    """Fill the tables of one element anew with its members as they are now."""
    bits, count = least_bits, index.state[b, FINDABLE]
    while _is_crowded(index, b, bits):
        bits += 1
    _refill(index, memory[b], b, bits)
    # Until as many are written, some rows spread over the memory fill up answers.
    for i in range(min(RECENT, count)):
        if index.recent[b, i] < 0:
            index.recent[b, i] = index.members[b, i * count // min(RECENT, count)]


@kernel
def lengthen_codes(index: Tables, words: np.ndarray, b: int) -> None:
    """Use codes as long as the members have come to need."""
    bits = index.state[b, BITS]
    while _is_crowded(index, b, bits):
        bits += 1
    if bits != index.state[b, BITS]:
        _refill(index, words, b, bits)


@kernel(**UNCOUNTED)
def _is_crowded(index: Tables, b: int, bits: int) -> bool:
    buckets, tables = index.buckets.shape[1], index.records.shape[2] // 2
    return index.state[b, FINDABLE] > LOAD << bits and tables << bits < buckets


@kernel
def _refill(index: Tables, words: np.ndarray, b: int, bits: int) -> None:
    """Fill the tables anew with the members under codes of so many bits."""
    tables, state = index.records.shape[2] // 2, index.state
    for t in range(tables):
        first = bucket_of(index, t, 0)
        stop = first + (1 << state[b, BITS])
        index.buckets[b, first:stop] = 0
    state[b, BITS] = bits
    state[b, USED] = state[b, FREE] = 0
    products = np.empty(index.axes.shape[1], words.dtype)
    for slot in index.members[b, : state[b, FINDABLE]]:
        encode(index, b, words, slot, products, index.records[b, slot, CODES : CODES + tables])
        for t in range(tables):
            _enter(index, words, b, t, slot)
