"""`kernel`: the decorator of every compiled function of this project."""

from __future__ import annotations

import functools
from typing import Any

from numba import njit
from numba.core import event

from ann_backends.kernels.cache import KernelCache
from ann_backends.kernels.patience import Stopwatch

event.register("numba:compile", Stopwatch())


def kernel(function: Any = None, **options: Any) -> Any:
    """`numba.njit` without the GIL, whose machine code is kept on disk and never out of date.

    numba's own `cache=True` checks the file that a function is written in, and nothing else. A
    kernel is compiled again when anything that it is made from has changed: itself, what it
    calls, and the constants that it reads, in whatever file they are.

    Args:
        function: the function to compile, at its first call with arguments of some types.
        **options: further options of `numba.njit`, such as `fastmath`.

    Returns:
        numba's dispatcher; a decorator if `function` is not given.
    """
    if function is None:
        return functools.partial(kernel, **options)
    compiled: Any = njit(nogil=True, **options)(function)
    if hasattr(compiled, "_cache"):  # not so under NUMBA_DISABLE_JIT
        compiled._cache = KernelCache(compiled)
    return compiled
