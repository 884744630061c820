"""Lists of slots with weights: the beginning of two arrays, slots ascending."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def add(slots: np.ndarray, weights: np.ndarray, count: int, slot: int, weight: float) -> int:
    """Add `weight` to `slot` in the list of the first `count`; returns the new count."""
    place = count
    while place > 0 and slots[place - 1] >= slot:
        place -= 1
    if place < count and slots[place] == slot:
        weights[place] += weight
        return count
    for after in range(count, place, -1):
        slots[after] = slots[after - 1]
        weights[after] = weights[after - 1]
    slots[place] = slot
    weights[place] = weight
    return count + 1
