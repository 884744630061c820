"""Zeroed arrays that cost physical memory only where they are written."""

from __future__ import annotations

import math
import mmap

import numpy as np
from numpy.typing import DTypeLike


def lazy_zeros(shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """An array of zeros on pages of the operating system that are filled in when first written.

    `numpy.zeros` is lazy too, but asks for huge pages, so that its first write to each 2 MiB
    makes all of them resident; `torch.zeros` writes everything.
    """
    num_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    pages = mmap.mmap(-1, max(num_bytes, 1))
    if hasattr(mmap, "MADV_NOHUGEPAGE"):  # for systems where huge pages are always on
        pages.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(pages, dtype=dtype, count=math.prod(shape)).reshape(shape)
