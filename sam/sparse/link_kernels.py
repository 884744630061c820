"""The compiled part of `links`.

`records` and `weights` are N_t and P_t, the records of all slots: int32 [B, N, G, K_L] and, over
the same bytes, weights [B, N, G', K_L], of whose rows FOLLOWERS, SOURCES and WEIGHTS are used. The
journal of a step is `numbers` and `olds`, which links were changed and what they weighed before,
filled up to `count`.

Arrays are handed on whole, with the place that is meant: numba counts the references to each view
that is made of one, which took a fifth of the time.
"""

from __future__ import annotations

import numpy as np

from ann_backends import kernel, prefetch
from sam.sparse.lists import collect
from sam.sparse.ranks import rank, room

FOLLOWERS, SOURCES, WEIGHTS = 0, 1, -1  # the rows of a slot's record
END = np.iinfo(np.int64).max  # stands after the last slot of a list, larger than any


# The next three go over a whole row, without a branch that could only be guessed.


@kernel
def _place(records: np.ndarray, b: int, i: int, row: int, slot: int) -> int:
    """Where `slot` stands in a row of slots, or -1."""
    found = -1
    for k in range(records.shape[3]):
        found = k if records[b, i, row, k] == slot + 1 else found
    return found


@kernel
def _insert(records: np.ndarray, b: int, i: int, row: int, slot: int) -> int:
    """Put `slot` into a row of slots that has room; returns its place."""
    place, before, before_stays = 0, 0, True
    for k in range(records.shape[3]):
        here = records[b, i, row, k]
        stays = 0 < here <= slot
        moved = slot + 1 if before_stays else before
        records[b, i, row, k] = here if stays else moved
        place += stays
        before, before_stays = here, stays
    return place


@kernel
def _delete(rows: np.ndarray, b: int, i: int, row: int, k: int) -> None:
    """Take out place k of a row of slots or weights."""
    last = rows.shape[3] - 1
    for place in range(last):
        here, after = rows[b, i, row, place], rows[b, i, row, place + 1]
        rows[b, i, row, place] = after if place >= k else here
    rows[b, i, row, last] = 0


@kernel
def _set(records: np.ndarray, weights: np.ndarray, b: int, i: int, j: int, weight: float) -> float:
    """Give the link from j to i in memory b a weight, 0 to take it out; returns the old one."""
    k = _place(records, b, i, SOURCES, j)
    old = weights[b, i, WEIGHTS, k] if k >= 0 else weights.dtype.type(0)
    if weight > 0:
        if k < 0:
            k = _insert(records, b, i, SOURCES, j)
            for after in range(weights.shape[3] - 1, k, -1):
                weights[b, i, WEIGHTS, after] = weights[b, i, WEIGHTS, after - 1]
            _insert(records, b, j, FOLLOWERS, i)
        weights[b, i, WEIGHTS, k] = weight
    elif k >= 0:
        _delete(records, b, i, SOURCES, k)
        _delete(weights, b, i, WEIGHTS, k)
        _delete(records, b, j, FOLLOWERS, _place(records, b, j, FOLLOWERS, i))
    return old


@kernel
def _number(records: np.ndarray, b: int, i: int, j: int) -> int:
    """Stands for the link from j to i in memory b."""
    memory_size = records.shape[1]
    return (b * memory_size + i) * memory_size + j


@kernel
def _take_out(
    records: np.ndarray,
    weights: np.ndarray,
    b: int,
    i: int,
    j: int,
    numbers: np.ndarray,
    olds: np.ndarray,
    count: int,
) -> int:
    """Take out the link from j to i in memory b; returns the journal's new count."""
    numbers[count] = _number(records, b, i, j)
    olds[count] = _set(records, weights, b, i, j, weights.dtype.type(0))
    return count + 1


@kernel
def swap(
    records: np.ndarray, weights: np.ndarray, numbers: np.ndarray, olds: np.ndarray, forward: bool
) -> None:
    """As `Links.carry`, of N_t and P_t and one step of a journal."""
    memory_size = records.shape[1]
    for n in range(len(numbers)):
        change = n if forward else len(numbers) - 1 - n
        if numbers[change] < 0:
            continue
        row, j = divmod(numbers[change], memory_size)
        b, i = divmod(row, memory_size)
        olds[change] = _set(records, weights, b, i, j, olds[change])


