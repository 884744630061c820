"""The write of a step, and its gradient (Rae et al. 2016, equations 3, 5, 6 and 8).

interface: [B, H, P], per head the query q and the write word a (W numbers each), then the gates
alpha and gamma, what else the model has (`modes`), and last, with a key strength, beta. What is
not a word is replaced by its activated value during the step.
"""

from __future__ import annotations

import numpy as np

from ann_backends import kernel
from sam.sparse.lists import collect


@kernel
def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + np.exp(-x))


@kernel
def activate(interface: np.ndarray, word_size: int, key_strength: bool) -> bool:
    """Activate the gates and key strengths in place; False if any number is not finite.

    alpha, gamma in (0, 1): a sigmoid. beta > 1: 1 + softplus.
    """
    batch_size, num_heads, head_size = interface.shape
    first_gate = 2 * word_size
    finite = True
    for b in range(batch_size):
        for h in range(num_heads):
            for i in range(head_size):
                finite &= np.isfinite(interface[b, h, i])
            for i in range(first_gate, first_gate + 2):
                interface[b, h, i] = _sigmoid(interface[b, h, i])
            if key_strength:
                x = interface[b, h, -1]
                interface[b, h, -1] = 1 + max(x, 0) + np.log1p(np.exp(-abs(x)))
    return finite


@kernel
def activate_backward(
    interface: np.ndarray, word_size: int, key_strength: bool, gradient: np.ndarray
) -> None:
    """Turn dL/d(activated) into dL/d(preactivation) in place; interface holds the activated."""
    batch_size, num_heads, _ = interface.shape
    first_gate = 2 * word_size
    for b in range(batch_size):
        for h in range(num_heads):
            for i in range(first_gate, first_gate + 2):
                gate = interface[b, h, i]
                gradient[b, h, i] *= gate * (1 - gate)
            if key_strength:
                # d softplus / dx = sigmoid(x) = 1 - exp(-softplus(x))
                strength = interface[b, h, -1]
                gradient[b, h, -1] *= -np.expm1(1 - strength)


@kernel
def write(
    memory: np.ndarray,
    interface: np.ndarray,
    popped: np.ndarray,
    read_slots: np.ndarray,
    read_weights: np.ndarray,
    written_weights: tuple[np.ndarray, np.ndarray],
    known: tuple[np.ndarray, np.ndarray],
    journal: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    """M_t = M_{t-1} - E_t + A_t, in place: erase the popped rows of all heads, then add.

    memory: [B, N, W]. popped: [B, H], the slots to erase, I^U. read_slots, read_weights:
    [B, H, K], w^R_{t-1}; slot -1 for none. written_weights: set to w^W_t on popped, [B, H], and on
    read_slots, [B, H, K]. known: written, num_written of the `Store`. journal: slots, rows, fresh
    of this step, slots filled with -1.
    """
    popped_weights, write_weights = written_weights
    written, num_written = known
    slots, rows, fresh = journal
    batch_size, num_heads, k = read_slots.shape
    word_size, most = memory.shape[2], slots.shape[1]
    unlisted, listed = np.empty(most, np.int64), np.empty(most, np.int64)
    uncounted, totals = np.zeros(most, memory.dtype), np.empty(most, memory.dtype)
    for b in range(batch_size):
        count = 0
        for h in range(num_heads):
            unlisted[count] = popped[b, h]
            count += 1
            for i in range(k):
                unlisted[count] = read_slots[b, h, i]
                count += read_slots[b, h, i] >= 0
        count = collect(unlisted, uncounted, count, listed, totals)
        for i in range(count):
            slot = slots[b, i] = listed[i]
            for w in range(word_size):
                rows[b, i, w] = memory[b, slot, w]
            fresh[b, i] = not written[b, slot]
            written[b, slot] = True
            num_written[b] += fresh[b, i]
        # E_t = M_{t-1} o R_t, R_t = I^U 1^T
        for h in range(num_heads):
            for w in range(word_size):
                memory[b, popped[b, h], w] = 0
        # A_t = w^W_t a_t^T, w^W_t = alpha_t (gamma_t w^R_{t-1} + (1 - gamma_t) I^U_t)
        for h in range(num_heads):
            word = interface[b, h, word_size : 2 * word_size]
            alpha = interface[b, h, 2 * word_size]
            gamma = interface[b, h, 2 * word_size + 1]
            weight = alpha - alpha * gamma
            popped_weights[b, h] = weight
            slot = popped[b, h]
            for w in range(word_size):
                memory[b, slot, w] += weight * word[w]
            for i in range(k):
                weight = alpha * gamma * read_weights[b, h, i]
                write_weights[b, h, i] = weight
                slot = read_slots[b, h, i]
                if slot >= 0:
                    for w in range(word_size):
                        memory[b, slot, w] += weight * word[w]


@kernel(fastmath={"reassoc", "contract"})
def write_backward(
    interface: np.ndarray,
    read_weights: np.ndarray,
    places: tuple[np.ndarray, np.ndarray],
    memory_gradient: np.ndarray,
    interface_gradient: np.ndarray,
    weights_gradient: np.ndarray,
) -> None:
    """The gradient of `write`, and the gradient of M_{t-1} from that of M_t, in place.

    interface: [B, H, P], activated. read_weights: [B, H, K], w^R_{t-1}. places: where the slots
    read before, [B, H, K], and those popped, [B, H], lie in memory_gradient [n, W].
    interface_gradient: its parts a, alpha and gamma are set, with respect to the activated
    values. weights_gradient: [B, H, K], set to dL/dw^R_{t-1} as far as this write goes.
    """
    read_places, popped_places = places
    batch_size, num_heads, k = read_places.shape
    word_size = memory_gradient.shape[1]
    for b in range(batch_size):
        for h in range(num_heads):
            word = interface[b, h, word_size : 2 * word_size]
            word_gradient = interface_gradient[b, h, word_size : 2 * word_size]
            alpha = interface[b, h, 2 * word_size]
            gamma = interface[b, h, 2 * word_size + 1]
            place = popped_places[b, h]
            to_popped = word[0] * 0  # dL/dw^W of the popped slot
            for w in range(word_size):
                to_popped += word[w] * memory_gradient[place, w]
                word_gradient[w] = (alpha - alpha * gamma) * memory_gradient[place, w]
            to_reads = word[0] * 0  # sum of w^R_{t-1} dL/dw^W over the slots read before
            for i in range(k):
                weights_gradient[b, h, i] = 0
                place = read_places[b, h, i]
                if place >= 0:
                    weight = alpha * gamma * read_weights[b, h, i]
                    to_slot = word[0] * 0
                    for w in range(word_size):
                        to_slot += word[w] * memory_gradient[place, w]
                        word_gradient[w] += weight * memory_gradient[place, w]
                    weights_gradient[b, h, i] = alpha * gamma * to_slot
                    to_reads += read_weights[b, h, i] * to_slot
            interface_gradient[b, h, 2 * word_size] = gamma * to_reads + (1 - gamma) * to_popped
            interface_gradient[b, h, 2 * word_size + 1] = alpha * (to_reads - to_popped)
        # Erased: M_{t-1} of the popped rows does not reach M_t. After all heads have read them.
        for h in range(num_heads):
            for w in range(word_size):
                memory_gradient[popped_places[b, h], w] = 0
