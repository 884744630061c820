"""The read of a step, and its gradient (Rae et al. 2016, equations 1, 2 and 4).

interface: [B, H, P] as in `write`, activated. The weights are a softmax over the K slots retrieved
of beta times the similarity to the query q, which is recomputed here from the present rows: an
index decides which slots are read, never how.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ann_backends import NORM_EPSILON


@njit(nogil=True, cache=True)
def complete(slots: np.ndarray, written: np.ndarray, num_written: np.ndarray) -> None:
    """Replace each -1 among the retrieved slots [B, H, K] by a slot that is not among its K yet.

    Lowest unwritten slots first; where all are written (an index returned fewer than it knows)
    the lowest slots.
    """
    batch_size, num_heads, k = slots.shape
    memory_size = written.shape[1]
    for b in range(batch_size):
        for h in range(num_heads):
            chosen = slots[b, h]
            slot = 0
            only_unwritten = num_written[b] < memory_size
            for i in range(k):
                while chosen[i] < 0:
                    if slot == memory_size:
                        slot, only_unwritten = 0, False
                    elif not (only_unwritten and written[b, slot]) and not np.any(chosen == slot):
                        chosen[i] = slot
                    else:
                        slot += 1


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _dot(a: np.ndarray, b: np.ndarray) -> float:
    total = a[0] * 0
    for w in range(len(a)):
        total += a[w] * b[w]
    return total


@njit(nogil=True, cache=True)
def _norm(a: np.ndarray) -> float:
    """sqrt(|a|^2 + epsilon): a zero word has similarity 0, and its gradients stay bounded."""
    return np.sqrt(_dot(a, a) + a.dtype.type(NORM_EPSILON))


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _squared_distance(a: np.ndarray, b: np.ndarray) -> float:
    total = a[0] * 0
    for w in range(len(a)):
        total += (a[w] - b[w]) * (a[w] - b[w])
    return total


@njit(nogil=True, cache=True)
def read(
    memory: np.ndarray,
    interface: np.ndarray,
    slots: np.ndarray,
    cosine: bool,
    weights: np.ndarray,
    words: np.ndarray,
) -> None:
    """r_t = sum_k w^R_t(s_k) M_t(s_k) for the retrieved slots s_k.

    memory: [B, N, W]. slots: [B, H, K]. cosine: the similarity, else -|q - m|^2.
    weights: [B, H, K], set to w^R_t. words: [B, H W], set to r_t.
    """
    batch_size, num_heads, k = slots.shape
    word_size = memory.shape[2]
    for b in range(batch_size):
        for h in range(num_heads):
            query = interface[b, h, :word_size]
            strength = query.dtype.type(1)
            if interface.shape[2] > 2 * word_size + 2:
                strength = interface[b, h, 2 * word_size + 2]
            query_norm = _norm(query)
            largest = query.dtype.type(-np.inf)
            for i in range(k):
                row = memory[b, slots[b, h, i]]
                if cosine:
                    similarity = _dot(query, row) / (query_norm * _norm(row))
                else:
                    similarity = -_squared_distance(query, row)
                weights[b, h, i] = strength * similarity
                largest = max(largest, weights[b, h, i])
            total = query.dtype.type(0)
            for i in range(k):
                weights[b, h, i] = np.exp(weights[b, h, i] - largest)
                total += weights[b, h, i]
            word = words[b, h * word_size : (h + 1) * word_size]
            word[:] = 0
            for i in range(k):
                weights[b, h, i] /= total
                row = memory[b, slots[b, h, i]]
                for w in range(word_size):
                    word[w] += weights[b, h, i] * row[w]


@njit(nogil=True, cache=True)
def read_backward(
    memory: np.ndarray,
    interface: np.ndarray,
    reads: tuple[np.ndarray, np.ndarray, np.ndarray],
    cosine: bool,
    gradients: tuple[np.ndarray, np.ndarray],
    memory_gradient: np.ndarray,
    interface_gradient: np.ndarray,
) -> None:
    """The gradient of `read`.

    reads: the slots, the weights and the places of the slots in memory_gradient, [B, H, K] each.
    gradients: dL/dr_t, [B, H W], and what reaches w^R_t from the write of the next step,
    [B, H, K]. memory_gradient: [n, W], to which dL/dM_t is added. interface_gradient: [B, H, P],
    whose parts q and beta are set, the latter with respect to the activated value.
    """
    slots, weights, places = reads
    words_gradient, weights_gradient = gradients
    batch_size, num_heads, k = slots.shape
    word_size = memory.shape[2]
    to_weights = np.empty(k, memory.dtype)
    for b in range(batch_size):
        for h in range(num_heads):
            query = interface[b, h, :word_size]
            query_gradient = interface_gradient[b, h, :word_size]
            word_gradient = words_gradient[b, h * word_size : (h + 1) * word_size]
            strength = query.dtype.type(1)
            if interface.shape[2] > 2 * word_size + 2:
                strength = interface[b, h, 2 * word_size + 2]
            mean = query.dtype.type(0)
            for i in range(k):
                to_weight = _dot(memory[b, slots[b, h, i]], word_gradient)
                to_weights[i] = to_weight + weights_gradient[b, h, i]
                mean += weights[b, h, i] * to_weights[i]
            query_gradient[:] = 0
            query_norm = _norm(query)
            to_strength = query.dtype.type(0)
            for i in range(k):
                row = memory[b, slots[b, h, i]]
                row_gradient = memory_gradient[places[b, h, i]]
                weight = weights[b, h, i]
                to_score = weight * (to_weights[i] - mean)
                to_similarity = strength * to_score
                if cosine:
                    row_norm = _norm(row)
                    similarity = _dot(query, row) / (query_norm * row_norm)
                    across = to_similarity / (query_norm * row_norm)
                    along_query = to_similarity * similarity / (query_norm * query_norm)
                    along_row = to_similarity * similarity / (row_norm * row_norm)
                    for w in range(word_size):
                        query_gradient[w] += across * row[w] - along_query * query[w]
                        row_gradient[w] += (
                            weight * word_gradient[w] + across * query[w] - along_row * row[w]
                        )
                else:
                    similarity = -_squared_distance(query, row)
                    for w in range(word_size):
                        slope = 2 * to_similarity * (row[w] - query[w])
                        query_gradient[w] += slope
                        row_gradient[w] += weight * word_gradient[w] - slope
                to_strength += to_score * similarity
            if interface.shape[2] > 2 * word_size + 2:
                interface_gradient[b, h, 2 * word_size + 2] = to_strength