@kernel
def _cut(slots: np.ndarray, weights: np.ndarray, count: int, most: int, ranks: np.ndarray) -> None:
    """Set all but the `most` largest of `count` weights to 0, of equals that of the higher slot.

    slots: of the weights, in any order. weights, ranks: as `rank` takes them.
    """
    if count <= most:
        return
    rank(weights, count, ranks)
    kept = np.int32(0)
    for n in range(count):
        kept += np.int32(ranks[n] < most)
    if kept > most:
        for n in range(count):
            for m in range(count):
                ranks[n] += (weights[m] == weights[n]) & (slots[m] < slots[n])
    zero = weights.dtype.type(0)
    for n in range(count):
        weights[n] = weights[n] if ranks[n] < most else zero


@kernel
def _prefetch_record(records: np.ndarray, b: int, slot: int) -> None:
    """Ask for the first and last cache line of a slot's record; with 8 links it has no other."""
    _, memory_size, num_rows, link_size = records.shape
    size = num_rows * link_size
    record = (b * memory_size + slot) * size
    prefetch(records, record)
    prefetch(records, record + size - 1)


@kernel
def _prefetch_followers(records: np.ndarray, b: int, j: int) -> None:
    """Ask for the records of what follows slot j."""
    for place in range(records.shape[3]):
        i = records[b, j, FOLLOWERS, place] - 1
        if i < 0:
            return
        _prefetch_record(records, b, i)


@kernel
def _prefetch_written(
    records: np.ndarray,
    b: int,
    popped: np.ndarray,
    read_slots: np.ndarray,
    before_slots: np.ndarray,
) -> None:
    """Ask for the records that b's write will change: its own, and of what follows p_{t-1}."""
    _, num_heads, num_reads = read_slots.shape
    for h in range(num_heads):
        _prefetch_record(records, b, popped[b, h])
        for k in range(num_reads):
            if read_slots[b, h, k] >= 0:
                _prefetch_record(records, b, read_slots[b, h, k])
    for k in range(before_slots.shape[1]):
        if before_slots[b, k] > 0:
            _prefetch_followers(records, b, before_slots[b, k] - 1)


@kernel
def _sum_over_heads(
    b: int,
    popped: np.ndarray,
    popped_weights: np.ndarray,
    read_slots: np.ndarray,
    write_weights: np.ndarray,
    unlisted: np.ndarray,
    weights: np.ndarray,
    slots: np.ndarray,
    written: np.ndarray,
) -> int:
    """Set the list of the slots of b's write and their share of it; returns how many.

    unlisted, weights: room for the slots and weights of all heads.
    """
    _, num_heads, num_reads = read_slots.shape
    one = written.dtype.type(1)
    count = 0
    for h in range(num_heads):
        unlisted[count], weights[count] = popped[b, h], popped_weights[b, h]
        count += 1
        for k in range(num_reads):
            if read_slots[b, h, k] >= 0:
                unlisted[count], weights[count] = read_slots[b, h, k], write_weights[b, h, k]
                count += 1
    count = collect(unlisted, weights, count, slots, written)
    total = written.dtype.type(0)
    for n in range(count):
        written[n] = min(written[n], one)
        total += written[n]
    if total > 1:
        for n in range(count):
            written[n] /= total
    return count


@kernel
def _clear(
    records: np.ndarray,
    weights: np.ndarray,
    b: int,
    slot: int,
    numbers: np.ndarray,
    olds: np.ndarray,
    count: int,
) -> int:
    """Take out all links to and from a slot; returns the journal's new count."""
    link_size = records.shape[3]
    for k in range(link_size):
        j = records[b, slot, SOURCES, k] - 1
        if j < 0:
            break
        numbers[count], olds[count] = _number(records, b, slot, j), weights[b, slot, WEIGHTS, k]
        count += 1
        _delete(records, b, j, FOLLOWERS, _place(records, b, j, FOLLOWERS, slot))
    for k in range(link_size):
        i = records[b, slot, FOLLOWERS, k] - 1
        if i < 0:
            break
        place = _place(records, b, i, SOURCES, slot)
        numbers[count], olds[count] = _number(records, b, i, slot), weights[b, i, WEIGHTS, place]
        count += 1
        _delete(records, b, i, SOURCES, place)
        _delete(weights, b, i, WEIGHTS, place)
    for k in range(link_size):
        records[b, slot, SOURCES, k] = records[b, slot, FOLLOWERS, k] = 0
        weights[b, slot, WEIGHTS, k] = 0
    return count


