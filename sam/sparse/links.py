"""Temporal links: which slot was written after which (Rae et al. 2016, supplement D).

The paper keeps two sparse matrices, N_t of what each slot was written after and P_t of what was
written after each slot, both with at most K_L links a row. Until something is cut, P_t is the
transpose of N_t. It stays so here: a link cut from one is cut from the other, so that the weights
are kept once and a slot's links are all found from its own two rows. Cut each by itself, the two
drift apart, and the links that only one of them still has can be neither decayed nor cleared.

No gradient goes through the links (supplement D).
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numba import njit

import ann_backends


@dataclasses.dataclass
class LinkJournal:
    """The links that the steps of one pass changed, in order.

    numbers: int64 [n], (b N + i) N + j of the link from j to i in memory b. weights: [n], its
    weight on the other side of the change: the old one while the links stand after it.
    count: how many are in use. precedence: slots and weights [B, K_L], likewise of the pass.
    """

    numbers: np.ndarray
    weights: np.ndarray
    precedence: tuple[np.ndarray, np.ndarray]
    count: int = 0

    def reserve(self, more: int) -> None:
        """Make room for so many more changes."""
        needed = self.count + more
        if needed > len(self.numbers):
            self._resize(max(needed, 2 * len(self.numbers)))

    def trim(self) -> None:
        """Give up the room that is not used."""
        self._resize(self.count)

    def _resize(self, capacity: int) -> None:
        for name in ("numbers", "weights"):
            kept = getattr(self, name)[: self.count]
            resized = np.empty(capacity, kept.dtype)
            resized[: self.count] = kept
            setattr(self, name, resized)


class Links:
    """The links of B memories of N slots, at most K_L = `link_size` to and from each slot.

    In all arrays a slot is stored as 1 + its number and 0 is none, so that arrays of zeros hold no
    links and cost no page of physical memory until they are written to. Rows are in ascending
    order of slots, their unused places last.

    sources: int32 [B, N, K_L], what slot i was written after, the rows of N_t. weights:
    [B, N, K_L], N_t(i, j) in (0, 1] of each of those. followers: int32 [B, N, K_L], what was
    written after slot j, the rows of P_t. precedence_slots, precedence_weights: [B, K_L], p_t, the
    slots written last.
    strict: whether links of a slot to itself, and those of a slot that was erased, stay, as the
    printed equations have it.
    """

    def __init__(
        self, shape: tuple[int, int], link_size: int, dtype: np.dtype, *, strict: bool = False
    ) -> None:
        """shape: B, N."""
        batch_size, memory_size = shape
        rows = (batch_size, memory_size, link_size)
        self.sources = ann_backends.lazy_zeros(rows, np.int32)
        self.weights = ann_backends.lazy_zeros(rows, dtype)
        self.followers = ann_backends.lazy_zeros(rows, np.int32)
        self.precedence_slots = np.zeros((batch_size, link_size), np.int32)
        self.precedence_weights = np.zeros((batch_size, link_size), dtype)
        self.strict = strict

    @property
    def shape(self) -> tuple[int, int]:
        """B, N."""
        batch_size, memory_size, _ = self.sources.shape
        return batch_size, memory_size

    def journal(self) -> LinkJournal:
        """An empty one for a pass that starts here."""
        return LinkJournal(
            numbers=np.empty(0, np.int64),
            weights=np.empty(0, self.weights.dtype),
            precedence=(self.precedence_slots.copy(), self.precedence_weights.copy()),
        )

    def record_write(
        self,
        popped: np.ndarray,
        popped_weights: np.ndarray,
        read_slots: np.ndarray,
        write_weights: np.ndarray,
        journal: LinkJournal,
    ) -> None:
        """Take down one step's write, w^W_t: N_t, P_t and p_t from those of the step before.

        popped, popped_weights: [B, H], the slots erased and what was then written there.
        read_slots, write_weights: [B, H, K], the slots read before, -1 for none, and what was
        added there. Weights are at least 0; summed over the heads they are clipped to [0, 1] per
        slot, and scaled down where they sum to more than 1: the equations are those of one head,
        whose weights cannot, and links that multiply weights would let reads grow without bound.
        """
        link_size, num_heads = self.sources.shape[2], popped.shape[1]
        most_written = num_heads + read_slots[0].size
        most = link_size * (2 * (num_heads + most_written) + link_size)
        journal.reserve(most * len(popped))
        journal.count = _record_write(
            (self.sources, self.weights, self.followers),
            (self.precedence_slots, self.precedence_weights),
            (popped, popped_weights),
            (read_slots, write_weights),
            self.strict,
            (journal.numbers, journal.weights),
            journal.count,
        )

    def follow(
        self, read_slots: np.ndarray, read_weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Where the links lead from w^R_{t-1}: b_t = P_t w^R_{t-1} and f_t = N_t w^R_{t-1}.

        read_slots, read_weights: [B, H, K], -1 for none. Returns the slots reached, int64
        [B, H, 2 K K_L], -1 after the last, and their b_t and f_t, [B, H, 2 K K_L, 2].
        """
        reached = (*read_slots.shape[:2], 2 * read_slots.shape[2] * self.sources.shape[2])
        slots = np.full(reached, -1)
        weights = np.zeros((*reached, 2), self.weights.dtype)
        _follow(
            (self.sources, self.weights, self.followers), read_slots, read_weights, slots, weights
        )
        return slots, weights

    def carry(self, journal: LinkJournal, *, forward: bool) -> None:
        """Carry the links across a pass, forward or backward in time, bit for bit."""
        _swap(
            (self.sources, self.weights, self.followers),
            (journal.numbers[: journal.count], journal.weights),
            forward,
        )
        other_side = journal.precedence
        journal.precedence = (self.precedence_slots, self.precedence_weights)
        self.precedence_slots, self.precedence_weights = other_side


