"""Compiled kernels that the indexes on libraries share: which rows there are, and which are best.

A library proposes candidates from what it has seen of the rows; here they are ranked, beside the
rows that it may not know yet, by what stands in the memory now. All kernels live in this file, as
numba's on-disk cache notices no edits in others.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ann_backends.kernels.jit import kernel
from ann_backends.metric import NORM_EPSILON

# Sums may be reordered, which is what lets them vectorise; NaN and infinity keep their meaning.
REORDERED = {"reassoc", "contract", "nsz"}
# More rows than these are wanted once each by sorting them, not by a look at those that are there.
MANY = 128
# Rows scored before the best of them are kept: their scores stay in the first cache.
BLOCK = 128


class Members(NamedTuple):
    """The findable rows of one batch element, numbered without gaps.

    slots: int32 [N], the first `size[0]` of them findable, in no order. places: int32 [N], per
    slot its index in `slots` + 1, 0 if it is not findable. size: int64 [1].
    """

    slots: np.ndarray
    places: np.ndarray
    size: np.ndarray


@kernel
def add(slots: np.ndarray, places: np.ndarray, size: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Make the rows `given` [n] findable; returns them sorted and distinct, without -1."""
    added = _distinct(given)
    for slot in added:
        if places[slot] == 0:
            slots[size[0]] = slot
            size[0] += 1
            places[slot] = size[0]
    return added


