"""The hash tables of the lsh backend: how rows come into their buckets, move and leave them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ann_backends.kernels.jit import kernel
from ann_backends.prefetching import CACHE_LINE, prefetch
from ann_backends.uncounted import UNCOUNTED

ENTRY = np.dtype(np.int32)
# Entries per bucket: one cache line.
ROOM = CACHE_LINE // ENTRY.itemsize
# Findable rows per bucket, on average, beyond which codes get another bit.
LOAD = 2
# Rows hashed ahead of the buckets that they go to, so that the waits for memory overlap.
AHEAD = 16
# Columns of a record, before the codes.
PLACE, HOME, CODES = 0, 1, 2
# The home of a member that stands in no table yet.
NOWHERE = -1
# A log says of each row written or removed, in int32 numbers: its slot, or -1 - slot if it was
# removed; its home before; of one written, what stood in the places of `members` and
# `recent` that it took, in the first -1 if it was a member before; of one removed, its place in
# `members`. Then, for each table, its code before, the entry that it made its new bucket drop,
# and where: where it stood in its old bucket (ROOM: nowhere) times SIDES, plus where the dropped
# entry stood (or APPENDED or KEPT_OUT); STAYED if nothing happened to its bucket.
SLOT, OLD_HOME, MEMBER, OLDEST, PARTS = range(5)
OLD_CODE, DROPPED, WHERE, PART = range(4)
# Where an entry stood that a bucket dropped for another: none was; nor was there room.
APPENDED, KEPT_OUT = ROOM, ROOM + 1
SIDES, STAYED = ROOM + 2, -1


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


@kernel(**UNCOUNTED)
def prefetch_row(array: np.ndarray, row: int, row_size: int) -> None:
    """Ask for a row of `row_size` entries; the processor follows by itself after some lines."""
    first, line = row * row_size, CACHE_LINE // array.itemsize
    size = min(row_size, 4 * line)
    for i in range(first, first + size, line):
        prefetch(array, i)
    # Rows need not start with a cache line, so that they may end in one more.
    prefetch(array, first + size - 1)


@kernel(**UNCOUNTED)
def project(words: np.ndarray, row: int, planes: np.ndarray, products: np.ndarray) -> None:
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


@kernel(**UNCOUNTED)
def encode(products: np.ndarray, codes: np.ndarray, row: int, first: int) -> None:
    """The codes of one word, all tables, into codes[row, first:]; 0 and -0 are the same side."""
    tables = codes.shape[1] - first
    codes[row, first:] = 0
    for j in range(products.size // tables):
        for t in range(tables):
            codes[row, first + t] += np.int32(products[j * tables + t] > 0) << np.int32(j)


@kernel(**UNCOUNTED)
def _enter(lines: np.ndarray, b: int, line: int, slot: int, resident: bool) -> tuple[int, int]:
    """Append a row to a bucket; a full one drops its oldest guest, or resident for resident.

    Returns the entry that was dropped, and where it stood, as a log has them.
    """
    entry = np.int32(-(slot + 1) if resident else slot + 1)
    if lines[b, line, ROOM - 1] == 0:
        for i in range(ROOM):
            if lines[b, line, i] == 0:
                lines[b, line, i] = entry
                return 0, APPENDED
    gap = 0 if resident else KEPT_OUT
    for i in range(ROOM):
        if lines[b, line, i] > 0:
            gap = i
            break
    if gap == KEPT_OUT:
        return 0, KEPT_OUT
    dropped = lines[b, line, gap]
    _close_up(lines, b, line, gap)
    lines[b, line, ROOM - 1] = entry
    return dropped, gap


@kernel(**UNCOUNTED)
def _leave(lines: np.ndarray, b: int, line: int, slot: int) -> int:
    """Take a row out of a bucket, if it is there; returns where it stood, or ROOM."""
    for i in range(ROOM):
        if abs(lines[b, line, i]) == slot + 1:
            _close_up(lines, b, line, i)
            return i
    return ROOM


@kernel(**UNCOUNTED)
def _close_up(lines: np.ndarray, b: int, line: int, gap: int) -> None:
    for i in range(gap, ROOM - 1):
        lines[b, line, i] = lines[b, line, i + 1]
    lines[b, line, ROOM - 1] = 0


@kernel
def update(index: Tables, memory: np.ndarray, slots: np.ndarray, done: int, log: np.ndarray) -> int:
    """Make the rows at `slots` [B, n] findable under their present codes, after the first `done`.

    Returns how many are done. If that is negative, the codes of the last one's element must be
    lengthened before the next. log: int32 [B, n], a log's chunk, in which what is done is noted;
    n is 0 for none.
    """
    products = np.empty(index.planes.shape[1], memory.dtype)
    codes = np.empty((AHEAD, index.records.shape[2] - CODES), np.int32)
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
    """As `update`. products, codes: room for those of one row, and of AHEAD."""
    n = slots.shape[1]
    for b in range(done // n, slots.shape[0]):
        words, own_log = memory[b], log[b]
        for first in range(max(0, done - b * n), n, AHEAD):
            stop = min(first + AHEAD, n)
            _prefetch_records(index, b, slots, first, stop)
            for i in range(first, stop):
                if slots[b, i] >= 0:
                    project(words, slots[b, i], index.planes, products)
                    encode(products, codes, i - first, 0)
                    _prefetch_lines(index, b, slots[b, i], codes, i - first)
            for i in range(first, stop):
                if slots[b, i] >= 0:
                    write(index, b, slots[b, i], codes, i - first, own_log)
            if _is_crowded(index, b, index.bits[b]):
                return -(b * n + stop)
    return slots.size


@kernel(**UNCOUNTED)
def _prefetch_records(index: Tables, b: int, slots: np.ndarray, first: int, stop: int) -> None:
    rows, size = index.records.shape[1:]
    for i in range(first, stop):
        if slots[b, i] >= 0:
            prefetch_row(index.records, b * rows + slots[b, i], size)


@kernel(**UNCOUNTED)
def _prefetch_lines(index: Tables, b: int, slot: int, codes: np.ndarray, row: int) -> None:
    """Ask for the buckets that a row stands in and for those that it goes to."""
    lines = b * index.lines.shape[1]
    listed = index.records[b, slot, PLACE] > 0
    for t in range(codes.shape[1]):
        prefetch(index.lines, (lines + line_of(index, b, t, codes[row, t])) * ROOM)
        if listed:
            old = index.records[b, slot, CODES + t]
            prefetch(index.lines, (lines + line_of(index, b, t, old)) * ROOM)


@kernel(**UNCOUNTED)
def line_of(index: Tables, b: int, table: int, code: int) -> int:
    """Where the bucket of a code is in lines[b]; short codes use the front of a table's part."""
    tables = index.records.shape[2] - CODES
    return table * (index.lines.shape[1] // tables) + (code & ((1 << index.bits[b]) - 1))


@kernel(**UNCOUNTED)
def write(index: Tables, b: int, slot: int, codes: np.ndarray, row: int, log: np.ndarray) -> None:
    """Make a row a member, if it is none, with codes[row]; the tables take turns as its home."""
    tables, count = codes.shape[1], index.findable[b]
    turn = index.written[b] % index.recent.shape[1]
    at, known = 0, index.records[b, slot, PLACE] > 0
    if log.size > 0:
        at = _next_note(log, slot, tables)
        log[at + OLD_HOME] = index.records[b, slot, HOME]
        log[at + MEMBER] = -1 if known else index.members[b, count]
        log[at + OLDEST] = index.recent[b, turn]
    if not known:
        _list(index, b, slot)
    _move(index, b, slot, codes, row, index.written[b] % tables, log, at)
    index.recent[b, turn] = slot
    index.written[b] += 1


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
    """Make a row a member that stands in no table yet."""
    index.members[b, index.findable[b]] = slot
    index.findable[b] += 1
    index.records[b, slot, PLACE] = index.findable[b]
    index.records[b, slot, HOME] = NOWHERE


@kernel(**UNCOUNTED)
def _move(
    index: Tables,
    b: int,
    slot: int,
    codes: np.ndarray,
    row: int,
    home: int,
    log: np.ndarray,
    at: int,
) -> None:
    """Put a member into the buckets of codes[row], as the newest there and resident at home.

    Where its bucket stays the same a guest stays as it is. What changes is noted from log[at] on.
    """
    records = index.records
    old_home = records[b, slot, HOME]
    for t in range(codes.shape[1]):
        old_code = records[b, slot, CODES + t]
        old = line_of(index, b, t, old_code)
        new = line_of(index, b, t, codes[row, t])
        records[b, slot, CODES + t] = codes[row, t]
        dropped, where = 0, STAYED
        stays = old == new and t != home and t != old_home
        if old_home == NOWHERE or not stays:
            left = ROOM if old_home == NOWHERE else _leave(index.lines, b, old, slot)
            dropped, gap = _enter(index.lines, b, new, slot, t == home)
            where = left * SIDES + gap
        if log.size > 0:
            part = at + PARTS + PART * t
            log[part + OLD_CODE], log[part + DROPPED], log[part + WHERE] = old_code, dropped, where
    records[b, slot, HOME] = home


@kernel(**UNCOUNTED)
def remove(index: Tables, slots: np.ndarray, log: np.ndarray) -> None:
    """Make the rows at `slots` [B, n] not findable. log: as in `update`."""
    for b in range(slots.shape[0]):
        own_log = log[b]
        for i in range(slots.shape[1]):
            if slots[b, i] >= 0 and index.records[b, slots[b, i], PLACE] > 0:
                unlist(index, b, slots[b, i], own_log)


@kernel(**UNCOUNTED)
def unlist(index: Tables, b: int, slot: int, log: np.ndarray) -> None:
    """Take a member out of its buckets; the last of the members takes its place among them."""
    records = index.records
    at, tables, place = 0, records.shape[2] - CODES, records[b, slot, PLACE] - 1
    if log.size > 0:
        at = _next_note(log, -1 - slot, tables)
        log[at + MEMBER] = place
    for t in range(tables):
        left = _leave(index.lines, b, line_of(index, b, t, records[b, slot, CODES + t]), slot)
        if log.size > 0:
            log[at + PARTS + PART * t + WHERE] = left
    index.findable[b] -= 1
    last = index.members[b, index.findable[b]]
    index.members[b, place] = last
    records[b, last, PLACE] = place + 1
    records[b, slot, PLACE] = 0


@kernel
def list_all(index: Tables) -> None:
    for b in range(index.members.shape[0]):
        for slot in range(index.members.shape[1]):
            _list(index, b, slot)


@kernel
def rebuild(index: Tables, memory: np.ndarray, b: int, least_bits: int) -> None:
    """Encode the members of one element as they are now, and fill its tables with them."""
    words = memory[b]
    products = np.empty(index.planes.shape[1], memory.dtype)
    for i in range(index.findable[b]):
        slot = index.members[b, i]
        project(words, slot, index.planes, products)
        encode(products, index.records[b], slot, CODES)
    bits = least_bits
    while _is_crowded(index, b, bits):
        bits += 1
    _refill(index, b, bits)


@kernel
def lengthen_codes(index: Tables, b: int) -> None:
    """Use as many bits of the codes as the members have come to need."""
    bits = index.bits[b]
    while _is_crowded(index, b, bits):
        bits += 1
    if bits != index.bits[b]:
        _refill(index, b, bits)


@kernel(**UNCOUNTED)
def _is_crowded(index: Tables, b: int, bits: int) -> bool:
    tables = index.records.shape[2] - CODES
    return index.findable[b] > LOAD << bits and bits < index.planes.shape[1] // tables


@kernel
def _refill(index: Tables, b: int, bits: int) -> None:
    """Fill the tables anew from the members' codes, `bits` long; the fresh rows come last."""
    tables = index.records.shape[2] - CODES
    for t in range(tables):
        front = line_of(index, b, t, 0)
        index.lines[b, front : front + (1 << index.bits[b])] = 0
    index.bits[b] = bits
    for t in range(tables):
        _refill_table(index, b, t)
    for i in range(index.findable[b]):
        index.records[b, index.members[b, i], HOME] = i % tables
    _replay(index, b)


@kernel(**UNCOUNTED)
def _refill_table(index: Tables, b: int, t: int) -> None:
    """Enter all members into an empty table: one in `tables` as residents, in turn."""
    records, count, tables = index.records, index.findable[b], index.records.shape[2] - CODES
    lines = b * index.lines.shape[1]
    for i in range(count):
        ahead = index.members[b, min(i + AHEAD, count - 1)]
        line = line_of(index, b, t, records[b, ahead, CODES + t])
        prefetch(index.lines, (lines + line) * ROOM)
        slot = index.members[b, i]
        line = line_of(index, b, t, records[b, slot, CODES + t])
        _enter(index.lines, b, line, slot, i % tables == t)


@kernel
def _replay(index: Tables, b: int) -> None:
    """Move the rows written last as if they were written again, in their order."""
    ring, tables = index.recent.shape[1], index.records.shape[2] - CODES
    codes, no_log = np.empty((1, tables), np.int32), np.empty(0, np.int32)
    for turn in range(max(0, index.written[b] - ring), index.written[b]):
        slot = index.recent[b, turn % ring]
        if index.records[b, slot, PLACE] > 0:
            codes[0] = index.records[b, slot, CODES:]
            _move(index, b, slot, codes, 0, turn % tables, no_log, 0)
