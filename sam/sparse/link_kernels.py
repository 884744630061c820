"""The compiled part of `links`.

numba's on-disk cache does not notice edits in `ann_backends.prefetching`: `make clean` removes it.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ann_backends import prefetch

# N_t and P_t: `Links.slots` and `Links.weights`, the same bytes as int32 and as weights.
Matrix = tuple[np.ndarray, np.ndarray]
FOLLOWERS, SOURCES, WEIGHTS = 0, 1, -1  # the rows of a slot's record


@njit(nogil=True, cache=True)
def _place(row: np.ndarray, slot: int) -> int:
    """Where `slot` stands in a row of slots, or -1."""
    for k in range(len(row)):
        if row[k] == slot + 1:
            return k
    return -1


@njit(nogil=True, cache=True)
def _insert(row: np.ndarray, slot: int) -> int:
    """Put `slot` into a row of slots that has room; returns its place."""
    k = len(row) - 1
    while k > 0 and (row[k - 1] == 0 or row[k - 1] > slot + 1):
        row[k] = row[k - 1]
        k -= 1
    row[k] = slot + 1
    return k


@njit(nogil=True, cache=True)
def _delete(row: np.ndarray, k: int) -> None:
    """Take out place k of a row."""
    for after in range(k + 1, len(row)):
        row[after - 1] = row[after]
    row[len(row) - 1] = 0


@njit(nogil=True, cache=True)
def _set(matrix: Matrix, b: int, i: int, j: int, weight: float) -> float:
    """Give the link from j to i in memory b a weight, 0 to take it out; returns the old one."""
    slots, weights = matrix
    sources, weights_of = slots[b, i, SOURCES], weights[b, i, WEIGHTS]
    followers = slots[b, j, FOLLOWERS]
    k = _place(sources, j)
    if k >= 0:
        old = weights_of[k]
        if weight > 0:
            weights_of[k] = weight
        else:
            _delete(sources, k)
            _delete(weights_of, k)
            _delete(followers, _place(followers, i))
        return old
    if weight > 0:
        k = _insert(sources, j)
        for after in range(len(weights_of) - 1, k, -1):
            weights_of[after] = weights_of[after - 1]
        weights_of[k] = weight
        _insert(followers, i)
    return weights_of[0] * 0


@njit(nogil=True, cache=True)
def _number(matrix: Matrix, b: int, i: int, j: int) -> int:
    """Stands for the link from j to i in memory b."""
    memory_size = matrix[0].shape[1]
    return (b * memory_size + i) * memory_size + j


@njit(nogil=True, cache=True)
def _note(journal: tuple[np.ndarray, np.ndarray], count: int, number: int, weight: float) -> int:
    """Take down what a link weighed before; returns the journal's new count."""
    numbers, weights = journal
    numbers[count] = number
    weights[count] = weight
    return count + 1


@njit(nogil=True, cache=True)
def _change(
    matrix: Matrix,
    b: int,
    i: int,
    j: int,
    weight: float,
    journal: tuple[np.ndarray, np.ndarray],
    count: int,
) -> int:
    """As `_set`, taken down in the journal; returns its new count."""
    old = _set(matrix, b, i, j, weight)
    return _note(journal, count, _number(matrix, b, i, j), old)


@njit(nogil=True, cache=True)
def swap(
    matrix: Matrix,
    changes: tuple[np.ndarray, np.ndarray],
    forward: bool,
) -> None:
    """As `Links.carry`, of N_t and P_t. changes: numbers and weights of a journal."""
    numbers, weights = changes
    memory_size = matrix[0].shape[1]
    for n in range(len(numbers)):
        change = n if forward else len(numbers) - 1 - n
        row, j = divmod(numbers[change], memory_size)
        b, i = divmod(row, memory_size)
        weights[change] = _set(matrix, b, i, j, weights[change])


@njit(nogil=True, cache=True)
def _add(slots: np.ndarray, weights: np.ndarray, count: int, slot: int, weight: float) -> int:
    """Add `weight` to `slot` in the ascending list slots[:count]; returns the new count."""
    place = count
    while place > 0 and slots[place - 1] >= slot:
        place -= 1
    if place < count and slots[place] == slot:
        weights[place] += weight
        return count
    for after in range(count, place, -1):
        slots[after] = slots[after - 1]
        weights[after] = weights[after - 1]
    slots[place] = slot
    weights[place] = weight
    return count + 1


@njit(nogil=True, cache=True)
def _cut(slots: np.ndarray, weights: np.ndarray, count: int, most: int, ranks: np.ndarray) -> None:
    """Set all but the `most` largest of weights[:count] to 0, of equals that of the higher slot.

    ranks: int64, room for `count`.
    """
    if count <= most:
        return
    # All against all, without a branch to guess wrongly: faster than sorting for so few.
    for n in range(count):
        slot, weight = slots[n], weights[n]
        larger = 0
        for m in range(count):
            larger += (weights[m] > weight) | ((weights[m] == weight) & (slots[m] < slot))
        ranks[n] = larger
    for n in range(count):
        if ranks[n] >= most:
            weights[n] = 0