@kernel
def _merge_row(
    row_slots: np.ndarray,
    row_weights: np.ndarray,
    before_slots: np.ndarray,
    before_weights: np.ndarray,
    written: float,
    without: int,
    slots: np.ndarray,
    old: np.ndarray,
    new: np.ndarray,
    places: np.ndarray,
    r: int,
) -> int:
    """N_t(i, j) = (1 - w^W_t(i)) N_{t-1}(i, j) + w^W_t(i) p_{t-1}(j) of one i, not cut yet.

    row, before: the lists of N_{t-1}(i) and of p_{t-1}, [K_L + 1], with END after the last slot.
    written: w^W_t(i). without: a slot j whose N_t(i, j) is 0, or -1. slots, old, new: set to the
    list of N_t(i) and what stood there; returns how many. places[:, r]: [K_L + 1], set to where
    the slots of p_{t-1} stand in that list.
    """
    zero, left = new.dtype.type(0), new.dtype.type(1) - written
    count = k = n = 0
    slot = min(row_slots[0], before_slots[0])
    # Without a branch on which list it stands in, which could only be guessed.
    while slot != END:
        linked, preceding = row_slots[k] == slot, before_slots[n] == slot
        stood = row_weights[k] if linked else zero
        added = written * before_weights[n] if preceding else zero
        slots[count], old[count] = slot, stood
        new[count] = left * stood + added if slot != without else zero
        places[n, r] = count
        count += 1
        k += linked
        n += preceding
        slot = min(row_slots[k], before_slots[n])
    return count


@kernel
def _write_row(
    records: np.ndarray,
    weights: np.ndarray,
    b: int,
    i: int,
    slots: np.ndarray,
    old: np.ndarray,
    new: np.ndarray,
    r: int,
    length: int,
    numbers: np.ndarray,
    olds: np.ndarray,
    count: int,
) -> int:
    """Let what is not 0 of N_t(i) replace N_{t-1}(i); returns the journal's new count.

    slots, old, new: as of `_merge_row`, cut, `length` of them in row r.
    """
    size = 0
    for place in range(length):
        if new[r, place] > 0:
            j = slots[r, place]
            if old[r, place] == 0:
                _insert(records, b, j, FOLLOWERS, i)
            numbers[count], olds[count] = _number(records, b, i, j), old[r, place]
            records[b, i, SOURCES, size], weights[b, i, WEIGHTS, size] = j + 1, new[r, place]
            count += 1
            size += 1
    for k in range(size, records.shape[3]):
        records[b, i, SOURCES, k], weights[b, i, WEIGHTS, k] = 0, 0
    return count


@kernel
def _holds(slots: np.ndarray, count: int, slot: int) -> bool:
    """Whether `slot` is among the first `count`."""
    found = False
    for n in range(count):
        found |= slots[n] == slot
    return found


@kernel
def _cut_followers(
    records: np.ndarray,
    weights: np.ndarray,
    b: int,
    last_slots: np.ndarray,
    slots: np.ndarray,
    num_written: int,
    old: np.ndarray,
    new: np.ndarray,
    places: np.ndarray,
    column_slots: np.ndarray,
    column: np.ndarray,
    column_rows: np.ndarray,
    ranks: np.ndarray,
    gone_rows: np.ndarray,
    gone: np.ndarray,
    num_gone: int,
    numbers: np.ndarray,
    olds: np.ndarray,
    count: int,
) -> tuple[int, int]:
    """Cut what follows each slot to K_L; returns the new counts of the journal and of `gone`.

    last_slots: of p_{t-1}, END after its last: of the rows of P_t, only theirs can have become too
    long. slots: those written, whose rows, old and new, are about to change. places[n]: where the
    n-th slot of p_{t-1} stands in each of them. A link of theirs that is cut is set to 0 there, and
    is gone if it stood before; another is taken out at once. column_slots, column, column_rows:
    room for what follows one slot: slot, weight, and which of the rows written it is, or -1.
    """
    link_size = records.shape[3]
    for n in range(link_size):
        j = last_slots[n]
        if j == END:
            break
        size = leaving = standing = 0
        for r in range(num_written):
            place = places[n, r]
            column_slots[size], column[size], column_rows[size] = slots[r], new[r, place], r
            size += new[r, place] > 0
            leaving += old[r, place] > 0
        for k in range(link_size):
            standing += records[b, j, FOLLOWERS, k] > 0
        if size + standing - leaving <= link_size:
            continue
        for k in range(standing):
            i = records[b, j, FOLLOWERS, k] - 1
            if not _holds(slots, num_written, i):
                column_slots[size], column_rows[size] = i, -1
                column[size] = weights[b, i, WEIGHTS, _place(records, b, i, SOURCES, j)]
                size += 1
        _cut(column_slots, column, size, link_size, ranks)
        for m in range(size):
            if column[m] == 0:
                i, r = column_slots[m], column_rows[m]
                if r < 0:
                    count = _take_out(records, weights, b, i, j, numbers, olds, count)
                else:
                    new[r, places[n, r]] = 0
                    gone_rows[num_gone], gone[num_gone] = r, places[n, r]
                    num_gone += old[r, places[n, r]] > 0
    return count, num_gone


