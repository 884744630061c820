"""The sparse access of one step to the memory: write, tell the index, search it, read, use."""

from __future__ import annotations

import dataclasses

import numpy as np

from sam.sparse import modes, ring
from sam.sparse.gradient import SparseGradient
from sam.sparse.journal import Journal
from sam.sparse.modes import activate_modes, mix, mix_backward
from sam.sparse.read import complete, content, content_backward, read, read_backward
from sam.sparse.store import Store
from sam.sparse.tape import Views
from sam.sparse.write import activate, activate_backward, write, write_backward


@dataclasses.dataclass(frozen=True)
class Settings:
    """threshold: the paper's delta. cosine: the similarity, else the negative squared distance.

    key_strength: whether each head has a beta. has_modes: whether it has read modes (`modes`),
    else it reads by content alone.
    """

    word_size: int
    threshold: float
    cosine: bool
    key_strength: bool
    has_modes: bool = False

    @property
    def num_modes(self) -> int:
        return modes.MODES if self.has_modes else 0

    @property
    def first_mode(self) -> int:
        """Where the modes stand among a head's parameters."""
        return 2 * self.word_size + 2


def access(
    store: Store, journal: Journal, settings: Settings, tape: Views, t: int, *, first: int = 0
) -> None:
    """Step t from M_{t-1} to M_t and the words r_t read from it, noted in tape and journal.

    first: the number in the pass of the tape's first step, for the error.
    """
    interface = tape.interface[t]
    if not activate(interface, settings.word_size, settings.key_strength):
        raise FloatingPointError(
            f"interface: got NaN or infinite values at step {first + t}, expected finite ones; "
            "have the model's parameters diverged?"
        )
    written_slots, written_weights = tape.read_slots[t], np.empty_like(tape.read_weights[t])
    read_slots, read_weights = tape.read_slots[t + 1], tape.read_weights[t + 1]
    popped = tape.popped[t]
    ring.least_recent(store.ring, store.heads, popped)
    write(
        store.memory,
        interface,
        popped,
        written_slots,
        tape.read_weights[t],
        written_weights,
        (store.written, store.num_written),
        (journal.slots[t], journal.rows[t], journal.fresh[t]),
    )
    store.index.update(journal.slots[t])
    queries = interface[:, :, : settings.word_size]
    found, content_weights = tape.content_slots[t], tape.content_weights[t]
    found[:], _ = store.index.search(queries, found.shape[2])
    complete(found, store.written, store.num_written)
    content(store.memory, interface, found, settings.cosine, settings.key_strength, content_weights)
    if settings.has_modes:
        linked = _follow_links(store, tape, journal, t, settings, written_weights)
        mix(
            interface,
            settings.first_mode,
            (found, content_weights),
            linked,
            read_slots,
            read_weights,
            tape.parts[t],
        )
    read(store.memory, read_slots, read_weights, tape.words[t + 1])
    ring.record_access(
        store.ring,
        store.heads,
        popped,
        (written_slots, written_weights),
        (read_slots, read_weights),
        settings.threshold,
        (journal.moved[t], journal.followed_by[t]),
    )


def _follow_links(
    store: Store,
    tape: Views,
    journal: Journal,
    t: int,
    settings: Settings,
    written_weights: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Link what step t wrote to what was written before; where links lead from w^R_{t-1}.

    Returns slots [B, H, n], -1 after the last, and their b_t and f_t, [B, H, n, 2]; no slots
    where no links are kept.
    """
    interface = tape.interface[t]
    activate_modes(interface, settings.first_mode)
    if store.links is None or journal.links is None:
        shape = (*interface.shape[:2], 0)
        return np.empty(shape, np.int64), np.empty((*shape, 2), interface.dtype)
    alpha, gamma = (
        interface[:, :, 2 * settings.word_size],
        interface[:, :, 2 * settings.word_size + 1],
    )
    store.links.record_write(
        tape.popped[t],
        alpha * (1 - gamma),
        tape.read_slots[t],
        written_weights,
        journal.links,
    )
    return store.links.follow(tape.read_slots[t], tape.read_weights[t])


def recall(settings: Settings, tape: Views, t: int) -> None:
    """Activate p_t as step t did, of which the tape knows all that `access` found otherwise."""
    interface = tape.interface[t]
    activate(interface, settings.word_size, settings.key_strength)
    if settings.has_modes:
        activate_modes(interface, settings.first_mode)


class AccessGradient:
    """The gradient of a pass's accesses, step by step from the last; rolls the memory back.

    memory: [B, N, W], standing after the pass. weights: [B, H, K], dL/dw^R_T, becomes that of the
    step before at each step. memory_gradient becomes dL/dM likewise. interface: [T, B, H, P], set
    to dL/dp.
    """

    def __init__(
        self,
        memory: np.ndarray,
        tape: Views,
        journal: Journal,
        settings: Settings,
        weights: np.ndarray,
        memory_gradient: SparseGradient,
    ) -> None:
        self.memory, self.tape, self.journal, self.settings = memory, tape, journal, settings
        self.weights, self.memory_gradient = weights, memory_gradient
        self.read_places = memory_gradient.places(tape.read_slots)
        self.popped_places = memory_gradient.places(tape.popped)
        self.content_places = (
            memory_gradient.places(tape.content_slots)
            if settings.has_modes
            else self.read_places[1:]
        )
        self.interface = np.empty_like(tape.interface)
        self.steps_left = len(tape.interface)

    def step_back(self, words: np.ndarray) -> None:
        """Go back over the last step left. words: [B, H W], dL/dr of that step."""
        t, settings = self.steps_left - 1, self.settings
        tape, rows, interface = self.tape, self.memory_gradient.rows, self.interface[t]
        read_slots = tape.read_slots[t + 1]
        reads = (read_slots, tape.read_weights[t + 1], self.read_places[t + 1])
        read_backward(self.memory, reads, words, rows, self.weights)
        to_content = self.weights
        if settings.has_modes:
            to_content = np.empty_like(self.weights)
            mix_backward(
                tape.interface[t],
                settings.first_mode,
                (read_slots, tape.parts[t]),
                tape.content_slots[t],
                self.weights,
                to_content,
                interface,
            )
        content_backward(
            self.memory,
            tape.interface[t],
            (tape.content_slots[t], tape.content_weights[t], self.content_places[t]),
            settings.cosine,
            settings.key_strength,
            to_content,
            rows,
            interface,
        )
        write_backward(
            tape.interface[t],
            tape.read_weights[t],
            (self.read_places[t], self.popped_places[t]),
            rows,
            interface,
            self.weights,
        )
        activate_backward(tape.interface[t], settings.word_size, settings.key_strength, interface)
        self.journal.swap_rows(self.memory, t)
        self.steps_left = t

    def release_gradient(self) -> SparseGradient:
        """dL/dM before the pass, once all steps have been gone back over; drops it here."""
        gradient = self.memory_gradient
        del self.memory_gradient
        return gradient

    def give_up(self) -> None:
        """Carry the memory back to where it stood, after a failure."""
        for t in range(self.steps_left, len(self.interface)):
            self.journal.swap_rows(self.memory, t)
