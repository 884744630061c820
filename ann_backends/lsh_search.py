"""Searches of the lsh backend: the buckets near a query, and the best of the rows in them."""

from __future__ import annotations

import numpy as np

from ann_backends.kernels.jit import kernel
from ann_backends.lsh_tables import CODES, ROOM, Tables, encode, line_of, prefetch_row, project
from ann_backends.metric import NORM_EPSILON
from ann_backends.prefetching import prefetch

# Rows looked at where the probed buckets hold fewer than k.
SAMPLE = 256
# Sums may be reordered, which is what lets them vectorise; NaN and infinity keep their meaning.
REORDERED = {"reassoc", "contract", "nsz"}
# Squared norms below this did not overflow float32.
LARGE_SQUARE = 1e37


@kernel
def search(
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


@kernel
def _power_of_two(least: int) -> int:
    power = 1
    while power < least:
        power *= 2
    return power


@kernel
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
    project(queries, h, index.planes, products)
    encode(products, codes, 0, 0)
    ranks = 0
    for p in range(probes):
        ranks = max(ranks, sequence[p, 1] + 1)
    for t in range(tables):
        _rank_planes(products, t, tables, ranks, nearest)
        first = t * probes
        lines[h, first] = line_of(index, b, t, codes[0, t])
        for p in range(1, probes):
            lines[h, first + p] = -1
            if sequence[p, 0] >= 0:
                flipped = 1 << nearest[sequence[p, 1]]
                lines[h, first + p] = lines[h, first + sequence[p, 0]] ^ flipped
        for p in range(probes):
            prefetch(index.lines, (b * index.lines.shape[1] + max(0, lines[h, first + p])) * ROOM)


@kernel
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


@kernel
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
                prefetch_row(memory, b * rows + slot, word_size)
    return number


@kernel
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


@kernel
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


@kernel
def _normalise(queries: np.ndarray, h: int, ready: np.ndarray) -> None:
    """ready[h] = queries[h] / sqrt(|queries[h]|^2 + eps)."""
    factor = 1.0 / np.sqrt(_squared_norm(queries, h) + NORM_EPSILON)
    for w in range(ready.shape[1]):
        ready[h, w] = queries[h, w] * factor


@kernel
def _squared_norm(words: np.ndarray, row: int) -> float:
    """In double precision: no finite float32 word overflows it."""
    total = 0.0
    for w in range(words.shape[1]):
        total += np.float64(words[row, w]) ** 2
    return total


@kernel(fastmath=REORDERED)
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
@kernel(error_model="numpy")
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


@kernel
def _keep_best(
    found: np.ndarray, scores: np.ndarray, slots: np.ndarray, similarity: np.ndarray
) -> None:
    """Take the `found` rows into the best [k] so far of one query: a heap led by the worst."""
    for i in range(found.size):
        value = scores[0, i]
        if value > similarity[0] or (value == similarity[0] and found[i] < slots[0]):
            similarity[0], slots[0] = value, found[i]
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
    """Whether entry i comes after entry j: less similar, or as similar at a higher slot."""
    if similarity[i] == similarity[j]:
        return slots[i] > slots[j]
    return similarity[i] < similarity[j]


@kernel
def _swap(slots: np.ndarray, similarity: np.ndarray, i: int, j: int) -> None:
    slots[i], slots[j] = slots[j], slots[i]
    similarity[i], similarity[j] = similarity[j], similarity[i]
