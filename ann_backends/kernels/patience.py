"""Notices when kernels are compiled for so long that somebody may wonder."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

from numba.core import event

from ann_backends.kernels import notices
from ann_backends.kernels.cache import KernelCache

PATIENCE = 2.0  # seconds spent on compiling, in all


class Stopwatch(event.Listener):
    """Adds up the time in which kernels are compiled, and says so when it reaches `PATIENCE`.

    numba compiles in one thread at a time. The start and end of a kernel enclose those of the
    kernels that it calls.
    """

    def __init__(self) -> None:
        self._depth, self._spent, self._started = 0, 0.0, 0.0
        self._timer = threading.Timer(0.0, _say)

    def on_start(self, event: Any) -> None:
        if _is_kernel(event):
            self._depth += 1
            if self._depth == 1:
                self._start(event.data["dispatcher"])

    def on_end(self, event: Any) -> None:
        if _is_kernel(event):
            self._depth -= 1
            if self._depth == 0:
                self._timer.cancel()
                self._spent += time.monotonic() - self._started

    def _start(self, kernel: Any) -> None:
        self._started = time.monotonic()
        self._timer = threading.Timer(max(PATIENCE - self._spent, 0), _say, [kernel])
        self._timer.daemon = True
        with contextlib.suppress(RuntimeError):  # no more threads
            self._timer.start()


def _is_kernel(event: Any) -> bool:
    return isinstance(event.data["dispatcher"]._cache, KernelCache)


def _say(kernel: Any) -> None:
    cache: KernelCache = kernel._cache
    if cache.cache_path is not None:
        notices.compiling(f"{kernel.__module__}.{kernel.__qualname__}", cache.cache_path)
    elif cache.refusals:
        notices.not_kept(cache.refusals)
