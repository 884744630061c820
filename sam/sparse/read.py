"""The read of a step, and its gradient (Rae et al. 2016, equations 1, 2 and 4).

interface: [B, H, P] as in `write`, activated. The content weights are a softmax over the K slots
retrieved of beta times the similarity to the query q, which is recomputed here from the present
rows: an index decides which slots are read, never how. SAM reads with these weights; SDNC mixes
them with others (`modes`).
"""

from __future__ import annotations

import numpy as np

from ann_backends import NORM_EPSILON, kernel


@kernel
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


@kernel(fastmath={"reassoc", "contract"})
def _dot(word: np.ndarray, memory: np.ndarray, b: int, slot: int) -> float:
    """The product of a word and a row of the memory."""
    total = word.dtype.type(0)
    for w in range(len(word)):
        total += word[w] * memory[b, slot, w]
    return total


@kernel(fastmath={"reassoc", "contract"})
def _norm_of_word(word: np.ndarray) -> float:
    """sqrt(|q|^2 + epsilon): a zero word has similarity 0, and its gradients stay bounded."""
    total = word.dtype.type(0)
    for w in range(len(word)):
        total += word[w] * word[w]
    return np.sqrt(total + word.dtype.type(NORM_EPSILON))


@kernel(fastmath={"reassoc", "contract"})
def _norm_of_row(memory: np.ndarray, b: int, slot: int) -> float:
    """As `_norm_of_word`, of a row of the memory."""
    total = memory.dtype.type(0)
    for w in range(memory.shape[2]):
        total += memory[b, slot, w] * memory[b, slot, w]
    return np.sqrt(total + memory.dtype.type(NORM_EPSILON))


@kernel(fastmath={"reassoc", "contract"})
def _squared_distance(word: np.ndarray, memory: np.ndarray, b: int, slot: int) -> float:
    total = word.dtype.type(0)
    for w in range(len(word)):
        total += (word[w] - memory[b, slot, w]) * (word[w] - memory[b, slot, w])
    return total


@kernel
def content(
    memory: np.ndarray,
    interface: np.ndarray,
    slots: np.ndarray,
    cosine: bool,
    key_strength: bool,
    weights: np.ndarray,
) -> None:
    """c_t(s_k), the softmax over the retrieved slots s_k of beta times their similarity to q.

    memory: [B, N, W]. slots: [B, H, K]. cosine: the similarity, else -|q - m|^2. key_strength:
    whether the heads have a beta, else it is 1. weights: [B, H, K], set to c_t.
    """
    batch_size, num_heads, k = slots.shape
    word_size = memory.shape[2]
    for b in range(batch_size):
        for h in range(num_heads):
            query = interface[b, h, :word_size]
            strength = interface[b, h, -1] if key_strength else query.dtype.type(1)
            query_norm = _norm_of_word(query)
            largest = query.dtype.type(-np.inf)
            for i in range(k):
                slot = slots[b, h, i]
                if cosine:
                    row_norm = _norm_of_row(memory, b, slot)
                    similarity = _dot(query, memory, b, slot) / (query_norm * row_norm)
                else:
                    similarity = -_squared_distance(query, memory, b, slot)
                weights[b, h, i] = strength * similarity
                largest = max(largest, weights[b, h, i])
            total = query.dtype.type(0)
            for i in range(k):
                weights[b, h, i] = np.exp(weights[b, h, i] - largest)
                total += weights[b, h, i]
            for i in range(k):
                weights[b, h, i] /= total


