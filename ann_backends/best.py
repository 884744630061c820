"""The best rows by their sketches, once each: a list of few, a heap of many."""

from __future__ import annotations

import numpy as np

from ann_backends.kernels.jit import kernel
from ann_backends.sketch import keep

# Up to so many a list is no slower, as it is gone through without a branch that depends on data.
LISTED = 128


@kernel
def keep_best(
    slot: int,
    score: float,
    slots: np.ndarray,
    scores: np.ndarray,
    arrivals: np.ndarray,
    seen: np.ndarray,
    now: int,
) -> None:
    """Put a row among the best so far, once: the worst, which its score exceeds, comes first.

    slots: int [n], -1 where there is none; scores: float32 [n], -inf there. Of equal ones the
    latest gives way. What follows serves more than LISTED alone. arrivals: int64 [n + 1], zeros for
    a new query: when each came, and how many have. seen: uint32 [N], `now` for rows that have come
    before, other numbers for others; a row comes with its best score first.
    """
    if slots.size <= LISTED:
        keep(slot, score, slots, scores)
    elif seen[slot] != now:
        seen[slot] = now
        arrivals[slots.size] += 1
        slots[0], scores[0], arrivals[0] = slot, score, arrivals[slots.size]
        _sink(slots, scores, arrivals)


@kernel
def _sink(slots: np.ndarray, scores: np.ndarray, arrivals: np.ndarray) -> None:
    """Restore the heap, led by the one that gives way next, after its leader was replaced."""
    slot, score, arrival = slots[0], scores[0], arrivals[0]
    parent, size = 0, slots.size
    while 2 * parent + 1 < size:
        child = 2 * parent + 1
        if child + 1 < size and _goes_first(scores, arrivals, child + 1, child):
            child += 1
        if scores[child] > score or (scores[child] == score and arrivals[child] < arrival):
            break
        slots[parent], scores[parent] = slots[child], scores[child]
        arrivals[parent] = arrivals[child]
        parent = child
    slots[parent], scores[parent], arrivals[parent] = slot, score, arrival


@kernel
def _goes_first(scores: np.ndarray, arrivals: np.ndarray, i: int, j: int) -> bool:
    if scores[i] == scores[j]:
        return arrivals[i] > arrivals[j]
    return scores[i] < scores[j]
