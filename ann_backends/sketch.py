"""Rows in 8 bits, sixteen side by side, so that a search ranks many rows for the price of few.

A row's sketch is its direction, row / |row|, rounded to 1/127. Sketches stand in groups of
`LANES`, the lanes: group[i, lane] are the numbers 4 i to 4 i + 3 of the row in that lane, so that
four numbers of a query, rounded to 1/32767, meet sixteen rows in a few instructions on integers. A
group of sixteen rows is scored in less time than two rows read one by one from the memory, and
takes a quarter of their space. What ranks best by its sketch is then ranked by the row itself, as
sketches are off by up to `slack`.

These kernels are inlined into those of the backends. numba's on-disk cache does not notice an
edit here: `make clean` removes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from ann_backends.metric import NORM_EPSILON

# Rows per group: the 32-bit numbers of the widest registers.
LANES = 16
# Numbers of a row that stand side by side.
FOUR = 4
# A number 1 in 8 and in 16 bits.
SCALE, QUERY_SCALE = 127.0, 32767.0


def group_shape(word_size: int) -> tuple[int, int, int]:
    """Shape of a group, int8: a word's numbers by fours, padded with 0, lanes, the four numbers."""
    return (word_size + FOUR - 1) // FOUR, LANES, FOUR


_INTEGER, _INDEX = ir.IntType(32), cgutils.intp_t
_SUMS, _FLOATS = ir.VectorType(_INTEGER, LANES), ir.VectorType(ir.FloatType(), LANES)


def _everywhere(builder: Any, number: Any, vector: Any) -> Any:
    """A vector of the number in every place."""
    unset = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(unset, number, _INTEGER(0))
    places = ir.Constant(ir.VectorType(_INTEGER, vector.count), [0] * vector.count)
    return builder.shuffle_vector(first, unset, places)


def _neighbours_added(builder: Any, a: Any, b: Any) -> Any:
    """Of the numbers in a and then b, each even one and the next: their sums."""
    even, odd = (
        builder.shuffle_vector(a, b, ir.Constant(_SUMS, list(range(first, 2 * LANES, 2))))
        for first in (0, 1)
    )
    return builder.add(even, odd)


