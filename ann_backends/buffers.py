"""Arrays of zeros that cost no memory until they are written."""

from __future__ import annotations

import contextlib
import math
import mmap

import numpy as np
import numpy.typing as npt


def lazy_zeros(shape: tuple[int, ...], dtype: npt.DTypeLike) -> np.ndarray:
    """A zeroed array of `shape`, of which only the small pages that get written become resident.

    `numpy.zeros` is lazy too, but asks for huge pages from 4 MiB on, so that one write makes
    2 MiB resident: too coarse for a structure that starts with nothing in it.
    """
    count = math.prod(shape)
    # Private, so that a forked process has its own copy and reading makes nothing resident.
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    pages = mmap.mmap(-1, max(1, count * np.dtype(dtype).itemsize), flags=flags)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        # A kernel built without huge pages refuses the advice, and needs none.
        with contextlib.suppress(OSError):
            pages.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(pages, dtype, count).reshape(shape)