@kernel
def drop(
    slots: np.ndarray, places: np.ndarray, size: np.ndarray, given: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Make the rows `given` [n] not findable: (those that were, the places that changed hands).

    The last member takes the place of one that leaves; such places come sorted and distinct.
    """
    dropped = _distinct(given)
    changed = np.empty(dropped.size, np.int64)
    number = 0
    for slot in dropped:
        place = places[slot] - 1
        if place >= 0:
            size[0] -= 1
            last = slots[size[0]]
            slots[place] = last
            places[last] = place + 1
            places[slot] = 0
            dropped[number], changed[number] = slot, place
            number += 1
    changed = _distinct(changed[:number])
    return dropped[:number], changed[changed < size[0]]


@kernel
def remember(recent: np.ndarray, number: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Append the slots `given` [n] to the first number[0] of `recent` [size], the oldest first.

    Each stands there once, where it came last; in a full list the oldest give way, and are
    returned.
    """
    gone = np.empty(given.size, np.int64)
    leaving = 0
    for slot in given:
        if slot >= 0:
            place = 0
            while place < number[0] and recent[place] != slot:
                place += 1
            if place == recent.size:
                place = 0
                gone[leaving] = recent[0]
                leaving += 1
            number[0] = max(number[0], place + 1)
            for i in range(place, number[0] - 1):
                recent[i] = recent[i + 1]
            recent[number[0] - 1] = slot
    return _distinct(gone[:leaving])


@kernel
def _distinct(values: np.ndarray) -> np.ndarray:
    """The values from 0 on, sorted, each once: int64."""
    ordered = np.sort(values)
    number = 0
    for value in ordered:
        if value >= 0 and (number == 0 or value != ordered[number - 1]):
            ordered[number] = value
            number += 1
    return ordered[:number]


@kernel
def _union(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The slots of both, sorted, each once, without -1: int64."""
    both = np.empty(some.size + others.size, np.int64)
    both[: some.size] = some
    both[some.size :] = others
    return _distinct(both)


@kernel
def points(words: np.ndarray, rows: np.ndarray, cosine: bool) -> np.ndarray:
    """words[rows] as a library sees them: float32 [n, W], for cosine divided by their norms.

    For l2, numbers whose squared differences could overflow float32 are cut off. NaN, in a row
    that has not been announced since it came to hold one, is 0: a library may end the process.
    """
    word_size = words.shape[1]
    limit = np.sqrt(np.finfo(np.float32).max / (8 * word_size))
    made = np.empty((rows.size, word_size), np.float32)
    for i in range(rows.size):
        scale = _inverse_norm(words, rows[i]) if cosine else 1.0
        for w in range(word_size):
            number = words[rows[i], w] * scale
            made[i, w] = min(max(number, -limit), limit) if number == number else 0
    return made


@kernel
def looked_up(table: np.ndarray, size: int, indices: np.ndarray) -> np.ndarray:
    """table[indices], int64 [H, C]; -1 where an index is not in [0, size)."""
    found = np.full(indices.shape, -1, np.int64)
    for h in range(indices.shape[0]):
        for c in range(indices.shape[1]):
            if 0 <= indices[h, c] < size:
                found[h, c] = table[indices[h, c]]
    return found


@kernel
def rank(
    words: np.ndarray,
    slots: np.ndarray,
    places: np.ndarray,
    size: np.ndarray,
    queries: np.ndarray,
    cosine: bool,
    candidates: np.ndarray,
    fresh: np.ndarray,
    best_slots: np.ndarray,
    best: np.ndarray,
) -> int:
    """The k best of words [N, W] for queries [H, W], into best_slots and best [H, k].

    candidates: int64 [H, C], the slots to rank for each query; fresh: int32 [n], those to rank for
    all. Slots that are no members count for nothing, as do -1 and repetitions. A query for which
    this gives fewer than min(k, members) slots is answered from all members; returns the number of
    these.
    """
    num_heads, k = best.shape
    ready = np.empty(queries.shape, queries.dtype)
    for h in range(num_heads):
        scale = _inverse_norm(queries, h) if cosine else 1.0
        for w in range(queries.shape[1]):
            ready[h, w] = queries[h, w] * scale
    best_slots[:] = -1
    best[:] = -np.inf
    kept = np.empty(BLOCK, np.int64)
    scores = np.empty((num_heads, BLOCK), words.dtype)
    many = k > MANY
    room = kept, scores, best_slots, best
    for h in range(num_heads):
        own = _union(candidates[h], fresh) if many else candidates[h]
        _consider(words, places, own, ready, h, h + 1, cosine, many, *room)
    if not many:
        _consider(words, places, fresh, ready, 0, num_heads, cosine, False, *room)
    scans = 0
    members = slots[: size[0]]
    for h in range(num_heads):
        if (best_slots[h] >= 0).sum() < min(k, size[0]):
            scans += 1
            best_slots[h] = -1
            best[h] = -np.inf
            _consider(words, places, members, ready, h, h + 1, cosine, True, *room)
        _sort(best_slots[h], best[h])
    return scans


@kernel
def _consider(
    words: np.ndarray,
    places: np.ndarray,
    given: np.ndarray,
    ready: np.ndarray,
    first: int,
    stop: int,
    cosine: bool,
    once: bool,
    kept: np.ndarray,
    scores: np.ndarray,
    best_slots: np.ndarray,
    best: np.ndarray,
) -> None:
    """Take those of the `given` slots that are members into the best of the heads first to stop.

    once: no slot comes twice, nor is there yet.
    """
    start = 0
    while start < given.size:
        number = 0
        while start < given.size and number < BLOCK:
            slot = given[start]
            start += 1
            if slot >= 0 and places[slot] > 0:
                kept[number] = slot
                number += 1
        if cosine:
            _cosines(words, kept, number, ready, first, stop, scores)
        else:
            _negative_distances(words, kept, number, ready, first, stop, scores)
        for h in range(first, stop):
            _keep_best(kept, number, scores[h], once, best_slots[h], best[h])


@kernel(fastmath=REORDERED)
def _cosines(
    words: np.ndarray,
    rows: np.ndarray,
    number: int,
    ready: np.ndarray,
    first: int,
    stop: int,
    scores: np.ndarray,
) -> None:
    """scores[h, i] = the cosine of words[rows[i]] and the normalised ready[h]."""
    for i in range(number):
        slot = rows[i]
        scale = words.dtype.type(_inverse_norm(words, slot))
        for h in range(first, stop):
            dot = words.dtype.type(0)
            for w in range(words.shape[1]):
                dot += words[slot, w] * ready[h, w]
            scores[h, i] = dot * scale


@kernel(fastmath=REORDERED)
def _negative_distances(
    words: np.ndarray,
    rows: np.ndarray,
    number: int,
    ready: np.ndarray,
    first: int,
    stop: int,
    scores: np.ndarray,
) -> None:
    """scores[h, i] = -|words[rows[i]] - ready[h]|^2, by differences: no digits are lost."""
    for i in range(number):
        slot = rows[i]
        for h in range(first, stop):
            total = words.dtype.type(0)
            for w in range(words.shape[1]):
                total -= (words[slot, w] - ready[h, w]) ** 2
            scores[h, i] = total


@kernel(fastmath=REORDERED)
def _inverse_norm(words: np.ndarray, row: int) -> float:
    """1 / sqrt(|words[row]|^2 + eps), in double precision: no finite float32 word overflows it."""
    total = 0.0
    for w in range(words.shape[1]):
        total += np.float64(words[row, w]) ** 2
    return 1.0 / np.sqrt(total + NORM_EPSILON)


@kernel
def _keep_best(
    rows: np.ndarray,
    number: int,
    scores: np.ndarray,
    once: bool,
    slots: np.ndarray,
    similarity: np.ndarray,
) -> None:
    """Take rows into the best [k] so far of one query: a heap led by the worst.

    once: none of them is there yet, nor comes twice. Else a row that is there already is let be.
    One that was there and had to leave stays out, or comes back once: either way it is never there
    twice.
    """
    for i in range(number):
        value, slot = scores[i], rows[i]
        if slots[0] < 0 or value > similarity[0] or (value == similarity[0] and slot < slots[0]):
            known = False
            if not once:
                for j in range(slots.size):
                    known |= slots[j] == slot
            if not known:
                similarity[0], slots[0] = value, slot
                _sink(slots, similarity, slots.size)


@kernel
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


@kernel
def _sort(slots: np.ndarray, similarity: np.ndarray) -> None:
    """Turn the heap into a list, best first: its worst goes to the end, again and again."""
    for last in range(slots.size - 1, 0, -1):
        _swap(slots, similarity, 0, last)
        _sink(slots, similarity, last)


@kernel
def _is_worse(slots: np.ndarray, similarity: np.ndarray, i: int, j: int) -> bool:
    """Whether entry i comes after entry j: empty, less similar, or as similar at a higher slot."""
    if slots[i] < 0 or slots[j] < 0:
        return slots[j] >= 0
    if similarity[i] == similarity[j]:
        return slots[i] > slots[j]
    return similarity[i] < similarity[j]


@kernel
def _swap(slots: np.ndarray, similarity: np.ndarray, i: int, j: int) -> None:
    slots[i], slots[j] = slots[j], slots[i]
    similarity[i], similarity[j] = similarity[j], similarity[i]
