"""What "nearest" means: the two similarities, defined once in NumPy."""

from __future__ import annotations

import numpy as np

METRICS = ("cosine", "l2")

# Added to each squared norm, so that a zero word has similarity 0 to everything and the
# similarity's gradient stays bounded there.
NORM_EPSILON = 1e-6


def similarity(queries: np.ndarray, words: np.ndarray, metric: str = "cosine") -> np.ndarray:
    """Similarity of every query to every word; larger is nearer.

    queries: float [..., H, W]; words: float [..., N, W]; result: [..., H, N].
    "cosine": q.m / (sqrt(|q|^2 + eps) sqrt(|m|^2 + eps)) with eps = NORM_EPSILON, in [-1, 1].
    "l2": -|q - m|^2, at most 0.
    """
    if metric == "cosine":
        return _normalised(queries) @ np.swapaxes(_normalised(words), -1, -2)
    if metric == "l2":
        difference = queries[..., :, None, :] - words[..., None, :, :]
        return -np.sum(difference**2, axis=-1)
    raise ValueError(f"metric: got {metric!r}, expected one of {METRICS}")


def _normalised(words: np.ndarray) -> np.ndarray:
    squared_norm = np.sum(words**2, axis=-1, keepdims=True)
    return words / np.sqrt(squared_norm + NORM_EPSILON)