@njit(nogil=True, cache=True)
def _prefetch_record(matrix: Matrix, b: int, slot: int) -> None:
    """Ask for the record of a slot: its ends, between which there is no third cache line."""
    slots, weights = matrix
    _, memory_size, num_rows, link_size = slots.shape
    record = b * memory_size + slot
    prefetch(slots, record * num_rows * link_size)
    prefetch(weights, (record + 1) * weights.shape[2] * link_size - 1)


@njit(nogil=True, cache=True)
def _prefetch_followers(matrix: Matrix, b: int, j: int) -> None:
    """Ask for the records of what follows slot j."""
    followers = matrix[0][b, j, FOLLOWERS]
    for place in range(len(followers)):
        if followers[place] == 0:
            return
        _prefetch_record(matrix, b, followers[place] - 1)


@njit(nogil=True, cache=True)
def _prefetch_written(
    matrix: Matrix, b: int, popped: np.ndarray, read_slots: np.ndarray, before_slots: np.ndarray
) -> None:
    """Ask for the records that a write will change: its own, and of those that follow p_{t-1}."""
    for h in range(read_slots.shape[0]):
        _prefetch_record(matrix, b, popped[h])
        for k in range(read_slots.shape[1]):
            if read_slots[h, k] >= 0:
                _prefetch_record(matrix, b, read_slots[h, k])
    for k in range(before_slots.size):
        if before_slots[k] > 0:
            _prefetch_followers(matrix, b, before_slots[k] - 1)


@njit(nogil=True, cache=True)
def _sum_over_heads(
    popped: np.ndarray,
    popped_weights: np.ndarray,
    read_slots: np.ndarray,
    write_weights: np.ndarray,
    slots: np.ndarray,
    weights: np.ndarray,
) -> int:
    """The slots of one memory's write, ascending, and their share of it; returns how many."""
    count = 0
    for h in range(len(popped)):
        count = _add(slots, weights, count, popped[h], popped_weights[h])
        for k in range(read_slots.shape[1]):
            if read_slots[h, k] >= 0:
                count = _add(slots, weights, count, read_slots[h, k], write_weights[h, k])
    total = weights.dtype.type(0)
    for n in range(count):
        weights[n] = min(weights[n], weights.dtype.type(1))
        total += weights[n]
    if total > 1:
        weights[:count] /= total
    return count


@njit(nogil=True, cache=True)
def _clear(
    matrix: Matrix,
    b: int,
    slot: int,
    journal: tuple[np.ndarray, np.ndarray],
    count: int,
) -> int:
    """Take out all links to and from a slot."""
    slots, weights = matrix
    zero = weights.dtype.type(0)
    sources, followers = slots[b, slot, SOURCES], slots[b, slot, FOLLOWERS]
    while sources[0] > 0:
        count = _change(matrix, b, slot, sources[0] - 1, zero, journal, count)
    while followers[0] > 0:
        count = _change(matrix, b, followers[0] - 1, slot, zero, journal, count)
    return count


@njit(nogil=True, cache=True)
def _merge_row(
    row: tuple[np.ndarray, np.ndarray],
    before: tuple[np.ndarray, np.ndarray],
    written: float,
    without: int,
    merged: tuple[np.ndarray, np.ndarray, np.ndarray],
    places: np.ndarray,
) -> int:
    """N_t(i, j) = (1 - w^W_t(i)) N_{t-1}(i, j) + w^W_t(i) p_{t-1}(j) of one i, not cut yet.

    row: the slots and weights of N_{t-1}(i). before: those of p_{t-1}. written: w^W_t(i).
    without: a slot j that is left out, or -1. merged: slots, weights of N_{t-1}(i) and of N_t(i),
    set; returns how many. places: set to where the slots of p_{t-1} stand in them, or -1.
    """
    row_slots, row_weights = row
    before_slots, before_weights = before
    slots, old, new = merged
    link_size = len(row_slots)
    zero, left = row_weights.dtype.type(0), row_weights.dtype.type(1) - written
    count = k = n = 0
    while True:
        linked = row_slots[k] - 1 if k < link_size else -1
        preceding = before_slots[n] - 1 if n < link_size else -1
        if preceding >= 0 and preceding == without:
            places[n] = -1
            n += 1
        elif preceding >= 0 and (linked < 0 or preceding <= linked):
            slots[count], old[count] = preceding, zero
            new[count] = written * before_weights[n]
            if preceding == linked:
                old[count] = row_weights[k]
                new[count] += left * row_weights[k]
                k += 1
            places[n] = count
            n += 1
            count += 1
        elif linked >= 0:
            slots[count], old[count] = linked, row_weights[k]
            new[count] = left * row_weights[k]
            k += 1
            count += 1
        else:
            return count


