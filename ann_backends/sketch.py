"""Rows in 8 bits, sixteen side by side, so that a search ranks many rows for the price of few.

A row's sketch is its direction, row / |row|, rounded to 1/127. Sketches stand in groups of
`LANES`, the lanes: group[i, lane] are the numbers 4 i to 4 i + 3 of the row in that lane, so that
four numbers of a query, rounded to 1/32512, meet sixteen rows in a few instructions on integers. A
group of sixteen rows is scored in less time than two rows read one by one from the memory, and
takes a quarter of their space. What ranks best by its sketch is then ranked by the row itself, as
sketches are off by up to `slack`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ann_backends.kernels.jit import kernel
from ann_backends.metric import NORM_EPSILON
from ann_backends.uncounted import UNCOUNTED

# Rows per group: the 32-bit numbers of the widest registers.
LANES = 16
# Numbers of a row that stand side by side.
FOUR = 4
# A number 1 in 8 and in 16 bits; of the latter the upper byte is 127.
SCALE, QUERY_SCALE = 127.0, 127.0 * 256
# A query, int16 [W / 4 + 1, 8], as `prepare_query` sets it: of each four numbers themselves, their
# lower bytes and their upper bytes; in the last row, int32, what a row's sketch gives less than
# one whose numbers are all higher by `RAISED`.
QUERY_NUMBERS = 2 * FOUR
RAISED = 128


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
    context: Any, builder: Any, sketches: Any, group: Any, size: Any, queries: list[Any]
) -> Iterator[Any]:
    """Vectors, one per query, of its similarities to a group's sketches.

    sketches: an array of int8 [G, >= size, LANES, 4]; queries: pointers to prepared ones of `size`
    fours. A group is read once for all queries. The sums are of integers, and exact.
    """
    features = context.codegen().magic_tuple()[2].split(",")
    sums = _sums_by_fours if "+avx512vnni" in features else _sums_by_pairs
    start = builder.mul(group, builder.extract_value(sketches.shape, 1))
    scale = ir.Constant(_FLOATS, [1 / (SCALE * QUERY_SCALE)] * LANES)
    for total in sums(builder, sketches.data, start, size, queries):
        yield builder.fmul(builder.sitofp(total, _FLOATS), scale)


def _sums_by_fours(
    builder: Any, sketches: Any, start: Any, size: Any, queries: list[Any]
) -> Iterator[Any]:
    """Eight bits times eight, four neighbours added: one instruction of processors with VNNI.

    It takes the row's numbers without a sign, so they are raised.
    """
    signature = ir.FunctionType(_SUMS, [_SUMS] * 3)
    name = "llvm.x86.avx512.vpdpbusd.512"
    add_products = cgutils.get_or_insert_function(builder.module, signature, name)
    raised = ir.Constant(_SUMS, [RAISED * 0x01010101 - 2**32] * LANES)
    columns = builder.bitcast(sketches, _SUMS.as_pointer())
    # Four entries of 32 bits per row of a query: two of numbers, their lower and their upper bytes.
    entries = [builder.bitcast(query, _INTEGER.as_pointer()) for query in queries]

    def entry(query: Any, row: Any, place: int) -> Any:
        at = builder.add(builder.mul(row, _INDEX(4)), _INDEX(place))
        return _everywhere(builder, builder.load(builder.gep(query, [at]), align=2), _SUMS)

    totals = [
        [
            cgutils.alloca_once_value(builder, first)
            for first in (entry(query, size, 0), ir.Constant(_SUMS, [0] * LANES))
        ]
        for query in entries
    ]
    with cgutils.for_range(builder, size) as loop:
        place = builder.gep(columns, [builder.add(start, loop.index)])
        row = builder.xor(builder.load(place, align=1), raised)
        for query, own in zip(entries, totals, strict=True):
            for byte, total in enumerate(own):
                numbers = entry(query, loop.index, 2 + byte)
                added = builder.call(add_products, [builder.load(total), row, numbers])
                builder.store(added, total)
    for lower, upper in totals:
        shifted = builder.shl(builder.load(upper), ir.Constant(_SUMS, [8] * LANES))
        yield builder.add(builder.load(lower), shifted)


def _sums_by_pairs(
    builder: Any, sketches: Any, start: Any, size: Any, queries: list[Any]
) -> Iterator[Any]:
    """Sixteen bits times sixteen, neighbours added: one instruction of most processors."""
    half = LANES * FOUR // 2
    eighths, numbers = ir.VectorType(ir.IntType(8), half), ir.VectorType(_INTEGER, half)
    fours = ir.VectorType(ir.IntType(64), half // FOUR)
    # Two numbers of a row are added up in each place, eight rows in each of two vectors.
    totals = [
        [cgutils.alloca_once_value(builder, ir.Constant(_SUMS, [0] * LANES)) for _ in range(2)]
        for _ in queries
    ]
    # One after the other: the sums of both, for four queries, are more than the registers hold.
    for part in range(2):
        with cgutils.for_range(builder, size) as loop:
            first = builder.mul(builder.add(start, loop.index), _INDEX(2 * half))
            place = builder.gep(sketches, [builder.add(first, _INDEX(part * half))])
            column = builder.load(builder.bitcast(place, eighths.as_pointer()), align=1)
            column = builder.sext(column, numbers)
            for query, own in zip(queries, totals, strict=True):
                place = builder.gep(query, [builder.mul(loop.index, _INDEX(QUERY_NUMBERS))])
                four = builder.load(builder.bitcast(place, fours.element.as_pointer()), align=2)
                repeated = builder.bitcast(
                    _everywhere(builder, four, fours), ir.VectorType(ir.IntType(16), half)
                )
                products = builder.mul(column, builder.sext(repeated, numbers))
                added = _neighbours_added(builder, products, products)
                builder.store(builder.add(builder.load(own[part]), added), own[part])
    for own in totals:
        yield _neighbours_added(builder, *(builder.load(total) for total in own))


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
        size = builder.sub(builder.extract_value(words.shape, 0), _INDEX(1))
        (result,) = _similarities(context, builder, rows, arguments[1], size, [words.data])
        builder.store(result, builder.bitcast(out.data, _FLOATS.as_pointer()), align=4)
        return _above(builder, result, arguments[3])

    return types.int64(sketches, types.intp, query, types.float32, scores), generate


score_group: Any = intrinsic(_score_group)


def _stored(builder: Any, scores: Any, place: Any, count: int) -> list[Any]:
    """Pointers to the vectors scores[i, place LANES :], i < `count`, of float32 [FOUR, n LANES]."""
    length, first = builder.extract_value(scores.shape, 1), builder.mul(place, _INDEX(LANES))
    starts = [builder.add(builder.mul(_INDEX(i), length), first) for i in range(count)]
    return [
        builder.bitcast(builder.gep(scores.data, [start]), _FLOATS.as_pointer()) for start in starts
    ]


def _score(count: int) -> Any:
    """scores[i, place LANES + lane] = similarity of query first + i, i < `count`, to a sketch.

    sketches: int8 [G, W / 4, LANES, 4], of which a group is scored; queries: int16 [>= first +
    count, W / 4 + 1, 8], each from `prepare_query`; scores: float32 [FOUR, n LANES].
    """

    def score(
        typing_context: Any,
        sketches: Any,
        group: Any,
        queries: Any,
        first: Any,
        scores: Any,
        place: Any,
    ) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            rows, words, out = (
                context.make_array(signature.args[i])(context, builder, arguments[i])
                for i in (0, 2, 4)
            )
            length = builder.extract_value(words.shape, 1)
            own = [builder.add(arguments[3], _INDEX(i)) for i in range(count)]
            starts = [builder.mul(builder.mul(i, length), _INDEX(QUERY_NUMBERS)) for i in own]
            pointers = [builder.gep(words.data, [start]) for start in starts]
            size = builder.sub(length, _INDEX(1))
            results = _similarities(context, builder, rows, arguments[1], size, pointers)
            places = _stored(builder, out, arguments[5], count)
            for result, at in zip(results, places, strict=True):
                builder.store(result, at, align=4)
            return context.get_dummy_value()

        return types.void(sketches, types.intp, queries, types.intp, scores, types.intp), generate

    return intrinsic(score)


def _any_above(count: int) -> Any:
    """Bit by bit, for which lanes scores[i, place LANES + lane] > least[first + i], i < `count`.

    scores: as `score_one` or `score_four` set them; least: float32.
    """

    def any_above(typing_context: Any, scores: Any, place: Any, least: Any, first: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            own, bounds = (
                context.make_array(signature.args[i])(context, builder, arguments[i])
                for i in (0, 2)
            )
            found = ir.IntType(64)(0)
            for i, at in enumerate(_stored(builder, own, arguments[1], count)):
                bound = builder.gep(bounds.data, [builder.add(arguments[3], _INDEX(i))])
                above = _above(builder, builder.load(at, align=4), builder.load(bound))
                found = builder.or_(found, above)
            return found

        return types.int64(scores, types.intp, least, types.intp), generate

    return intrinsic(any_above)


score_one: Any = _score(1)
score_four: Any = _score(4)
any_above_one: Any = _any_above(1)
any_above_four: Any = _any_above(4)


def _count_low_zeros(typing_context: Any, bits: Any) -> Any:
    """The place of the lowest set bit of an integer that is not 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.IntType(1)(1))

    return types.int64(types.int64), generate


