"""Exact search: one scan of the findable rows, or of what little can stand for them.

One number per row, its `scale`, tells everything besides the row itself: 0 for a row that is
not findable, else what its dot product is multiplied by to give the similarity (the inverse norm
for cosine, 1 for l2).

For cosine in single precision, a large memory's rows are kept in 8 bits too
(`ann_backends.sketch`), which are several times faster to read and to score. The score of a sketch
is off its row's similarity by a known slack at most, so most rows are seen not to be among the k
best without a look at them. The others are scored from the row itself, by the same kernel that
scores all rows where sketches tell little apart: the answers are the same, to the bit.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ann_backends.index import Index, Settings
from ann_backends.kernels.jit import kernel
from ann_backends.log import Log
from ann_backends.metric import NORM_EPSILON
from ann_backends.prefetching import prefetch_row
from ann_backends.sketch import (
    FOUR,
    LANES,
    QUERY_NUMBERS,
    SCALE,
    any_above_four,
    any_above_one,
    group_shape,
    lowest_bit,
    prepare_query,
    score_four,
    score_one,
)

# Sums may be reordered, which is what lets them vectorise; NaN and infinity keep their meaning,
# as the empty places of a result hold -inf.
REORDERED = {"reassoc", "contract", "nsz"}
# Queries that share one pass over a row while it is in registers; the kernels below spell four out.
GROUP = 4
# Rows between two looks at the results: long enough to vectorise, small enough for the first cache.
BLOCK = 128
# In memories of fewer rows, sketches save a search no more than they cost an update.
SKETCHED_FROM = 2048
# Rows whose sketches are scored before the first of the rows is looked at.
STRETCH = 1024
# Where more than one row in so many may be among the best, sketches save little or nothing: they
# are left aside for the next PAUSE stretches.
CROWDED, PAUSE = 4, 4
# The k-th best of a stretch is told from the best of so many times k parts of it, or more.
RIVALS = 4
# What makes a cast, which cuts off, round to the nearest of the integers that 8 bits hold.
OFFSET = np.int32(128)
HALF_UP = np.float32(OFFSET + 0.5)
# Rounding of a similarity in single precision, per number of a word (and some more for the norms).
ROUNDING, NORMS = 2.0**-23, 8
# The scale of the longest row that an index takes.
LEAST_SCALE = 1e-37


@dataclasses.dataclass(frozen=True)
class Exact(Settings):
    """The linear scan: recall 1, O(N) per search, O(1) per update. Ties go to the lowest slot."""

    name: ClassVar[str] = "exact"
    reversible: ClassVar[bool] = True

    def build(
        self,
        memory: npt.ArrayLike,
        *,
        seed: int = 0,
        metric: str = "cosine",
        findable: str = "all",
    ) -> ExactIndex:
        """An index over `memory`; the arguments are those of `Index`."""
        return ExactIndex(self, memory, seed=seed, metric=metric, findable=findable)


class ExactIndex(Index):
    """The `Index` that `Exact` builds."""

    def _clear(self) -> None:
        self._scale = self._zeros((self.batch_size, self.memory_size), self.memory.dtype)
        self._count = np.zeros(self.batch_size, np.int64)
        # One past the highest slot that has been findable since the element was built.
        self._extent = np.zeros(self.batch_size, np.int64)
        sketched = self.metric == "cosine" and self.memory.dtype == np.float32
        sketched &= self.memory_size >= SKETCHED_FROM
        groups = math.ceil(self.memory_size / LANES) if sketched else 0
        shape = (self.batch_size, groups, *group_shape(self.word_size))
        self._sketches = self._zeros(shape, np.int8)
        self._fours = self._sketches.view(np.int32)[..., 0]
        # Elements with a row so huge that its similarity is not what its sketch says.
        self._huge = np.zeros(self.batch_size, np.bool_)

    def _update(self, slots: np.ndarray) -> None:
        cosine = self.metric == "cosine"
        log = self._log_chunk(slots.shape[1])
        _refresh(self.memory, slots, cosine, self._scale, self._count, self._extent, log)
        self._sketch(slots, slice(None))

    def _remove(self, slots: np.ndarray) -> None:
        _forget(slots, self._scale, self._count, self._log_chunk(slots.shape[1]))

    def _search(self, queries: np.ndarray, slots: np.ndarray, similarity: np.ndarray) -> None:
        if self._sketches.shape[1] > 0:
            known = self._scale, self._sketches, self._huge, self._extent
            _search_sketches(self.memory, *known, queries, slots, similarity)
        else:
            cosine = self.metric == "cosine"
            _search(self.memory, self._scale, self._extent, queries, cosine, slots, similarity)

    def _rebuild(self, element: int) -> None:
        cosine = self.metric == "cosine"
        _reread(self.memory[element], cosine, self._scale[element], self._extent, element)
        self._huge[element] = False
        self._sketch(np.flatnonzero(self._scale[element])[None], slice(element, element + 1))

    def _sketch(self, slots: np.ndarray, elements: slice) -> None:
        """Sketch the rows at `slots` [n, m] of n elements, whose scales are known."""
        if self._sketches.shape[1] > 0:
            own = self._scale[elements], self._fours[elements], self._huge[elements]
            _sketch(self.memory[elements], slots, *own)

    def _structure(self) -> dict[str, np.ndarray]:
        small = {"count": self._count, "extent": self._extent, "huge": self._huge}
        return {"scale": self._scale, "sketches": self._sketches, **small}

    def _counters(self) -> list[np.ndarray]:
        return [self._count, self._extent, self._huge]

    def _note_rebuild(self, element: int, log: Log) -> None:
        """Nothing: a rebuild changes only counters, as the rest follows from the rows."""

    def _carry_entry(self, entry: Any, forward: bool) -> None:
        touched = _carry(self.memory, entry, forward, self.metric == "cosine", self._scale)
        self._sketch(touched, slice(None))

    def _element_problem(self, element: int) -> str:
        scale = self._scale[element]
        rows = np.flatnonzero(scale)
        if not np.isfinite(self.memory[element, rows]).all():
            return "NaN or infinite values in a findable row"
        least = rows[-1] + 1 if rows.size else 0
        sound = least <= self._extent[element] <= self.memory_size
        sound &= self._count[element] == rows.size and np.isfinite(scale).all() and scale.min() >= 0
        return "" if sound else "numbers that do not fit together"

    def _findable(self) -> np.ndarray:
        return self._count

    def _bytes(self) -> int:
        arrays = self._scale, self._sketches, self._huge, self._count, self._extent
        return sum(array.nbytes for array in arrays)


@kernel
def _refresh(
    memory: np.ndarray,
    slots: np.ndarray,
    cosine: bool,
    scale: np.ndarray,
    count: np.ndarray,
    extent: np.ndarray,
    log: np.ndarray,
) -> None:
    """Make the rows at `slots` [B, n] findable; log: where to note it, or [B, 0]."""
    for b in range(slots.shape[0]):
        for i in range(slots.shape[1]):
            slot = slots[b, i]
            if slot >= 0:
                if log.shape[1]:
                    _note(log, b, slot, scale)
                count[b] += scale[b, slot] == 0
                extent[b] = max(extent[b], slot + 1)
                scale[b, slot] = _row_scale(memory[b, slot], cosine)


@kernel
def _reread(
    memory: np.ndarray, cosine: bool, scale: np.ndarray, extent: np.ndarray, element: int
) -> None:
    """Take the findable rows of one element, memory [N, W], as they are now; tighten its extent."""
    stop = extent[element]
    extent[element] = 0
    for slot in range(stop):
        if scale[slot] != 0:
            scale[slot] = _row_scale(memory[slot], cosine)
            extent[element] = slot + 1


@kernel
def _sketch(
    memory: np.ndarray, slots: np.ndarray, scale: np.ndarray, sketches: np.ndarray, huge: np.ndarray
) -> None:
    """Sketch the rows at `slots` [B, n]: int32 [B, G, W / 4, LANES], four numbers in each."""
    numbers = np.zeros(sketches.shape[2] * FOUR, np.int8)
    fours = numbers.view(np.int32)
    for b in range(slots.shape[0]):
        for i in range(slots.shape[1]):
            slot = slots[b, i]
            if slot < 0:
                continue
            huge[b] |= scale[b, slot] < 2 * LEAST_SCALE
            factor = np.float32(SCALE) * scale[b, slot]
            for w in range(memory.shape[2]):
                # Rounds to the nearest, of numbers in [-127, 127]; rint would be a call.
                numbers[w] = np.int8(np.int32(memory[b, slot, w] * factor + HALF_UP) - OFFSET)
            for four in range(fours.size):
                sketches[b, slot // LANES, four, slot % LANES] = fours[four]


@kernel
def _row_scale(word: np.ndarray, cosine: bool) -> float:
    # Never 0, which means absent.
    return max(_inverse_norm(word), np.finfo(word.dtype).tiny) if cosine else 1.0


@kernel
def _forget(slots: np.ndarray, scale: np.ndarray, count: np.ndarray, log: np.ndarray) -> None:
    """Make the rows at `slots` [B, n] not findable; log: as in `_refresh`."""
    for b in range(slots.shape[0]):
        for i in range(slots.shape[1]):
            slot = slots[b, i]
            if slot >= 0 and scale[b, slot] != 0:
                if log.shape[1]:
                    _note(log, b, slot, scale)
                scale[b, slot] = 0
                count[b] -= 1


@kernel
def _note(log: np.ndarray, b: int, slot: int, scale: np.ndarray) -> None:
    """A row that is about to change: its slot if it is findable now, else ~slot."""
    log[b, log[b, 0]] = slot if scale[b, slot] != 0 else ~slot
    log[b, 0] += 1


@kernel
def _carry(
    memory: np.ndarray, log: np.ndarray, forward: bool, cosine: bool, scale: np.ndarray
) -> np.ndarray:
    """Make rows findable, or not, as they were on the other side of the notes `log` [B, n].

    Returns those that are findable now, [B, n] with -1 for the others.
    """
    touched = np.full((log.shape[0], log[:, 0].max()), -1)
    for b in range(log.shape[0]):
        stop = log[b, 0]
        for i in range(1, stop):
            place = i if forward else stop - i
            noted = log[b, place]
            slot = max(noted, ~noted)
            log[b, place] = slot if scale[b, slot] != 0 else ~slot
            # Whatever is not 0, until it is known which rows are findable in the end.
            scale[b, slot] = 1 if noted >= 0 else 0
        for i in range(1, stop):
            slot = max(log[b, i], ~log[b, i])
            if scale[b, slot] != 0:
                scale[b, slot] = _row_scale(memory[b, slot], cosine)
                touched[b, i] = slot
    return touched


@kernel(fastmath=REORDERED)
def _search(
    memory: np.ndarray,
    scale: np.ndarray,
    extent: np.ndarray,
    queries: np.ndarray,
    cosine: bool,
    slots: np.ndarray,
    similarity: np.ndarray,
) -> None:
    """The k best of memory [B, N, W] for queries [B, H, W] into slots, similarity [B, H, k]."""
    num_heads, word_size = queries.shape[1:]
    padded_heads = (num_heads + GROUP - 1) // GROUP * GROUP
    ready = np.zeros((padded_heads, word_size), memory.dtype)
    scores = np.empty((GROUP, BLOCK), memory.dtype)
    every, unknown = np.arange(BLOCK), np.full(padded_heads, -np.inf, memory.dtype)
    slots[:] = -1
    similarity[:] = -np.inf
    for b in range(memory.shape[0]):
        for h in range(num_heads):
            factor = _inverse_norm(queries[b, h]) if cosine else 1.0
            for w in range(word_size):
                ready[h, w] = queries[b, h, w] * factor
        # Every slice costs two atomic reference counts: few of them per block.
        best_slots, best = slots[b], similarity[b]
        for start in range(0, extent[b], BLOCK):
            stop = min(start + BLOCK, extent[b])
            rows = memory[b, start:stop]
            block_scale = scale[b, start:stop]
            for first in range(0, num_heads, GROUP):
                if cosine:
                    _dots(rows, ready, first, scores)
                else:
                    _negative_distances(rows, ready, first, scores)
                _keep_best(start, every, block_scale, scores, first, unknown, best_slots, best)
        for h in range(num_heads):
            _sort(best_slots[h], best[h])


@kernel(fastmath=REORDERED)
def _search_sketches(
    memory: np.ndarray,
    scale: np.ndarray,
    sketches: np.ndarray,
    huge: np.ndarray,
    extent: np.ndarray,
    queries: np.ndarray,
    slots: np.ndarray,
    similarity: np.ndarray,
) -> None:
    """As `_search` by cosine, with no look at rows whose sketches say that they are not needed."""
    num_heads, word_size = queries.shape[1:]
    padded_heads = (num_heads + GROUP - 1) // GROUP * GROUP
    ready = np.zeros((padded_heads, word_size), memory.dtype)
    prepared = np.zeros((padded_heads, sketches.shape[2] + 1, QUERY_NUMBERS), np.int16)
    # Heads that only fill up a group ask for nothing.
    slack, least = np.empty(num_heads), np.full(padded_heads, np.inf, np.float32)
    unknown = np.full(padded_heads, -np.inf, np.float32)
    sketch_scores = np.empty((GROUP, STRETCH), np.float32)
    better = np.empty((2, STRETCH), np.float32)
    scores = np.empty((GROUP, BLOCK), memory.dtype)
    picked, picked_scale = np.empty((BLOCK, word_size), memory.dtype), np.empty(BLOCK, memory.dtype)
    every, places = np.arange(BLOCK), np.empty(STRETCH, np.int64)
    slots[:] = -1
    similarity[:] = -np.inf
    for b in range(memory.shape[0]):
        for h in range(num_heads):
            factor = _inverse_norm(queries[b, h])
            for w in range(word_size):
                ready[h, w] = queries[b, h, w] * factor
            slack[h] = prepare_query(queries[b, h], prepared[h]) + (word_size + NORMS) * ROUNDING
        rows, own_scale, own_sketches = memory[b], scale[b], sketches[b]
        best_slots, best = slots[b], similarity[b]
        # How many stretches are yet to be scanned without the sketches.
        pause = 0
        for start in range(0, extent[b], STRETCH):
            stop = min(start + STRETCH, extent[b])
            for first in range(0, num_heads, GROUP):
                if pause > 0 or huge[b] or stop <= BLOCK:
                    pause = max(pause - 1, 0)
                    for block in range(start, stop, BLOCK):
                        end = min(block + BLOCK, stop)
                        _dots(rows[block:end], ready, first, scores)
                        own = every, own_scale[block:end], scores, first, unknown
                        _keep_best(block, *own, best_slots, best)
                    continue
                heads = min(GROUP, num_heads - first)
                _score_sketches(own_sketches, start, stop, prepared, first, heads, sketch_scores)
                for h in range(first, first + heads):
                    reached = float(best[h, 0])
                    if start == 0:
                        own_scores = sketch_scores[h - first]
                        reached = _reached(own_scores, own_scale, stop, best.shape[1], better)
                        reached -= slack[h]
                    least[h] = reached - slack[h]
                count = _list_above(sketch_scores, start, stop, least, first, heads, rows, places)
                pause = PAUSE if count * CROWDED > stop - start else 0
                for i in range(0, count, BLOCK):
                    some = places[i : min(i + BLOCK, count)]
                    _copy(rows, own_scale, some, picked, picked_scale)
                    _dots(picked[: some.size], ready, first, scores)
                    own = some, picked_scale[: some.size], scores, first, least
                    _keep_best(0, *own, best_slots, best)
        for h in range(num_heads):
            _sort(best_slots[h], best[h])


@kernel
def _score_sketches(
    sketches: np.ndarray,
    start: int,
    stop: int,
    prepared: np.ndarray,
    first: int,
    heads: int,
    scores: np.ndarray,
) -> None:
    """scores[g, i] = what the sketch of slot start + i scores for head first + g, g < heads."""
    ahead = start // LANES
    for place in range((stop - start + LANES - 1) // LANES):
        if heads == 1:
            score_one(sketches, ahead + place, prepared, first, scores, place)
        else:
            score_four(sketches, ahead + place, prepared, first, scores, place)


@kernel(fastmath=REORDERED)
def _reached(scores: np.ndarray, scale: np.ndarray, count: int, k: int, best: np.ndarray) -> float:
    """A score that k of the first rows reach, about the k-th best; -inf if k are not found so.

    scores: float32 [STRETCH], of which `count` hold; best: [2, STRETCH] likewise, overwritten.
    """
    nothing = np.float32(-np.inf)
    rows, halved = best[0], best[1]
    for i in range(count):
        rows[i] = scores[i] if scale[i] != 0 else nothing
    rows[count:] = nothing
    # Of each two rows the better, until few are left: different rows, the best among them.
    size = rows.size // 2
    while size >= max(LANES, RIVALS * k):
        _take_better(rows[:size], rows[size : 2 * size], halved)
        rows, halved = halved, rows
        size //= 2
    reached = nothing
    for i in range(2 * size):
        as_good = np.int32(0)
        for j in range(2 * size):
            as_good += np.int32(rows[j] >= rows[i])
        reached = rows[i] if as_good >= k and rows[i] > reached else reached
    return float(reached)


@kernel(fastmath=REORDERED)
def _take_better(some: np.ndarray, others: np.ndarray, better: np.ndarray) -> None:
    """Into another array than theirs: what may be stored where it stands is not vectorised."""
    for i in range(some.size):
        better[i] = max(some[i], others[i])


@kernel
def _list_above(
    scores: np.ndarray,
    start: int,
    stop: int,
    least: np.ndarray,
    first: int,
    heads: int,
    rows: np.ndarray,
    places: np.ndarray,
) -> int:
    """List in `places`, ascending, the slots that score above `least` for one of a group's heads.

    Returns how many they are; their rows are asked for.
    """
    count, groups = 0, (stop - start + LANES - 1) // LANES
    for fourth in range(0, groups, FOUR):
        maybe = 0  # of four groups, bit by bit
        for group in range(fourth, min(fourth + FOUR, groups)):
            if heads == 1:
                lanes = any_above_one(scores, group, least, first)
            else:
                lanes = any_above_four(scores, group, least, first)
            maybe |= lanes << ((group - fourth) * LANES)
        while maybe:
            slot = start + fourth * LANES + lowest_bit(maybe)
            maybe &= maybe - 1
            if slot < stop:
                prefetch_row(rows, slot)
                places[count] = slot
                count += 1
    return count


@kernel
def _copy(
    rows: np.ndarray,
    scale: np.ndarray,
    slots: np.ndarray,
    picked: np.ndarray,
    picked_scale: np.ndarray,
) -> None:
    """Copy the rows at `slots` [n], and their scales, into picked [>= n, W]."""
    for i in range(slots.size):
        picked_scale[i] = scale[slots[i]]
        for w in range(rows.shape[1]):
            picked[i, w] = rows[slots[i], w]


@kernel
def _inverse_norm(word: np.ndarray) -> float:
    """1 / sqrt(|word|^2 + eps), in double precision: no finite float32 word overflows it.

    The four sums fix the order of the additions, so that equal rows tie wherever this is inlined.
    """
    a = b = c = d = 0.0
    whole = word.size // 4 * 4
    for w in range(0, whole, 4):
        a += np.float64(word[w]) ** 2
        b += np.float64(word[w + 1]) ** 2
        c += np.float64(word[w + 2]) ** 2
        d += np.float64(word[w + 3]) ** 2
    for w in range(whole, word.size):
        a += np.float64(word[w]) ** 2
    return 1.0 / np.sqrt((a + b) + (c + d) + NORM_EPSILON)


@kernel(fastmath=REORDERED)
def _dots(rows: np.ndarray, queries: np.ndarray, first: int, scores: np.ndarray) -> None:
    """scores[g, i] = queries[first + g] . rows[i]; each row is read once for four queries."""
    for i in range(rows.shape[0]):
        a = b = c = d = rows.dtype.type(0)
        for w in range(rows.shape[1]):
            value = rows[i, w]
            a += queries[first, w] * value
            b += queries[first + 1, w] * value
            c += queries[first + 2, w] * value
            d += queries[first + 3, w] * value
        scores[0, i], scores[1, i], scores[2, i], scores[3, i] = a, b, c, d


@kernel(fastmath=REORDERED)
def _negative_distances(
    rows: np.ndarray, queries: np.ndarray, first: int, scores: np.ndarray
) -> None:
    """scores[g, i] = -|queries[first + g] - rows[i]|^2, by differences: no digits are lost."""
    for i in range(rows.shape[0]):
        a = b = c = d = rows.dtype.type(0)
        for w in range(rows.shape[1]):
            value = rows[i, w]
            a -= (queries[first, w] - value) ** 2
            b -= (queries[first + 1, w] - value) ** 2
            c -= (queries[first + 2, w] - value) ** 2
            d -= (queries[first + 3, w] - value) ** 2
        scores[0, i], scores[1, i], scores[2, i], scores[3, i] = a, b, c, d


@kernel(fastmath=REORDERED)
def _keep_best(
    start: int,
    places: np.ndarray,
    scale: np.ndarray,
    scores: np.ndarray,
    first: int,
    least: np.ndarray,
    slots: np.ndarray,
    similarity: np.ndarray,
) -> None:
    """Take rows, at `places` from slot `start` on, into the best [H, k] so far of a group of heads.

    least: a bound for each head, below which no row can be among its k best. Those are a heap led
    by the worst. Slots come in ascending order and only a better row enters, so ties keep the
    lowest slot.
    """
    for g in range(min(GROUP, slots.shape[0] - first)):
        worst = max(similarity[first + g, 0], least[first + g])
        better = np.int32(0)
        for i in range(scale.size):  # branch-free, so that it vectorises: most blocks end here
            better += np.int32((scores[g, i] * scale[i] > worst) & (scale[i] != 0))
        if better == 0:
            continue
        head_slots, head_similarity = slots[first + g], similarity[first + g]
        for i in range(scale.size):
            value = scores[g, i] * scale[i]
            if value > worst and scale[i] != 0:
                head_similarity[0], head_slots[0] = value, start + places[i]
                _sink(head_slots, head_similarity, head_slots.size)
                worst = max(head_similarity[0], least[first + g])


@kernel
def _sink(slots: np.ndarray, similarity: np.ndarray, size: int) -> None:
    """Restore the heap of the first `size` entries after its leader was replaced."""
    parent = 0
    while True:
        child = 2 * parent + 1
        if child >= size:
            return
        if child + 1 < size and _worse(slots, similarity, child + 1, child):
            child += 1
        if not _worse(slots, similarity, child, parent):
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
def _worse(slots: np.ndarray, similarity: np.ndarray, i: int, j: int) -> bool:
    """Whether entry i comes after entry j: less similar, or as similar at a higher slot."""
    if similarity[i] == similarity[j]:
        return slots[i] > slots[j]
    return similarity[i] < similarity[j]


@kernel
def _swap(slots: np.ndarray, similarity: np.ndarray, i: int, j: int) -> None:
    slots[i], slots[j] = slots[j], slots[i]
    similarity[i], similarity[j] = similarity[j], similarity[i]