@kernel
def _precede(
    b: int,
    precedence_slots: np.ndarray,
    precedence_weights: np.ndarray,
    last_slots: np.ndarray,
    last_weights: np.ndarray,
    slots: np.ndarray,
    written: np.ndarray,
    num_written: int,
    listed: np.ndarray,
    weights: np.ndarray,
    ranks: np.ndarray,
) -> None:
    """p_t = (1 - sum_i w^W_t(i)) p_{t-1} + w^W_t, cut to K_L, of memory b.

    last: the list of p_{t-1}, with END after its last slot. slots, written: the list of w^W_t, with
    room for both. listed, weights: room for p_t before it is cut, as `_cut` takes them.
    """
    link_size = precedence_slots.shape[1]
    total = written.dtype.type(0)
    for r in range(num_written):
        total += written[r]
    left = max(written.dtype.type(1) - total, written.dtype.type(0))
    count = num_written
    for n in range(link_size):
        if last_slots[n] == END:
            break
        slots[count], written[count] = last_slots[n], left * last_weights[n]
        count += 1
    count = collect(slots, written, count, listed, weights)
    _cut(listed, weights, count, link_size, ranks)
    size = 0
    for r in range(count):
        if weights[r] > 0:
            precedence_slots[b, size], precedence_weights[b, size] = listed[r] + 1, weights[r]
            size += 1
    for k in range(size, link_size):
        precedence_slots[b, k], precedence_weights[b, k] = 0, 0


@kernel
def record_write(
    records: np.ndarray,
    weights: np.ndarray,
    before_slots: np.ndarray,
    before_weights: np.ndarray,
    popped: np.ndarray,
    popped_weights: np.ndarray,
    read_slots: np.ndarray,
    write_weights: np.ndarray,
    strict: bool,
    numbers: np.ndarray,
    olds: np.ndarray,
) -> int:
    """As `Links.record_write`; returns how many links changed.

    before_slots, before_weights: p_{t-1} as `Links` has it, which become p_t.
    """
    batch_size, _, _, link_size = records.shape
    dtype = weights.dtype
    most = popped.shape[1] + read_slots.shape[1] * read_slots.shape[2]
    # The list of the write, then of p_t.
    longest = room(most + link_size)
    slots, written = np.empty(longest, np.int64), np.empty(longest, dtype)
    row_slots, row_weights = np.empty(link_size + 1, np.int64), np.empty(link_size + 1, dtype)
    last_slots, last_weights = np.empty(link_size + 1, np.int64), np.empty(link_size + 1, dtype)
    # The rows of N_t that are written to, as `_merge_row` has them.
    width = 2 * link_size
    slots_of_one, places = np.empty(width, np.int64), np.empty((link_size + 1, most), np.int64)
    old_of_one, new_of_one = np.empty(width, dtype), np.empty(room(width), dtype)
    lengths, new_slots = np.empty(most, np.int64), np.empty((most, width), np.int64)
    old, new = np.empty((most, width), dtype), np.empty((most, width), dtype)
    # The links that these rows lose: row and place.
    gone_rows, gone = np.empty(most * width + 1, np.int64), np.empty(most * width + 1, np.int64)
    # What follows one slot: slots, weights, and which of the rows above it is, or -1.
    column_slots, column = np.empty(longest, np.int64), np.empty(longest, dtype)
    column_rows, ranks = np.empty(longest, np.int64), np.empty(room(most + width), np.int32)
    count = 0
    _prefetch_written(records, 0, popped, read_slots, before_slots)
    for b in range(batch_size):
        ahead = min(b + 1, batch_size - 1)
        _prefetch_written(records, ahead, popped, read_slots, before_slots)
        num_written = _sum_over_heads(
            b,
            popped,
            popped_weights,
            read_slots,
            write_weights,
            column_slots,
            column,
            slots,
            written,
        )
        if not strict:
            for h in range(popped.shape[1]):
                count = _clear(records, weights, b, popped[b, h], numbers, olds, count)
        row_slots[link_size] = last_slots[link_size] = END
        for k in range(link_size):
            last_slots[k] = before_slots[b, k] - 1 if before_slots[b, k] > 0 else END
            last_weights[k] = before_weights[b, k]
        num_gone = 0
        for r in range(num_written):
            i = slots[r]
            for k in range(link_size):
                j = records[b, i, SOURCES, k] - 1
                row_slots[k] = j if j >= 0 else END
                row_weights[k] = weights[b, i, WEIGHTS, k]
            length = _merge_row(
                row_slots,
                row_weights,
                last_slots,
                last_weights,
                written[r],
                -1 if strict else i,
                slots_of_one,
                old_of_one,
                new_of_one,
                places,
                r,
            )
            _cut(slots_of_one, new_of_one, length, link_size, ranks)
            lengths[r] = length
            for place in range(length):
                new_slots[r, place] = slots_of_one[place]
                old[r, place], new[r, place] = old_of_one[place], new_of_one[place]
                gone_rows[num_gone], gone[num_gone] = r, place
                num_gone += (old_of_one[place] > 0) & (new_of_one[place] == 0)
        for n in range(num_gone):
            _prefetch_record(records, b, new_slots[gone_rows[n], gone[n]])
        count, num_gone = _cut_followers(
            records,
            weights,
            b,
            last_slots,
            slots,
            num_written,
            old,
            new,
            places,
            column_slots,
            column,
            column_rows,
            ranks,
            gone_rows,
            gone,
            num_gone,
            numbers,
            olds,
            count,
        )
        # What goes makes room for what comes.
        for n in range(num_gone):
            r, place = gone_rows[n], gone[n]
            i, j = slots[r], new_slots[r, place]
            _delete(records, b, j, FOLLOWERS, _place(records, b, j, FOLLOWERS, i))
            numbers[count], olds[count] = _number(records, b, i, j), old[r, place]
            count += 1
        for r in range(num_written):
            count = _write_row(
                records,
                weights,
                b,
                slots[r],
                new_slots,
                old,
                new,
                r,
                lengths[r],
                numbers,
                olds,
                count,
            )
        _precede(
            b,
            before_slots,
            before_weights,
            last_slots,
            last_weights,
            slots,
            written,
            num_written,
            column_slots,
            column,
            ranks,
        )
    return count


