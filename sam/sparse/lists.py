"""Lists of slots with weights: the beginning of two arrays, each slot once, slots ascending."""

from __future__ import annotations

import numpy as np

from ann_backends import kernel
from sam.sparse.ranks import rank, room


@kernel
def collect(
    slots: np.ndarray, weights: np.ndarray, count: int, listed: np.ndarray, totals: np.ndarray
) -> int:
    """Set the list of the first `count` slots, in any order; returns how many differ.

    The weights of a slot are added up in the order in which they stand. listed, totals: the list,
    other arrays than `slots` and `weights`.
    """
    keys, ranks = np.empty(room(count), np.int64), np.empty(room(count), np.int32)
    for i in range(count):
        keys[i] = slots[i] * count + i  # no two alike
    rank(keys, count, ranks)
    for i in range(count):
        keys[count - 1 - ranks[i]] = i
    size, last = 0, -1
    for place in range(count):
        slot, weight = slots[keys[place]], weights[keys[place]]
        # Without a branch, which could only be guessed.
        size += slot != last
        before = totals[size - 1]
        totals[size - 1] = before + weight if slot == last else weight
        listed[size - 1] = last = slot
    return size
