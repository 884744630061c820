"""Arrays of zeros that cost no memory until they are written, and copies of them."""

from __future__ import annotations

import contextlib
import math
import mmap

import numpy as np
import numpy.typing as npt

# Bytes compared, and copied if they differ, at a time: few pages, at little cost for each.
COPIED_TOGETHER = 16384


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


def lazy_copy(array: np.ndarray) -> np.ndarray:
    """A copy, in which pages of zeros are not resident."""
    copied = lazy_zeros(array.shape, array.dtype)
    copy_changed(array, copied)
    return copied


def copy_changed(source: np.ndarray, target: np.ndarray) -> None:
    """target[:] = source, both C-contiguous and of one shape; writes only pages that differ."""
    if source.shape != target.shape or source.dtype != target.dtype:
        raise ValueError(
            f"source: got {source.dtype} {list(source.shape)}, expected "
            f"{target.dtype} {list(target.shape)}"
        )
    old, new = target.reshape(-1).view(np.uint8), source.reshape(-1).view(np.uint8)
    for start in range(0, old.size, COPIED_TOGETHER):
        part = slice(start, start + COPIED_TOGETHER)
        if not np.array_equal(old[part], new[part]):
            old[part] = new[part]