@kernel
def follow(
    records: np.ndarray,
    weights: np.ndarray,
    read_slots: np.ndarray,
    read_weights: np.ndarray,
    slots: np.ndarray,
    reached: np.ndarray,
) -> None:
    """As `Links.follow`."""
    batch_size, num_heads, num_reads = read_slots.shape
    most, link_size = slots.shape[2], records.shape[3]
    # A hash table with open addressing: 1 + where a slot stands among those reached, or 0.
    size = 2
    while size < 2 * most:
        size *= 2
    table = np.zeros(size, np.int32)
    for b in range(batch_size):
        for h in range(num_heads):
            for k in range(num_reads):
                if read_slots[b, h, k] >= 0:
                    _prefetch_followers(records, b, read_slots[b, h, k])
        for h in range(num_heads):
            count = 0
            for k in range(num_reads):
                j, weight = read_slots[b, h, k], read_weights[b, h, k]
                if j < 0:
                    continue
                # b_t(i) = sum_j P_t(i, j) w^R_{t-1}(j), with P_t(i, j) = N_t(j, i)
                for place in range(link_size):
                    i = records[b, j, SOURCES, place] - 1
                    if i < 0:
                        break
                    n = _reach(i, table, slots, reached, b, h, count)
                    count = max(count, n + 1)
                    reached[b, h, n, 0] += weights[b, j, WEIGHTS, place] * weight
                # f_t(i) = sum_j N_t(i, j) w^R_{t-1}(j)
                for place in range(link_size):
                    i = records[b, j, FOLLOWERS, place] - 1
                    if i < 0:
                        break
                    n = _reach(i, table, slots, reached, b, h, count)
                    count = max(count, n + 1)
                    k_of_j = _place(records, b, i, SOURCES, j)
                    reached[b, h, n, 1] += weights[b, i, WEIGHTS, k_of_j] * weight
            for entry in range(size):
                table[entry] = 0
            if count < most:
                slots[b, h, count] = -1


@kernel
def _reach(
    i: int, table: np.ndarray, slots: np.ndarray, reached: np.ndarray, b: int, h: int, count: int
) -> int:
    """Where slot i stands among the `count` reached, of which it becomes the last if it is new."""
    mask = len(table) - 1
    entry = (i * 0x9E3779B1 >> 16) & mask  # Knuth's multiplicative hashing
    while table[entry] > 0:
        if slots[b, h, table[entry] - 1] == i:
            return table[entry] - 1
        entry = (entry + 1) & mask
    table[entry] = count + 1
    slots[b, h, count] = i
    reached[b, h, count, 0] = reached[b, h, count, 1] = 0
    return count