lowest_bit: Any = intrinsic(_count_low_zeros)


@kernel(**UNCOUNTED)
def write_lane(sketches: np.ndarray, group: int, lane: int, memory: np.ndarray, slot: int) -> None:
    """Put the sketch of memory[slot] into a lane of a group."""
    squares = 0.0
    for w in range(memory.shape[1]):
        squares += np.float64(memory[slot, w]) ** 2
    scale = SCALE / np.sqrt(squares + NORM_EPSILON)
    for w in range(memory.shape[1]):
        sketches[group, w // FOUR, lane, w % FOUR] = np.int8(np.rint(memory[slot, w] * scale))


@kernel(**UNCOUNTED)
def copy_lane(sketches: np.ndarray, group: int, lane: int, to_group: int, to_lane: int) -> None:
    for four in range(sketches.shape[1]):
        for i in range(FOUR):
            sketches[to_group, four, to_lane, i] = sketches[group, four, lane, i]


@kernel
def prepare_query(query: np.ndarray, prepared: np.ndarray) -> float:
    """prepared: int16 [W / 4 + 1, 8], for the kernels here; returns the slack.

    The slack: by how much a sketch's score may be off the similarity of its row.
    """
    squares = total = 0.0
    for w in range(query.size):
        squares += np.float64(query[w]) ** 2
    scale = 1.0 / np.sqrt(squares + NORM_EPSILON)
    prepared[:] = 0
    halves, excess = prepared.view(np.int8), np.int64(0)
    for w in range(query.size):
        four, place = w // FOUR, w % FOUR
        number = np.int64(np.rint(query[w] * scale * QUERY_SCALE))
        # number = 256 upper + lower, each in [-128, 127]
        upper = (number + 128) >> 8
        prepared[four, place] = number
        halves[four, 2 * FOUR + place] = number - 256 * upper
        halves[four, 3 * FOUR + place] = upper
        excess += RAISED * number
        total += abs(query[w] * scale)
    prepared.view(np.int32)[-1, 0] = -excess
    # Half a step in each number, of the row and of the query, and the float32 result's rounding.
    return total * (0.5 / SCALE) + query.size * (0.5 / QUERY_SCALE) + 1e-6


@kernel
def own_similarity(query: np.ndarray) -> float:
    """Similarity of a row that equals the query: 1, but for the constant in the norms."""
    squares = 0.0
    for w in range(query.size):
        squares += np.float64(query[w]) ** 2
    return squares / (squares + NORM_EPSILON)


@kernel
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
