"""Asking for memory ahead of its use, so that the waits for what lies far apart overlap."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ann_backends.kernels.jit import kernel

CACHE_LINE = 64


def _emit_prefetch(typing_context: Any, array: Any, index: Any) -> Any:
    """Ask for the cache line of `array.flat[index]`, C-contiguous, without waiting for it."""
    signature = types.void(array, types.intp)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(array)(context, builder, arguments[0]).data
        place = builder.gep(data, [arguments[1]])
        pointer, number = cgutils.voidptr_t, cgutils.int32_t
        kind = cgutils.ir.FunctionType(cgutils.ir.VoidType(), [pointer, number, number, number])
        called = builder.module.declare_intrinsic("llvm.prefetch", [pointer], kind)
        # To be read, kept in every cache, and data.
        flags = number(0), number(3), number(1)
        builder.call(called, [builder.bitcast(place, pointer), *flags])
        return context.get_dummy_value()

    return signature, emit


prefetch: Any = intrinsic(_emit_prefetch)


@kernel
def prefetch_item(array: np.ndarray, i: int, j: int) -> None:
    """Ask for array[i, j], C-contiguous."""
    prefetch(array, i * array.shape[1] + j)


@kernel
def prefetch_row(array: np.ndarray, i: int) -> None:
    """Ask for all of array[i], C-contiguous; it need not start with a cache line."""
    first, size = i * array.shape[1], array.shape[1]
    for j in range(0, size, CACHE_LINE // array.itemsize):
        prefetch(array, first + j)
    prefetch(array, first + size - 1)
