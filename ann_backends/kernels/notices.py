"""Lines for who uses the package, each once in a process.

They go to the logger "ann_backends". Python shows them on stderr where logging is not configured;
`logging.getLogger("ann_backends").setLevel("ERROR")` silences them.
"""

from __future__ import annotations

import contextlib
import logging
import threading

_logger = logging.getLogger("ann_backends")
_said: set[str] = set()
_lock = threading.Lock()


def compiling(kernel: str, folder: str) -> None:
    """Say that kernels are being compiled, which one first, and where they are kept."""
    _say_once(
        "compiling",
        f"compiling {kernel} and other kernels for this processor; they are kept in {folder} "
        "and read from there next time",
    )


def not_kept(reason: str) -> None:
    """Say that each process compiles its kernels, why, and what helps."""
    _say_once(
        "not kept",
        "compiled kernels of ann_backends and sam cannot be kept, so that each process compiles "
        f"them again ({reason}): set NUMBA_CACHE_DIR to a folder that can be written",
    )


def kept_elsewhere(folder: str, reason: str) -> None:
    """Say that NUMBA_CACHE_DIR is not used, and why."""
    _say_once(
        "kept elsewhere",
        f"NUMBA_CACHE_DIR cannot be used ({reason}): compiled kernels are kept in {folder}",
    )


def _say_once(subject: str, text: str) -> None:
    with _lock:
        if subject in _said:
            return
        _said.add(subject)
    printable = text.encode("utf-8", "backslashreplace").decode()  # paths may be any bytes
    with contextlib.suppress(Exception):  # stderr may be closed
        _logger.warning(printable)
