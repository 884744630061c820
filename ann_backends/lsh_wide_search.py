"""Searches of lsh with sketches: the buckets near a query, scanned by the sketches in them."""

from __future__ import annotations

import math

import numpy as np

from ann_backends import ranking
from ann_backends.best import LISTED as MOST_LISTED
from ann_backends.best import keep_best
from ann_backends.kernels.jit import kernel
from ann_backends.lsh_wide_tables import (
    AXES,
    BITS,
    BLOCK,
    FINDABLE,
    LISTED,
    NEWEST,
    SIZE,
    VERTEX_BITS,
    Tables,
    bucket_of,
    encode,
    group_of,
    inverse_norm,
    nearest_vertex,
    prefetch_groups,
    slot_at,
)
from ann_backends.prefetching import CACHE_LINE, prefetch
from ann_backends.sketch import (
    FOUR,
    LANES,
    QUERY_NUMBERS,
    keep,
    lowest_bit,
    prepare_query,
    score_group,
    write_lane,
)

# Rows found by their sketches that are ranked by themselves; or twice k, if that is more.
RERANKED = 16
# Equal words have equal sketches, whose scores differ by no more than rounding.
ROUNDING, TINY = 1e-5, 1e-30
# Bisections: more would not tell float32 numbers apart.
CUTS = 24
# Blocks asked for before they are read.
BLOCKS_AHEAD = 4