@njit(nogil=True, cache=True)
def record_write(
    matrix: Matrix,
    precedence: tuple[np.ndarray, np.ndarray],
    popped_write: tuple[np.ndarray, np.ndarray],
    added: tuple[np.ndarray, np.ndarray],
    strict: bool,
    journal: tuple[np.ndarray, np.ndarray],
) -> int:
    """As `Links.record_write`; returns how many links changed.

    precedence: p_{t-1}, slots and weights, which become p_t. popped_write, added: slots and
    weights of the write. journal: room for numbers and weights.
    """
    records, weights = matrix
    before_slots, before_weights = precedence
    popped, popped_weights = popped_write
    read_slots, write_weights = added
    batch_size, _, _, link_size = records.shape
    dtype = weights.dtype.type
    most = popped.shape[1] + read_slots.shape[1] * read_slots.shape[2]
    slots, written = np.empty(most + link_size, np.int64), np.empty(most + link_size, weights.dtype)
    # The rows of N_t that are written to, as `_merge_row` has them.
    row_slots = np.empty((most, 2 * link_size), np.int64)
    row_old = np.empty((most, 2 * link_size), weights.dtype)
    row_new = np.empty((most, 2 * link_size), weights.dtype)
    row_counts = np.empty(most, np.int64)
    places = np.empty((most, link_size), np.int64)
    ranks = np.empty(max(most, link_size) + link_size, np.int64)
    column = (
        np.empty(most + link_size, np.int64),
        np.empty(most + link_size, weights.dtype),
        np.empty(most + link_size, np.int64),
    )
    count = 0
    _prefetch_written(matrix, 0, popped[0], read_slots[0], before_slots[0])
    for b in range(batch_size):
        ahead = min(b + 1, batch_size - 1)
        _prefetch_written(matrix, ahead, popped[ahead], read_slots[ahead], before_slots[ahead])
        num_written = _sum_over_heads(
            popped[b], popped_weights[b], read_slots[b], write_weights[b], slots, written
        )
        if not strict:
            for h in range(popped.shape[1]):
                count = _clear(matrix, b, popped[b, h], journal, count)
        for r in range(num_written):
            row_counts[r] = _merge_row(
                (records[b, slots[r], SOURCES], weights[b, slots[r], WEIGHTS]),
                (before_slots[b], before_weights[b]),
                written[r],
                -1 if strict else slots[r],
                (row_slots[r], row_old[r], row_new[r]),
                places[r],
            )
            _cut(row_slots[r], row_new[r], row_counts[r], link_size, ranks)
        for r in range(num_written):
            for place in range(row_counts[r]):
                if row_old[r, place] > 0 and row_new[r, place] == 0:
                    _prefetch_record(matrix, b, row_slots[r, place])
        # Of the rows of P_t, only those of the slots of p_{t-1} can have become too long.
        for k in range(link_size):
            if before_slots[b, k] > 0:
                count = _cut_followers(
                    matrix,
                    b,
                    before_slots[b, k] - 1,
                    slots[:num_written],
                    (row_old, row_new),
                    places[:, k],
                    (ranks, *column),
                    journal,
                    count,
                )
        # What goes makes room for what comes.
        for r in range(num_written):
            for place in range(row_counts[r]):
                if row_old[r, place] > 0 and row_new[r, place] == 0:
                    i, j = slots[r], row_slots[r, place]
                    followers = records[b, j, FOLLOWERS]
                    _delete(followers, _place(followers, i))
                    number = _number(matrix, b, i, j)
                    count = _note(journal, count, number, row_old[r, place])
        for r in range(num_written):
            i, size = slots[r], 0
            sources, weights_of = records[b, i, SOURCES], weights[b, i, WEIGHTS]
            for place in range(row_counts[r]):
                if row_new[r, place] > 0:
                    j = row_slots[r, place]
                    if row_old[r, place] == 0:
                        _insert(records[b, j, FOLLOWERS], i)
                    number = _number(matrix, b, i, j)
                    count = _note(journal, count, number, row_old[r, place])
                    sources[size], weights_of[size] = j + 1, row_new[r, place]
                    size += 1
            sources[size:], weights_of[size:] = 0, 0
        # p_t = (1 - sum_i w^W_t(i)) p_{t-1} + w^W_t, cut to K_L
        left = max(dtype(1) - written[:num_written].sum(), dtype(0))
        for k in range(link_size):
            if before_slots[b, k] > 0:
                weight = left * before_weights[b, k]
                num_written = _add(slots, written, num_written, before_slots[b, k] - 1, weight)
        _cut(slots, written, num_written, link_size, ranks)
        before_slots[b], before_weights[b] = 0, 0
        size = 0
        for r in range(num_written):
            if written[r] > 0:
                before_slots[b, size], before_weights[b, size] = slots[r] + 1, written[r]
                size += 1
    return count


