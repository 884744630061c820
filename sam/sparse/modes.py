"""The three-way read of SDNC: by content, or where the temporal links lead (supplement D).

interface: [B, H, P]; the three read modes pi start at `first` in each head's parameters, in the
DNC's order: backward, content, forward (Graves et al. 2016, Methods).
"""

from __future__ import annotations

import numpy as np

from ann_backends import kernel

BACKWARD, CONTENT, FORWARD = 0, 1, 2
MODES = 3


@kernel
def activate_modes(interface: np.ndarray, first: int) -> None:
    """Replace the modes' preactivations by pi, their softmax: in [0, 1], sum 1."""
    batch_size, num_heads, _ = interface.shape
    for b in range(batch_size):
        for h in range(num_heads):
            modes = interface[b, h, first : first + MODES]
            largest = max(modes[0], modes[1], modes[2])
            total = largest * 0
            for m in range(MODES):
                modes[m] = np.exp(modes[m] - largest)
                total += modes[m]
            for m in range(MODES):
                modes[m] /= total


@kernel
def _outweighs(slots: np.ndarray, weights: np.ndarray, n: int, other: int) -> bool:
    """Whether place n has the larger weight, or of equals the lower slot."""
    return weights[n] > weights[other] or (weights[n] == weights[other] and slots[n] < slots[other])


@kernel
def mix(
    interface: np.ndarray,
    first: int,
    content: tuple[np.ndarray, np.ndarray],
    linked: tuple[np.ndarray, np.ndarray],
    read_slots: np.ndarray,
    read_weights: np.ndarray,
    parts: np.ndarray,
) -> None:
    """w^R_t = pi_1 b_t + pi_2 c_t + pi_3 f_t, of which the K largest are kept as they are.

    content: slots and weights c_t, [B, H, K]. linked: slots [B, H, n], -1 after the last, and
    their b_t and f_t, [B, H, n, 2]. read_slots, read_weights: [B, H, K], set to what is kept; of
    equals the lower slot. parts: [B, H, K, 3], set to b_t, c_t and f_t of what is kept.
    """
    content_slots, content_weights = content
    linked_slots, linked_weights = linked
    batch_size, num_heads, k = read_slots.shape
    most = k + linked_slots.shape[2]
    slots = np.empty(most, np.int64)
    weights, shares = np.empty(most, parts.dtype), np.empty((most, MODES), parts.dtype)
    best = np.empty(k, np.int64)
    for b in range(batch_size):
        for h in range(num_heads):
            modes = interface[b, h, first : first + MODES]
            count = k
            for n in range(k):
                slots[n] = content_slots[b, h, n]
                shares[n, BACKWARD] = shares[n, FORWARD] = 0
                shares[n, CONTENT] = content_weights[b, h, n]
            for n in range(linked_slots.shape[2]):
                slot = linked_slots[b, h, n]
                if slot < 0:
                    break
                at = 0
                while at < k and slots[at] != slot:
                    at += 1
                if at == k:
                    at = count
                    count += 1
                    slots[at] = slot
                    shares[at, CONTENT] = 0
                shares[at, BACKWARD] = linked_weights[b, h, n, 0]
                shares[at, FORWARD] = linked_weights[b, h, n, 1]
            for n in range(count):
                weights[n] = (
                    modes[BACKWARD] * shares[n, BACKWARD]
                    + modes[CONTENT] * shares[n, CONTENT]
                    + modes[FORWARD] * shares[n, FORWARD]
                )
            kept = 0
            for n in range(count):
                place = kept
                while place > 0 and _outweighs(slots, weights, n, best[place - 1]):
                    place -= 1
                if place < k:
                    kept = min(kept + 1, k)
                    for after in range(kept - 1, place, -1):
                        best[after] = best[after - 1]
                    best[place] = n
            for place in range(k):
                read_slots[b, h, place] = slots[best[place]]
                read_weights[b, h, place] = weights[best[place]]
                for m in range(MODES):
                    parts[b, h, place, m] = shares[best[place], m]


@kernel
def mix_backward(
    interface: np.ndarray,
    first: int,
    reads: tuple[np.ndarray, np.ndarray],
    content_slots: np.ndarray,
    weights_gradient: np.ndarray,
    content_gradient: np.ndarray,
    interface_gradient: np.ndarray,
) -> None:
    """The gradient of `mix` and of the modes' softmax; none for b_t and f_t, as in the paper.

    reads: the slots kept [B, H, K] and their parts [B, H, K, 3]. weights_gradient: [B, H, K],
    dL/dw^R_t. content_gradient: [B, H, K], set to dL/dc_t. interface_gradient: [B, H, P], whose
    modes are set, with respect to the preactivations.
    """
    read_slots, parts = reads
    batch_size, num_heads, k = read_slots.shape
    to_modes = np.empty(MODES, interface.dtype)
    for b in range(batch_size):
        for h in range(num_heads):
            modes = interface[b, h, first : first + MODES]
            content_gradient[b, h] = 0
            to_modes[:] = 0
            for place in range(k):
                gradient = weights_gradient[b, h, place]
                for m in range(MODES):
                    to_modes[m] += gradient * parts[b, h, place, m]
                for n in range(k):
                    if content_slots[b, h, n] == read_slots[b, h, place]:
                        content_gradient[b, h, n] = modes[CONTENT] * gradient
            mean = to_modes[0] * 0
            for m in range(MODES):
                mean += modes[m] * to_modes[m]
            for m in range(MODES):
                interface_gradient[b, h, first + m] = modes[m] * (to_modes[m] - mean)
