"""Sizes for which this machine has no room, told before torch or the operating system does."""

from __future__ import annotations

import contextlib
import errno
import functools
import math
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import torch


def check(what: str, needed: int, device: torch.device, **sizes: int) -> None:
    """Raises ValueError if there is no room for so many bytes.

    what: what takes them. sizes: those that it depends on; the largest is named. How much a device
    other than the CPU has, it says itself.
    """
    there_is = memory_here() if device.type == "cpu" else sys.maxsize
    if needed > there_is:
        raise refusal(what, needed, there_is, sizes)


def check_parameters(numbers: int, **sizes: int) -> None:
    """As `check`, for a model that is about to be made, of torch's default dtype and device."""
    needed = numbers * torch.get_default_dtype().itemsize
    check("its parameters", needed, torch.get_default_device(), **sizes)


@contextlib.contextmanager
def reserving(what: str, needed: int, **sizes: int) -> Iterator[None]:
    """Where the block fails to reserve its memory, ValueError says which sizes asked for it.

    needed: bytes. Memory that costs nothing until it is written to may well be more than there is.
    """
    if needed > sys.maxsize:
        raise refusal(what, needed, memory_here(), sizes)
    try:
        yield
    except (MemoryError, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.ENOMEM:
            raise
        raise refusal(what, needed, memory_here(), sizes) from error


def refusal(what: str, needed: int, there_is: int, sizes: dict[str, int]) -> ValueError:
    """The error for sizes by which something would take more bytes than there are."""
    largest = max(sizes, key=lambda name: sizes[name])
    others = ", ".join(f"{name}={about(size)}" for name, size in sizes.items() if name != largest)
    beside = f" beside {others}" if others else ""
    return ValueError(
        f"{largest}: got {about(sizes[largest])}{beside}, expected a size that there is room for: "
        f"{what} would take {about(needed)} bytes, and there are {about(there_is)}"
    )


@functools.cache
def memory_here() -> int:
    """Bytes of memory that this machine has, what it swaps to included; no limit if unknown."""
    try:
        physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return sys.maxsize
    swap = None
    with contextlib.suppress(OSError):
        swap = re.search(r"SwapTotal:\s*(\d+) kB", Path("/proc/meminfo").read_text())
    return physical + (1024 * int(swap[1]) if swap else 0)


def about(number: int) -> str:
    """A natural number in few characters, however long it is."""
    if number < 10**15:
        return str(number)
    exponent = math.floor(math.log10(number))
    return f"{number / 10**exponent:.4g}e{exponent}"