@njit(nogil=True, cache=True)
def _cut_followers(
    matrix: Matrix,
    b: int,
    j: int,
    written: np.ndarray,
    rows: tuple[np.ndarray, np.ndarray],
    places: np.ndarray,
    scratch: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    journal: tuple[np.ndarray, np.ndarray],
    count: int,
) -> int:
    """Cut what follows slot j to K_L; returns the journal's new count.

    written: the slots whose rows are about to change. rows: their weights before and after, in
    which j stands at `places`, or -1; a link of theirs that is cut is set to 0 there, another is
    taken out at once.
    """
    records, weights = matrix
    old, new = rows
    ranks, slots, column, sources_of = scratch
    followers = records[b, j, FOLLOWERS]
    link_size = len(followers)
    size = gone = 0
    for r in range(len(written)):
        place = places[r]
        if place >= 0:
            gone += old[r, place] > 0
            if new[r, place] > 0:
                slots[size], column[size], sources_of[size] = written[r], new[r, place], r
                size += 1
    standing = 0
    while standing < link_size and followers[standing] > 0:
        standing += 1
    if size + standing - gone <= link_size:
        return count
    for k in range(standing):
        i = followers[k] - 1
        if not _holds(written, i):
            slots[size], sources_of[size] = i, -1
            column[size] = weights[b, i, WEIGHTS, _place(records[b, i, SOURCES], j)]
            size += 1
    _cut(slots, column, size, link_size, ranks)
    for n in range(size):
        if column[n] == 0:
            if sources_of[n] >= 0:
                new[sources_of[n], places[sources_of[n]]] = 0
            else:
                count = _change(matrix, b, slots[n], j, column[n], journal, count)
    return count


@njit(nogil=True, cache=True)
def _holds(slots: np.ndarray, slot: int) -> bool:
    """Whether `slot` is among `slots`."""
    found = False
    for n in range(len(slots)):
        found |= slots[n] == slot
    return found


@njit(nogil=True, cache=True)
def follow(
    matrix: Matrix,
    read_slots: np.ndarray,
    read_weights: np.ndarray,
    slots: np.ndarray,
    reached: np.ndarray,
) -> None:
    """As `Links.follow`."""
    records, weights = matrix
    batch_size, num_heads, k = read_slots.shape
    # A hash table with open addressing: 1 + where a slot stands among those reached, or 0.
    size = 2
    while size < 2 * slots.shape[2]:
        size *= 2
    table = np.zeros(size, np.int32)
    for b in range(batch_size):
        for h in range(num_heads):
            for n in range(k):
                if read_slots[b, h, n] >= 0:
                    _prefetch_followers(matrix, b, read_slots[b, h, n])
        for h in range(num_heads):
            count = 0
            for n in range(k):
                j = read_slots[b, h, n]
                if j < 0:
                    continue
                # b_t(i) = sum_j P_t(i, j) w^R_{t-1}(j), with P_t(i, j) = N_t(j, i)
                for place in range(records.shape[3]):
                    i = records[b, j, SOURCES, place] - 1
                    if i < 0:
                        break
                    at = _reach(i, table, slots[b, h], reached[b, h], count)
                    count = max(count, at + 1)
                    reached[b, h, at, 0] += weights[b, j, WEIGHTS, place] * read_weights[b, h, n]
                # f_t(i) = sum_j N_t(i, j) w^R_{t-1}(j)
                for place in range(records.shape[3]):
                    i = records[b, j, FOLLOWERS, place] - 1
                    if i < 0:
                        break
                    at = _reach(i, table, slots[b, h], reached[b, h], count)
                    count = max(count, at + 1)
                    weight = weights[b, i, WEIGHTS, _place(records[b, i, SOURCES], j)]
                    reached[b, h, at, 1] += weight * read_weights[b, h, n]
            table[:] = 0
            if count < slots.shape[2]:
                slots[b, h, count] = -1


@njit(nogil=True, cache=True)
def _reach(i: int, table: np.ndarray, slots: np.ndarray, reached: np.ndarray, count: int) -> int:
    """Where slot i stands among the `count` reached, of which it becomes the last if it is new."""
    mask = len(table) - 1
    entry = (i * 0x9E3779B1 >> 16) & mask  # Knuth's multiplicative hashing
    while table[entry] > 0:
        if slots[table[entry] - 1] == i:
            return table[entry] - 1
        entry = (entry + 1) & mask
    table[entry] = count + 1
    slots[count] = i
    reached[count] = 0
    return count
