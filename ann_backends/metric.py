"""What "nearest" means: the two similarities, defined once in NumPy."""

from __future__ import annotations

import numpy as np

METRICS = ("cosine", "l2")

# The norm that a row or a query may have: what is computed from longer ones would overflow. For
# "l2" in single precision, squared distances have to fit, and sums of a few of them.
LONGEST = {
    ("cosine", "float32"): 1e37,
    ("l2", "float32"): 1e18,
    ("cosine", "float64"): 1e150,
    ("l2", "float64"): 1e150,
}

# Added to each squared norm, so that a zero word has similarity 0 to everything and the
# similarity's gradient stays bounded there.
NORM_EPSILON = 1e-6


def similarity(queries: np.ndarray, words: np.ndarray, metric: str = "cosine") -> np.ndarray:
    """Similarity of every query to every word; larger is nearer.

    queries: float [..., H, W]; words: float [..., N, W]; result: [..., H, N].
    "cosine": q.m / (sqrt(|q|^2 + eps) sqrt(|m|^2 + eps)) with eps = NORM_EPSILON, in [-1, 1].
    "l2": -|q - m|^2, at most 0.
    Any finite numbers will do, however large or small; a squared distance beyond the precision is
    infinite.
    """
    if metric == "cosine":
        return _normalised(queries) @ np.swapaxes(_normalised(words), -1, -2)
    if metric == "l2":
        with np.errstate(over="ignore"):
            difference = queries[..., :, None, :] - words[..., None, :, :]
            return -np.sum(difference**2, axis=-1)
    raise ValueError(f"metric: got {metric!r}, expected one of {METRICS}")


def longest(metric: str, dtype: np.dtype) -> float:
    """The norm that rows and queries of an index may have at most."""
    return LONGEST[metric, dtype.name]


def _normalised(words: np.ndarray) -> np.ndarray:
    # Divided by the largest number first, where that is above 1, so that no square overflows.
    largest = np.maximum(np.max(np.abs(words), axis=-1, keepdims=True, initial=0), 1)
    shorter = words / largest
    squared_norm = np.sum(shorter**2, axis=-1, keepdims=True)
    return shorter / np.sqrt(squared_norm + NORM_EPSILON / largest / largest)