@njit(nogil=True, cache=True)
def _place(row: np.ndarray, slot: int) -> int:
    """Where `slot` stands in a row of slots, or -1."""
    for k in range(len(row)):
        if row[k] == slot + 1:
            return k
    return -1


@njit(nogil=True, cache=True)
def _reach(slots: np.ndarray, count: int, slot: int) -> int:
    """Where `slot` stands in slots[:count], or `count`."""
    for n in range(count):
        if slots[n] == slot:
            return n
    return count


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
def _set(
    links: tuple[np.ndarray, np.ndarray, np.ndarray], b: int, i: int, j: int, weight: float
) -> float:
    """Give the link from j to i in memory b a weight, 0 to take it out; returns the old one."""
    sources, weights, followers = links
    k = _place(sources[b, i], j)
    if k >= 0:
        old = weights[b, i, k]
        if weight > 0:
            weights[b, i, k] = weight
        else:
            _delete(sources[b, i], k)
            _delete(weights[b, i], k)
            _delete(followers[b, j], _place(followers[b, j], i))
        return old
    if weight > 0:
        k = _insert(sources[b, i], j)
        row = weights[b, i]
        for after in range(len(row) - 1, k, -1):
            row[after] = row[after - 1]
        row[k] = weight
        _insert(followers[b, j], i)
    return weights[b, i, 0] * 0


@njit(nogil=True, cache=True)
def _number(links: tuple[np.ndarray, np.ndarray, np.ndarray], b: int, i: int, j: int) -> int:
    """Stands for the link from j to i in memory b."""
    memory_size = links[0].shape[1]
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
    links: tuple[np.ndarray, np.ndarray, np.ndarray],
    b: int,
    i: int,
    j: int,
    weight: float,
    journal: tuple[np.ndarray, np.ndarray],
    count: int,
) -> int:
    """As `_set`, taken down in the journal; returns its new count."""
    old = _set(links, b, i, j, weight)
    return _note(journal, count, _number(links, b, i, j), old)