@kernel
def content_backward(
    memory: np.ndarray,
    interface: np.ndarray,
    retrieved: tuple[np.ndarray, np.ndarray, np.ndarray],
    cosine: bool,
    key_strength: bool,
    weights_gradient: np.ndarray,
    memory_gradient: np.ndarray,
    interface_gradient: np.ndarray,
) -> None:
    """The gradient of `content`.

    retrieved: the slots, their weights c_t and their places in memory_gradient, [B, H, K] each.
    weights_gradient: [B, H, K], dL/dc_t. memory_gradient: [n, W], to which dL/dM_t is added.
    interface_gradient: [B, H, P], whose parts q and beta are set, the latter with respect to the
    activated value.
    """
    slots, weights, places = retrieved
    batch_size, num_heads, k = slots.shape
    word_size = memory.shape[2]
    for b in range(batch_size):
        for h in range(num_heads):
            query = interface[b, h, :word_size]
            query_gradient = interface_gradient[b, h, :word_size]
            strength = interface[b, h, -1] if key_strength else query.dtype.type(1)
            mean = query.dtype.type(0)
            for i in range(k):
                mean += weights[b, h, i] * weights_gradient[b, h, i]
            query_gradient[:] = 0
            query_norm = _norm_of_word(query)
            to_strength = query.dtype.type(0)
            for i in range(k):
                slot, place = slots[b, h, i], places[b, h, i]
                to_score = weights[b, h, i] * (weights_gradient[b, h, i] - mean)
                to_similarity = strength * to_score
                if cosine:
                    row_norm = _norm_of_row(memory, b, slot)
                    similarity = _dot(query, memory, b, slot) / (query_norm * row_norm)
                    across = to_similarity / (query_norm * row_norm)
                    along_query = to_similarity * similarity / (query_norm * query_norm)
                    along_row = to_similarity * similarity / (row_norm * row_norm)
                    for w in range(word_size):
                        value = memory[b, slot, w]
                        query_gradient[w] += across * value - along_query * query[w]
                        memory_gradient[place, w] += across * query[w] - along_row * value
                else:
                    similarity = -_squared_distance(query, memory, b, slot)
                    for w in range(word_size):
                        slope = 2 * to_similarity * (memory[b, slot, w] - query[w])
                        query_gradient[w] += slope
                        memory_gradient[place, w] -= slope
                to_strength += to_score * similarity
            if key_strength:
                interface_gradient[b, h, -1] = to_strength


@kernel
def read(memory: np.ndarray, slots: np.ndarray, weights: np.ndarray, words: np.ndarray) -> None:
    """r_t = sum_k w^R_t(s_k) M_t(s_k).

    memory: [B, N, W]. slots, weights: [B, H, K], s_k and w^R_t. words: [B, H W], set to r_t.
    """
    batch_size, num_heads, k = slots.shape
    word_size = memory.shape[2]
    for b in range(batch_size):
        for h in range(num_heads):
            word = words[b, h * word_size : (h + 1) * word_size]
            word[:] = 0
            for i in range(k):
                slot, weight = slots[b, h, i], weights[b, h, i]
                for w in range(word_size):
                    word[w] += weight * memory[b, slot, w]


@kernel
def read_backward(
    memory: np.ndarray,
    reads: tuple[np.ndarray, np.ndarray, np.ndarray],
    words_gradient: np.ndarray,
    memory_gradient: np.ndarray,
    weights_gradient: np.ndarray,
) -> None:
    """The gradient of `read`.

    reads: the slots, the weights and the places of the slots in memory_gradient, [B, H, K] each.
    words_gradient: [B, H W], dL/dr_t. memory_gradient: [n, W], to which dL/dM_t is added.
    weights_gradient: [B, H, K], to which dL/dw^R_t is added.
    """
    slots, weights, places = reads
    batch_size, num_heads, k = slots.shape
    word_size = memory.shape[2]
    for b in range(batch_size):
        for h in range(num_heads):
            word_gradient = words_gradient[b, h * word_size : (h + 1) * word_size]
            for i in range(k):
                slot, place, weight = slots[b, h, i], places[b, h, i], weights[b, h, i]
                weights_gradient[b, h, i] += _dot(word_gradient, memory, b, slot)
                for w in range(word_size):
                    memory_gradient[place, w] += weight * word_gradient[w]