def _similarities(
    builder: Any, sketches: Any, group: Any, size: Any, queries: list[Any]
) -> Iterator[Any]:
    """Vectors, one per query, of its similarities to a group's sketches.

    sketches: an array of int8 [G, >= size, LANES, 4]; queries: pointers to int16 [size, 4]. A group
    is read once for all queries. The sums are of integers, and exact.
    """
    half = LANES * FOUR // 2
    eighths, numbers = ir.VectorType(ir.IntType(8), half), ir.VectorType(_INTEGER, half)
    fours = ir.VectorType(ir.IntType(64), half // FOUR)
    start = builder.mul(group, builder.extract_value(sketches.shape, 1))
    # Two numbers of a row are added up in each place, eight rows in each of two vectors.
    totals = [
        [cgutils.alloca_once_value(builder, ir.Constant(_SUMS, [0] * LANES)) for _ in range(2)]
        for _ in queries
    ]
    with cgutils.for_range(builder, size) as loop:
        first = builder.mul(builder.add(start, loop.index), _INDEX(2 * half))
        columns = []
        for part in range(2):
            place = builder.gep(sketches.data, [builder.add(first, _INDEX(part * half))])
            column = builder.load(builder.bitcast(place, eighths.as_pointer()), align=1)
            columns.append(builder.sext(column, numbers))
        for query, own in zip(queries, totals, strict=True):
            place = builder.gep(query, [builder.mul(loop.index, _INDEX(FOUR))])
            four = builder.load(builder.bitcast(place, fours.element.as_pointer()), align=2)
            repeated = builder.bitcast(
                _everywhere(builder, four, fours), ir.VectorType(ir.IntType(16), half)
            )
            query_numbers = builder.sext(repeated, numbers)
            for column, total in zip(columns, own, strict=True):
                # Sixteen bits times sixteen, neighbours added: one instruction of most processors.
                products = builder.mul(column, query_numbers)
                added = _neighbours_added(builder, products, products)
                builder.store(builder.add(builder.load(total), added), total)
    scale = ir.Constant(_FLOATS, [1 / (SCALE * QUERY_SCALE)] * LANES)
    for own in totals:
        both = _neighbours_added(builder, *(builder.load(total) for total in own))
        yield builder.fmul(builder.sitofp(both, _FLOATS), scale)


def _above(builder: Any, similarities: Any, worst: Any) -> Any:
    """Bit by bit, which of the similarities exceed `worst`."""
    above = builder.fcmp_ordered(">", similarities, _everywhere(builder, worst, _FLOATS))
    return builder.zext(builder.bitcast(above, ir.IntType(LANES)), ir.IntType(64))


def _score_group(
    typing_context: Any, sketches: Any, group: Any, query: Any, worst: Any, scores: Any
) -> Any:
    """scores[lane] = similarity of a query to a group's sketch; bit by bit, which exceed `worst`.

    sketches: int8 [G, W / 4 or more, LANES, 4]; query: int16 [W / 4, 4], from `prepare_query`;
    worst: float32; scores: float32 [LANES].
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rows, words, out = (
            context.make_array(signature.args[i])(context, builder, arguments[i]) for i in (0, 2, 4)
        )
        size = builder.extract_value(words.shape, 0)
        (result,) = _similarities(builder, rows, arguments[1], size, [words.data])
        builder.store(result, builder.bitcast(out.data, _FLOATS.as_pointer()), align=4)
        return _above(builder, result, arguments[3])

    return types.int64(sketches, types.intp, query, types.float32, scores), generate


score_group: Any = intrinsic(_score_group)


def _any_above(count: int) -> Any:
    """Bit by bit, which sketches of a group exceed what one of `count` queries asks for.

    sketches: int8 [G, W / 4, LANES, 4]; queries: int16 [>= first + count, W / 4, 4], each from
    `prepare_query`; least: float32 [>= first + count], by queries.
    """

    def any_above(
        typing_context: Any, sketches: Any, group: Any, queries: Any, first: Any, least: Any
    ) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            rows, words, bounds = (
                context.make_array(signature.args[i])(context, builder, arguments[i])
                for i in (0, 2, 4)
            )
            size = builder.extract_value(words.shape, 1)
            own = [builder.add(arguments[3], _INDEX(i)) for i in range(count)]
            starts = [builder.mul(builder.mul(i, size), _INDEX(FOUR)) for i in own]
            pointers = [builder.gep(words.data, [start]) for start in starts]
            found = ir.IntType(64)(0)
            results = _similarities(builder, rows, arguments[1], size, pointers)
            for i, result in zip(own, results, strict=True):
                bound = builder.load(builder.gep(bounds.data, [i]))
                found = builder.or_(found, _above(builder, result, bound))
            return found

        return types.int64(sketches, types.intp, queries, types.intp, least), generate

    return intrinsic(any_above)


any_above_one: Any = _any_above(1)
any_above_four: Any = _any_above(4)


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
        sketches[group, w // FOUR, lane, w % FOUR] = np.int8(np.rint(memory[slot, w] * scale))


@njit(nogil=True, cache=True)
def copy_lane(sketches: np.ndarray, group: int, lane: int, to_group: int, to_lane: int) -> None:
    for four in range(sketches.shape[1]):
        for i in range(FOUR):
            sketches[to_group, four, to_lane, i] = sketches[group, four, lane, i]


@njit(nogil=True, cache=True)
def prepare_query(query: np.ndarray, prepared: np.ndarray) -> float:
    """prepared: int16 [W / 4, 4], for `score_group` to give similarities; returns the slack.

    The slack: by how much a sketch's score may be off the similarity of its row.
    """
    squares = total = 0.0
    for w in range(query.size):
        squares += np.float64(query[w]) ** 2
    scale = 1.0 / np.sqrt(squares + NORM_EPSILON)
    prepared[:] = 0
    for w in range(query.size):
        prepared[w // FOUR, w % FOUR] = np.int16(np.rint(query[w] * scale * QUERY_SCALE))
        total += abs(query[w] * scale)
    # Half a step in each number, of the row and of the query, and the float32 result's rounding.
    return total * (0.5 / SCALE) + query.size * (0.5 / QUERY_SCALE) + 1e-6


@njit(nogil=True, cache=True)
def own_similarity(query: np.ndarray) -> float:
    """Similarity of a row that equals the query: 1, but for the constant in the norms."""
    squares = 0.0
    for w in range(query.size):
        squares += np.float64(query[w]) ** 2
    return squares / (squares + NORM_EPSILON)


@njit(nogil=True, cache=True)
def keep(slot: int, score: float, slots: np.ndarray, scores: np.ndarray) -> None:
    """Put a row among the best so far, once: the worst, which its score exceeds, comes first.

    No branch depends on the data, so that nothing is mispredicted.
    """
    known, last = False, slots.size - 1
    for i in range(slots.size):
        known |= slots[i] == slot
    if known:
        return
    for i in range(last):
        above = scores[i + 1] < score
        stays = scores[i] >= score
        slots[i] = slots[i + 1] if above else (slots[i] if stays else slot)
        scores[i] = scores[i + 1] if above else (scores[i] if stays else score)
    if scores[last] < score:
        slots[last], scores[last] = slot, score