@njit(nogil=True, cache=True)
def _swap(
    links: tuple[np.ndarray, np.ndarray, np.ndarray],
    changes: tuple[np.ndarray, np.ndarray],
    forward: bool,
) -> None:
    numbers, weights = changes
    memory_size = links[0].shape[1]
    for n in range(len(numbers)):
        change = n if forward else len(numbers) - 1 - n
        row, j = divmod(numbers[change], memory_size)
        b, i = divmod(row, memory_size)
        weights[change] = _set(links, b, i, j, weights[change])


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
def _cut(
    slots: np.ndarray, weights: np.ndarray, count: int, most: int, largest: np.ndarray
) -> None:
    """Set all but the `most` largest of weights[:count] to 0, of equals that of the higher slot.

    largest: int64, room for `most` places.
    """
    if count <= most:
        return
    kept = 0
    for n in range(count):
        place = kept
        while place > 0 and (
            weights[n] > weights[largest[place - 1]]
            or (weights[n] == weights[largest[place - 1]] and slots[n] < slots[largest[place - 1]])
        ):
            place -= 1
        if place == most:
            weights[n] = 0
            continue
        if kept == most:
            weights[largest[most - 1]] = 0
        else:
            kept += 1
        for after in range(kept - 1, place, -1):
            largest[after] = largest[after - 1]
        largest[place] = n


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
    links: tuple[np.ndarray, np.ndarray, np.ndarray],
    b: int,
    slot: int,
    journal: tuple[np.ndarray, np.ndarray],
    count: int,
) -> int:
    """Take out all links to and from a slot."""
    sources, weights, followers = links
    zero = weights.dtype.type(0)
    while sources[b, slot, 0] > 0:
        count = _change(links, b, slot, sources[b, slot, 0] - 1, zero, journal, count)
    while followers[b, slot, 0] > 0:
        count = _change(links, b, followers[b, slot, 0] - 1, slot, zero, journal, count)
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
def _record_write(
    links: tuple[np.ndarray, np.ndarray, np.ndarray],
    precedence: tuple[np.ndarray, np.ndarray],
    popped_write: tuple[np.ndarray, np.ndarray],
    added: tuple[np.ndarray, np.ndarray],
    strict: bool,
    journal: tuple[np.ndarray, np.ndarray],
    count: int,
) -> int:
    """One step of `Links.record_write`; returns the journal's new count."""
    sources, weights, followers = links
    before_slots, before_weights = precedence
    popped, popped_weights = popped_write
    read_slots, write_weights = added
    batch_size, _, link_size = sources.shape
    dtype = weights.dtype.type
    most = popped.shape[1] + read_slots.shape[1] * read_slots.shape[2]
    slots, written = np.empty(most + link_size, np.int64), np.empty(most + link_size, weights.dtype)
    # The rows of N_t that are written to, as `_merge_row` has them.
    row_slots = np.empty((most, 2 * link_size), np.int64)
    row_old = np.empty((most, 2 * link_size), weights.dtype)
    row_new = np.empty((most, 2 * link_size), weights.dtype)
    row_counts = np.empty(most, np.int64)
    places = np.empty((most, link_size), np.int64)
    largest = np.empty(link_size, np.int64)
    column = (
        np.empty(most + link_size, np.int64),
        np.empty(most + link_size, weights.dtype),
        np.empty(most + link_size, np.int64),
    )
    for b in range(batch_size):
        num_written = _sum_over_heads(
            popped[b], popped_weights[b], read_slots[b], write_weights[b], slots, written
        )
        if not strict:
            for h in range(popped.shape[1]):
                count = _clear(links, b, popped[b, h], journal, count)
        for r in range(num_written):
            row_counts[r] = _merge_row(
                (sources[b, slots[r]], weights[b, slots[r]]),
                (before_slots[b], before_weights[b]),
                written[r],
                -1 if strict else slots[r],
                (row_slots[r], row_old[r], row_new[r]),
                places[r],
            )
            _cut(row_slots[r], row_new[r], row_counts[r], link_size, largest)
        # Of the rows of P_t, only those of the slots of p_{t-1} can have become too long.
        for k in range(link_size):
            if before_slots[b, k] > 0:
                count = _cut_followers(
                    links,
                    b,
                    before_slots[b, k] - 1,
                    slots[:num_written],
                    (row_old, row_new),
                    places[:, k],
                    (largest, *column),
                    journal,
                    count,
                )
        # What goes makes room for what comes.
        for r in range(num_written):
            for place in range(row_counts[r]):
                if row_old[r, place] > 0 and row_new[r, place] == 0:
                    i, j = slots[r], row_slots[r, place]
                    _delete(followers[b, j], _place(followers[b, j], i))
                    number = _number(links, b, i, j)
                    count = _note(journal, count, number, row_old[r, place])
        for r in range(num_written):
            i, size = slots[r], 0
            for place in range(row_counts[r]):
                if row_new[r, place] > 0:
                    j = row_slots[r, place]
                    if row_old[r, place] == 0:
                        _insert(followers[b, j], i)
                    number = _number(links, b, i, j)
                    count = _note(journal, count, number, row_old[r, place])
                    sources[b, i, size], weights[b, i, size] = j + 1, row_new[r, place]
                    size += 1
            sources[b, i, size:], weights[b, i, size:] = 0, 0
        # p_t = (1 - sum_i w^W_t(i)) p_{t-1} + w^W_t, cut to K_L
        left = max(dtype(1) - written[:num_written].sum(), dtype(0))
        for k in range(link_size):
            if before_slots[b, k] > 0:
                weight = left * before_weights[b, k]
                num_written = _add(slots, written, num_written, before_slots[b, k] - 1, weight)
        _cut(slots, written, num_written, link_size, largest)
        before_slots[b], before_weights[b] = 0, 0
        size = 0
        for r in range(num_written):
            if written[r] > 0:
                before_slots[b, size], before_weights[b, size] = slots[r] + 1, written[r]
                size += 1
    return count


