"""How much of the truth an index found: recall that forgives ties and trusts slots alone."""

from __future__ import annotations

import numpy as np

from ann_backends.metric import NORM_EPSILON

# How far below the k-th best a row may be and count as equally near: what float32 rounds away.
TIE = 1e-6


def recall_of(
    found: np.ndarray,
    best: np.ndarray,
    queries: np.ndarray,
    memory: np.ndarray,
    known: np.ndarray,
    metric: str,
) -> np.ndarray:
    """The share of the `best` slots that are among the `found`, of each query: float64 [B, H].

    found, best: int64 [B, H, k], best as `exact` gives them, with -1 where fewer than k rows are
    findable. queries: [B, H, W]. memory: [B, N, W], as it stood for both searches. known: bool
    [B, N], the findable rows.

    A row as similar as the least of the best counts as one of them; a slot out of range, not
    findable or given before counts as none. 1 where there is nothing to find.
    """
    missing = best < 0
    nearest = np.where(missing, np.inf, _similarity(memory, queries, best, metric))
    least = np.where(missing.all(-1), 0, nearest.min(-1))[..., None]
    rounding = 1 + np.abs(least)
    if metric == "l2":
        rounding += (queries.astype(np.float64) ** 2).sum(-1, keepdims=True)
    inside = (found >= 0) & (found < memory.shape[1])
    slots = np.where(inside, found, 0)
    counts = inside & np.take_along_axis(known[:, None], slots, -1) & _first_of_each(found)
    counts &= _similarity(memory, queries, slots, metric) >= least - TIE * rounding
    wanted = np.count_nonzero(~missing, axis=-1)
    return np.where(wanted > 0, np.count_nonzero(counts, axis=-1) / np.maximum(wanted, 1), 1.0)


def _similarity(
    memory: np.ndarray, queries: np.ndarray, slots: np.ndarray, metric: str
) -> np.ndarray:
    """Of queries [B, H, W] to the rows at `slots` [B, H, k], in float64: [B, H, k]."""
    words = memory[np.arange(len(memory))[:, None, None], slots].astype(np.float64)
    query = queries[:, :, None].astype(np.float64)
    if metric == "l2":
        return -((words - query) ** 2).sum(-1)
    squares = ((words**2).sum(-1) + NORM_EPSILON) * ((query**2).sum(-1) + NORM_EPSILON)
    return (words * query).sum(-1) / np.sqrt(squares)


def _first_of_each(slots: np.ndarray) -> np.ndarray:
    """Whether each of slots [..., k] is the first of its value along the last axis."""
    order = np.argsort(slots, axis=-1, kind="stable")
    ascending = np.take_along_axis(slots, order, -1)
    first = np.ones(slots.shape, np.bool_)
    np.put_along_axis(first, order[..., 1:], ascending[..., 1:] != ascending[..., :-1], -1)
    return first