@kernel
def _prefetch_row(index: Tables, memory: np.ndarray, b: int, slot: int) -> None:
    """Ask for a row's record and its word, which will be looked at when all heads have theirs."""
    row, word_size = b * memory.shape[1] + slot, memory.shape[2]
    prefetch(index.records, row * index.records.shape[2])
    for i in range(row * word_size, (row + 1) * word_size, CACHE_LINE // memory.itemsize):
        prefetch(memory, i)


@kernel
def search(
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
    # Many are kept in heaps (`best`): when each came, which have come, the scores of the best k.
    many = found.shape[1] > MOST_LISTED
    arrivals = np.zeros(found.shape[1] + 1 if many else 0, np.int64)
    seen = np.zeros(memory.shape[1] if many else 0, np.uint32)
    nearest = np.empty(k if many else 0, np.float32)
    for b in range(batch_size):
        found[:] = -1
        bits, rows, own_queries = index.state[b, BITS], memory[b], queries[b]
        for h in range(num_heads):
            best[:] = nearest[:] = -np.inf
            arrivals[:] = 0
            heaps = arrivals, seen, b * num_heads + h + 1, nearest
            encode(index, b, own_queries, h, products, codes)
            prepare_query(own_queries[h], prepared)
            asked = rows, own_queries, h, prepared
            equal = _own_score(own_queries, h, prepared)
            # What is found close by says how far to look.
            close = _close_codes(products, bits, 1 if math.isinf(reach) else probes)
            number = doubtful = 0
            for code in close:
                number = _list_blocks(index, b, bucket_of(index, 0, code), *blocks, number)
                doubtful = number if code == close[0] else doubtful
            distances[:number] = 0
            listed = blocks[0][:number], blocks[1][:number]
            _scan(
                index,
                b,
                listed,
                distances,
                reach,
                k,
                (equal, doubtful),
                asked,
                heaps,
                found[h],
                best,
            )
            number = 0
            for t in range(tables):
                coordinates = products[t * (products.size // tables) :]
                farthest = _farthest(reach, _kth(best, nearest, k))
                near, gaps = _codes_within(coordinates, bits, probes, farthest)
                for code in near:  # before they are listed, which would wait for one after another
                    at = b * index.buckets.shape[1] + bucket_of(index, t, code)
                    prefetch(index.buckets, at * index.buckets.shape[2])
                for i in range(near.size):
                    if t == 0 and _holds(close, near[i]):
                        continue
                    before = number
                    number = _list_blocks(index, b, bucket_of(index, t, near[i]), *blocks, number)
                    distances[before:number] = gaps[i]
            listed = blocks[0][:number], blocks[1][:number]
            _scan(index, b, listed, distances, reach, k, (equal, 0), asked, heaps, found[h], best)
            for slot in found[h]:
                if slot >= 0:
                    _prefetch_row(index, memory, b, slot)
        places, size = index.records[b, :, LISTED], index.state[b, FINDABLE : FINDABLE + 1]
        given = own_queries, True, found, index.recent[b]
        ranking.rank(rows, index.members[b], places, size, *given, slots[b], similarity[b])


@kernel
def _close_codes(coordinates: np.ndarray, bits: int, most: int) -> np.ndarray:
    """A query's own code, then those with the second nearest vertex in one place: int32, to `most`.

    coordinates: the query's along a table's axes.
    """
    codes = np.zeros(1 + (bits + VERTEX_BITS - 1) // VERTEX_BITS, np.int32)
    left = bits
    for place in range(codes.size - 1):
        size, first = min(left, VERTEX_BITS), place * AXES
        nearest = nearest_vertex(coordinates, first, 1 << size - 1)
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


@kernel
def _holds(codes: np.ndarray, code: int) -> bool:
    found = False
    for each in codes:
        found |= each == code
    return found


@kernel
def _farthest(reach: float, kth: float) -> float:
    """How far buckets may be to be looked into, when the k-th best row so far scores `kth`."""
    return reach if math.isinf(reach) else reach * (1 - min(kth, 1))


@kernel
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


@kernel
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
    own = nearest_vertex(coordinates, first, size)
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


@kernel
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
        own = nearest_vertex(coordinates, first, 1 << size - 1)
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


@kernel
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


@kernel
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


@kernel
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


@kernel
def _scan(
    index: Tables,
    b: int,
    listed: tuple[np.ndarray, np.ndarray],
    distances: np.ndarray,
    reach: float,
    k: int,
    special: tuple[float, int],
    asked: tuple[np.ndarray, np.ndarray, int, np.ndarray],
    heaps: tuple[np.ndarray, np.ndarray, int, np.ndarray],
    found: np.ndarray,
    best: np.ndarray,
) -> None:
    """Take the rows in the `listed` blocks into the best by their sketches, `found` and `best`.

    distances: of the blocks' buckets; those beyond `reach`, as the k-th best then is, are left out.
    special: what a sketch of the query itself scores, and of how many blocks, the first ones, rows
    whose sketches score that come before all others, the nearest first. heaps: what `keep_best`
    asks for, and the k best scores, the worst first; empty arrays where a list is kept.
    """
    blocks, fills = listed
    words, queries, h, prepared = asked
    equal, doubtful = special
    arrivals, seen, now, nearest = heaps
    scores = np.empty(BLOCK, np.float32)
    for n in range(-BLOCKS_AHEAD, blocks.size):
        farthest, ahead = _farthest(reach, _kth(best, nearest, k)), n + BLOCKS_AHEAD
        if ahead < blocks.size and distances[ahead] <= farthest:
            groups = (fills[ahead] + LANES - 1) // LANES
            prefetch_groups(index, group_of(index, b, blocks[ahead] * BLOCK), groups)
        if n < 0 or distances[n] > farthest:
            continue
        floor = min(best[0], np.float32(equal - ROUNDING)) if n < doubtful else best[0]
        # First the scores of the whole block, then what stands out: a branch foreseen wrongly
        # keeps the next rows waiting.
        better = 0
        for first in range(0, fills[n], LANES):
            group = group_of(index, b, blocks[n] * BLOCK + first)
            own = scores[first : first + LANES]
            better |= score_group(index.sketches, group, prepared, floor, own) << first
        if fills[n] < BLOCK:  # a lane without a row may hold anything
            better &= (1 << fills[n]) - 1
        while better:
            lane = lowest_bit(better)
            better &= better - 1
            slot, score = slot_at(index, b, blocks[n] * BLOCK + lane), scores[lane]
            if n < doubtful and abs(score - equal) <= ROUNDING:
                score = np.float32(1 / (_squared_distance(words, slot, queries, h) + TINY))
            if score > best[0]:
                if nearest.size == 0:
                    keep(slot, score, found, best)
                elif seen[slot] != now:
                    keep_best(slot, score, found, best, arrivals, seen, now)
                    _keep_score(score, nearest)


@kernel
def _kth(best: np.ndarray, nearest: np.ndarray, k: int) -> float:
    """The score of the k-th best row so far, -inf if there are fewer."""
    return nearest[0] if nearest.size else best[best.size - k]


@kernel
def _keep_score(score: float, nearest: np.ndarray) -> None:
    """Take a score into the best so far: a heap led by the worst."""
    if score > nearest[0]:
        parent = 0
        while 2 * parent + 1 < nearest.size:
            child = 2 * parent + 1
            if child + 1 < nearest.size and nearest[child + 1] < nearest[child]:
                child += 1
            if nearest[child] >= score:
                break
            nearest[parent] = nearest[child]
            parent = child
        nearest[parent] = score


@kernel
def _own_score(queries: np.ndarray, h: int, prepared: np.ndarray) -> float:
    """The score that the sketch of a row equal to the query has."""
    sketch = np.zeros((1, prepared.shape[0] - 1, LANES, FOUR), np.int8)
    scores = np.empty(LANES, np.float32)
    write_lane(sketch, 0, 0, queries, h)
    score_group(sketch, 0, prepared, np.float32(0), scores)
    return scores[0]


@kernel
def _squared_distance(words: np.ndarray, slot: int, queries: np.ndarray, h: int) -> float:
    """That of the directions of words[slot] and queries[h]: exactly 0 where they are equal."""
    scale, query_scale = inverse_norm(words, slot), inverse_norm(queries, h)
    total = 0.0
    for w in range(words.shape[1]):
        total += (words[slot, w] * scale - queries[h, w] * query_scale) ** 2
    return total
