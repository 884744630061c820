"""Rows in 8 bits, sixteen side by side, so that a search ranks many rows for the price of few.

A row's sketch is its direction, row / |row|, rounded to 1/127. Sketches stand in groups of
`LANES`, the lanes: group[w, lane] is number w of the row in that lane, so that one number of the
query meets sixteen rows in one instruction. A group of sixteen rows is scored in the time of
about two rows read one by one from the memory, and takes a quarter of their space. What ranks
best by its sketch is then ranked by the row itself, as sketches are off by up to `slack`.

These kernels are inlined into those of the backends. numba's on-disk cache does not notice an
edit here: `make clean` removes it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from ann_backends.metric import NORM_EPSILON

# Rows per group: the float32 numbers of the widest registers.
LANES = 16
SCALE = 127.0


def group_shape(word_size: int) -> tuple[int, int]:
    """Shape of a group, int8: the numbers of a word, padded to an even count, by lanes."""
    return word_size + word_size % 2, LANES


def _score_group(
    typing_context: Any, sketches: Any, group: Any, query: Any, worst: Any, scores: Any
) -> Any:
    """scores[lane] = sum over w of query[w] sketches[group, w, lane]; those above `worst`, as bits.

    sketches: int8 [G, even W, LANES]; query: float32 [even W]; worst: float32; scores: float32
    [LANES].
    """
    integer, index = ir.IntType(32), cgutils.intp_t
    lanes, eighths = ir.VectorType(ir.FloatType(), LANES), ir.VectorType(ir.IntType(8), LANES)
    unset, zeros = ir.Constant(lanes, ir.Undefined), ir.Constant(lanes, [0.0] * LANES)
    everywhere = ir.Constant(ir.VectorType(integer, LANES), [0] * LANES)

    def spread(builder: Any, number: Any) -> Any:
        first = builder.insert_element(unset, number, integer(0))
        return builder.shuffle_vector(first, unset, everywhere)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rows, words, out = (
            context.make_array(signature.args[i])(context, builder, arguments[i]) for i in (0, 2, 4)
        )
        size = builder.extract_value(words.shape, 0)
        start = builder.mul(arguments[1], builder.mul(size, index(LANES)))
        # Two sums, so that one does not wait for the other.
        sums = [cgutils.alloca_once(builder, lanes) for _ in range(2)]
        for total in sums:
            builder.store(zeros, total)
        with cgutils.for_range(builder, builder.lshr(size, index(1))) as loop:
            for parity, total in enumerate(sums):
                w = builder.add(builder.shl(loop.index, index(1)), index(parity))
                place = builder.gep(rows.data, [builder.add(start, builder.mul(w, index(LANES)))])
                column = builder.load(builder.bitcast(place, eighths.as_pointer()), align=1)
                number = spread(builder, builder.load(builder.gep(words.data, [w])))
                product = builder.fmul(builder.sitofp(column, lanes), number, ("contract",))
                builder.store(builder.fadd(builder.load(total), product, ("contract",)), total)
        result = builder.fadd(*(builder.load(total) for total in sums))
        builder.store(result, builder.bitcast(out.data, lanes.as_pointer()), align=4)
        above = builder.fcmp_ordered(">", result, spread(builder, arguments[3]))
        return builder.zext(builder.bitcast(above, ir.IntType(LANES)), ir.IntType(64))

    return types.int64(sketches, types.intp, query, types.float32, scores), generate


score_group: Any = intrinsic(_score_group)


def _count_low_zeros(typing_context: Any, bits: Any) -> Any:
    """The place of the lowest set bit of an integer that is not 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.IntType(1)(1))

    return types.int64(types.int64), generate


lowest_bit: Any = intrinsic(_count_low_zeros)


@njit(nogil=True, cache=True)
def write_lane(sketches: np.ndarray, group: int, lane: int, memory: np.ndarray, slot: int) -> None:
    """Put the sketch of memory[slot] into a lane of a group."""
    squares = 0.0
    for w in range(memory.shape[1]):
        squares += np.float64(memory[slot, w]) ** 2
    scale = SCALE / np.sqrt(squares + NORM_EPSILON)
    for w in range(memory.shape[1]):
        sketches[group, w, lane] = np.int8(np.rint(memory[slot, w] * scale))


@njit(nogil=True, cache=True)
def copy_lane(sketches: np.ndarray, group: int, lane: int, to_group: int, to_lane: int) -> None:
    for w in range(sketches.shape[1]):
        sketches[to_group, w, to_lane] = sketches[group, w, lane]


@njit(nogil=True, cache=True)
def close_lanes(sketches: np.ndarray, group: int, gap: int) -> None:
    """Move the lanes behind `gap` up by one."""
    for w in range(sketches.shape[1]):
        for lane in range(gap, LANES - 1):
            sketches[group, w, lane] = sketches[group, w, lane + 1]


@njit(nogil=True, cache=True)
def prepare_query(query: np.ndarray, prepared: np.ndarray) -> float:
    """prepared: float32 [even W], for `score_group` to give similarities; returns the slack.

    The slack: by how much a sketch's score may be off the similarity of its row.
    """
    squares = total = 0.0
    for w in range(query.size):
        squares += np.float64(query[w]) ** 2
    scale = 1.0 / np.sqrt(squares + NORM_EPSILON)
    prepared[:] = 0
    for w in range(query.size):
        prepared[w] = query[w] * scale / SCALE
        total += abs(query[w] * scale)
    # Half a step in each number, and the rounding of a sum in float32.
    return total * (0.5 / SCALE) + 1e-5


@njit(nogil=True, cache=True)
def own_similarity(query: np.ndarray) -> float:
    """Similarity of a row that equals the query: 1, but for the constant in the norms."""
    squares = 0.0
    for w in range(query.size):
        squares += np.float64(query[w]) ** 2
    return squares / (squares + NORM_EPSILON)


@njit(nogil=True, cache=True)
def keep(slot: int, score: float, slots: np.ndarray, scores: np.ndarray) -> None:
    """Put a row among the best so far, once: a heap led by the worst, whose score it exceeds."""
    for i in range(slots.size):
        if slots[i] == slot:
            return
    size, parent = slots.size, 0
    while True:
        child = 2 * parent + 1
        if child >= size:
            break
        if child + 1 < size and scores[child + 1] < scores[child]:
            child += 1
        if scores[child] >= score:
            break
        slots[parent], scores[parent] = slots[child], scores[child]
        parent = child
    slots[parent], scores[parent] = slot, score
