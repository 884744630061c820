"""The kernels of a step, joined where nothing else comes between them.

Calling a kernel from Python takes as long as the shorter ones work. The arrays are those of a whole
pass, t the step; `words`, `read_slots` and `read_weights` have one more, from t = 0. first_mode:
where the read modes stand among a head's parameters, or 0 where it has none.
"""

from __future__ import annotations

import numpy as np

from ann_backends import kernel
from sam.sparse.journal import swap_rows
from sam.sparse.modes import activate_modes, mix, mix_backward
from sam.sparse.read import complete, content, content_backward, read, read_backward
from sam.sparse.ring import least_recent, record_access
from sam.sparse.write import activate, activate_backward, write, write_backward

Arrays = tuple[np.ndarray, ...]


@kernel
def activate_all(
    interface: np.ndarray, word_size: int, key_strength: bool, first_mode: int
) -> bool:
    """Activate a step's p_t [B, H, P] in place; False if any number of it is not finite."""
    finite = activate(interface, word_size, key_strength)
    if first_mode > 0:
        activate_modes(interface, first_mode)
    return finite


@kernel
def begin(
    memory: np.ndarray,
    known: tuple[np.ndarray, np.ndarray],
    usage: tuple[np.ndarray, np.ndarray],
    tape: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    journal: tuple[np.ndarray, np.ndarray, np.ndarray],
    written: tuple[np.ndarray, np.ndarray],
    t: int,
    word_size: int,
    key_strength: bool,
    first_mode: int,
) -> bool:
    """Activate p_t and write, M_{t-1} to M_t; False, nothing written, if p_t is not finite.

    known, usage: written and num_written, ring and heads of the `Store`. tape: interface, popped,
    read_slots, read_weights. journal: slots, rows, fresh. written: set to w^W_t, on the slots
    popped, [B, H], and read before, [B, H, K].
    """
    interface, popped, read_slots, read_weights = tape
    slots, rows, fresh = journal
    ring, heads = usage
    if not activate_all(interface[t], word_size, key_strength, first_mode):
        return False
    least_recent(ring, heads, popped[t])
    write(
        memory,
        interface[t],
        popped[t],
        read_slots[t],
        read_weights[t],
        written,
        known,
        (slots[t], rows[t], fresh[t]),
    )
    return True


@kernel
def weigh(
    memory: np.ndarray,
    known: tuple[np.ndarray, np.ndarray],
    tape: tuple[np.ndarray, np.ndarray, np.ndarray],
    found: np.ndarray,
    t: int,
    cosine: bool,
    key_strength: bool,
) -> None:
    """c_t, the content weights of the slots found, [B, H, K], which are completed.

    known: written and num_written of the `Store`. tape: interface, content_slots, content_weights.
    """
    interface, content_slots, content_weights = tape
    written, num_written = known
    content_slots[t] = found
    complete(content_slots[t], written, num_written)
    content(memory, interface[t], content_slots[t], cosine, key_strength, content_weights[t])


@kernel
def end(
    memory: np.ndarray,
    usage: tuple[np.ndarray, np.ndarray],
    tape: Arrays,
    linked: tuple[np.ndarray, np.ndarray],
    journal: tuple[np.ndarray, np.ndarray],
    written_weights: np.ndarray,
    t: int,
    threshold: float,
    first_mode: int,
) -> None:
    """Read r_t and note what the step accessed.

    usage: ring and heads of the `Store`. tape: interface, popped, read_slots, read_weights,
    content_slots, content_weights, parts, words. linked: as in `mix`. journal: moved, followed_by.
    written_weights: w^W_t on the slots read before, [B, H, K].
    """
    (
        interface,
        popped,
        read_slots,
        read_weights,
        content_slots,
        content_weights,
        parts,
        words,
    ) = tape
    ring, heads = usage
    moved, followed_by = journal
    if first_mode > 0:
        mix(
            interface[t],
            first_mode,
            (content_slots[t], content_weights[t]),
            linked,
            read_slots[t + 1],
            read_weights[t + 1],
            parts[t],
        )
    read(memory, read_slots[t + 1], read_weights[t + 1], words[t + 1])
    record_access(
        ring,
        heads,
        popped[t],
        (read_slots[t], written_weights),
        (read_slots[t + 1], read_weights[t + 1]),
        threshold,
        (moved[t], followed_by[t]),
    )


@kernel
def go_back(
    memory: np.ndarray,
    tape: Arrays,
    places: tuple[np.ndarray, np.ndarray, np.ndarray],
    journal: tuple[np.ndarray, np.ndarray],
    words_gradient: np.ndarray,
    weights_gradient: np.ndarray,
    memory_gradient: np.ndarray,
    interface_gradient: np.ndarray,
    steps_left: np.ndarray,
    word_size: int,
    cosine: bool,
    key_strength: bool,
    first_mode: int,
) -> None:
    """The gradient of the last step left, t, and the memory back from M_t to M_{t-1}.

    tape: interface, read_slots, read_weights, content_slots, content_weights, parts. places: where
    the slots read, popped and found by content lie in memory_gradient [n, W], dL/dM_t, which
    becomes dL/dM_{t-1}. journal: slots, rows. words_gradient: [B, H W], dL/dr_t.
    weights_gradient: [B, H, K], dL/dw^R_t as far as it is known, becomes that of t - 1.
    interface_gradient: [T, B, H, P], at t set to dL/dp_t.
    steps_left: int64 [1], set here, so that it is true of the memory whenever the caller is
    interrupted.
    """
    interface, read_slots, read_weights, content_slots, content_weights, parts = tape
    read_places, popped_places, content_places = places
    slots, rows = journal
    t = steps_left[0] - 1
    reads = (read_slots[t + 1], read_weights[t + 1], read_places[t + 1])
    read_backward(memory, reads, words_gradient, memory_gradient, weights_gradient)
    to_content = weights_gradient
    if first_mode > 0:
        to_content = np.empty_like(weights_gradient)
        mix_backward(
            interface[t],
            first_mode,
            (read_slots[t + 1], parts[t]),
            content_slots[t],
            weights_gradient,
            to_content,
            interface_gradient[t],
        )
    content_backward(
        memory,
        interface[t],
        (content_slots[t], content_weights[t], content_places[t]),
        cosine,
        key_strength,
        to_content,
        memory_gradient,
        interface_gradient[t],
    )
    write_backward(
        interface[t],
        read_weights[t],
        (read_places[t], popped_places[t]),
        memory_gradient,
        interface_gradient[t],
        weights_gradient,
    )
    activate_backward(interface[t], word_size, key_strength, interface_gradient[t])
    swap_rows(memory, slots[t], rows[t])
    steps_left[0] = t
