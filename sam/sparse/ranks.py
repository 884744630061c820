"""Ranks of the numbers in a short list, all against all in vectors of the processor.

For so few that is faster than sorting them, or than comparing them one by one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.core.cgutils import alloca_once_value, for_range, ir
from numba.extending import intrinsic

from ann_backends import kernel

LANES = 16


@kernel
def room(count: int) -> int:
    """How long the arrays of `rank` must be for lists of up to `count`."""
    return -(-count // LANES) * LANES


def _rank_lanes(typing_context: Any, numbers: Any, count: Any, first: Any, ranks: Any) -> Any:
    """`rank` of the LANES numbers from `first` on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> None:
        listed, found = (
            context.make_array(signature.args[i])(context, builder, arguments[i]) for i in (0, 3)
        )
        _, length, start, _ = arguments
        counts = ir.VectorType(ir.IntType(32), LANES)
        vector = ir.VectorType(context.get_data_type(numbers.dtype), LANES)
        is_integer = isinstance(numbers.dtype, types.Integer)
        compare = builder.icmp_signed if is_integer else builder.fcmp_ordered
        none, unset = ir.Constant(counts, [0] * LANES), ir.Constant(vector, ir.Undefined)
        place = builder.bitcast(builder.gep(listed.data, [start]), vector.as_pointer())
        own = builder.load(place, align=4)
        larger = alloca_once_value(builder, none)
        with for_range(builder, length) as loop:
            number = builder.load(builder.gep(listed.data, [loop.index]))
            one = builder.insert_element(unset, number, ir.IntType(32)(0))
            exceeds = compare(">", builder.shuffle_vector(one, unset, none), own)
            builder.store(builder.add(builder.load(larger), builder.zext(exceeds, counts)), larger)
        place = builder.bitcast(builder.gep(found.data, [start]), counts.as_pointer())
        builder.store(builder.load(larger), place, align=4)

    return types.void(numbers, types.intp, types.intp, ranks), generate


_rank_of_lanes: Any = intrinsic(_rank_lanes)


@kernel
def rank(numbers: np.ndarray, count: int, ranks: np.ndarray) -> None:
    """ranks[i] = how many of the first `count` numbers are larger than number i, i < count.

    numbers: floats or signed integers. ranks: int32. Both contiguous, of the length that `room`
    says.
    """
    for first in range(0, count, LANES):
        _rank_of_lanes(numbers, count, first, ranks)
