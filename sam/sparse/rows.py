"""Copies that leave untouched pages untouched."""

from __future__ import annotations

import numpy as np


def copy_nonzero(source: np.ndarray, target: np.ndarray) -> None:
    """Copy the rows of `source` to `target`, which is zero; rows of zeros are not written.

    source, target: of equal shape [N, ...]. So an array of lazy zeros stays lazy where it can.
    """
    bits = source.view(np.dtype(f"u{source.itemsize}"))  # as a number, -0.0 would pass for zero
    used = np.flatnonzero(bits.reshape(len(source), -1).any(1))
    if 2 * len(used) > len(source):
        target[...] = source
    else:
        target[used] = source[used]