@njit(nogil=True, cache=True)
def _cut_followers(
    links: tuple[np.ndarray, np.ndarray, np.ndarray],
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
    sources, weights, followers = links
    old, new = rows
    largest, slots, column, sources_of = scratch
    link_size = followers.shape[2]
    size = gone = 0
    for r in range(len(written)):
        place = places[r]
        if place >= 0:
            gone += old[r, place] > 0
            if new[r, place] > 0:
                slots[size], column[size], sources_of[size] = written[r], new[r, place], r
                size += 1
    standing = 0
    while standing < link_size and followers[b, j, standing] > 0:
        standing += 1
    if size + standing - gone <= link_size:
        return count
    for k in range(standing):
        i = followers[b, j, k] - 1
        if _reach(written, len(written), i) == len(written):
            slots[size], sources_of[size] = i, -1
            column[size] = weights[b, i, _place(sources[b, i], j)]
            size += 1
    _cut(slots, column, size, link_size, largest)
    for n in range(size):
        if column[n] == 0:
            if sources_of[n] >= 0:
                new[sources_of[n], places[sources_of[n]]] = 0
            else:
                count = _change(links, b, slots[n], j, column[n], journal, count)
    return count


@njit(nogil=True, cache=True)
def _follow(
    links: tuple[np.ndarray, np.ndarray, np.ndarray],
    read_slots: np.ndarray,
    read_weights: np.ndarray,
    slots: np.ndarray,
    reached: np.ndarray,
) -> None:
    """As `Links.follow`."""
    sources, weights, followers = links
    batch_size, num_heads, k = read_slots.shape
    for b in range(batch_size):
        for h in range(num_heads):
            count = 0
            for n in range(k):
                j = read_slots[b, h, n]
                if j < 0:
                    continue
                # b_t(i) = sum_j P_t(i, j) w^R_{t-1}(j), with P_t(i, j) = N_t(j, i)
                for place in range(sources.shape[2]):
                    i = sources[b, j, place] - 1
                    if i < 0:
                        break
                    at = _reach(slots[b, h], count, i)
                    count = max(count, at + 1)
                    slots[b, h, at] = i
                    reached[b, h, at, 0] += weights[b, j, place] * read_weights[b, h, n]
                # f_t(i) = sum_j N_t(i, j) w^R_{t-1}(j)
                for place in range(followers.shape[2]):
                    i = followers[b, j, place] - 1
                    if i < 0:
                        break
                    at = _reach(slots[b, h], count, i)
                    count = max(count, at + 1)
                    slots[b, h, at] = i
                    weight = weights[b, i, _place(sources[b, i], j)]
                    reached[b, h, at, 1] += weight * read_weights[b, h, n]
