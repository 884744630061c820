"""The sparse access of one step to the memory: write, tell the index, search it, read, use."""

from __future__ import annotations

import dataclasses

import numpy as np

from sam.sparse import ring
from sam.sparse.gradient import SparseGradient
from sam.sparse.journal import Journal
from sam.sparse.read import complete, read, read_backward
from sam.sparse.store import Store
from sam.sparse.tape import Views
from sam.sparse.write import activate, activate_backward, write, write_backward


@dataclasses.dataclass(frozen=True)
class Settings:
    """threshold: the paper's delta. cosine: the similarity, else the negative squared distance."""

    word_size: int
    threshold: float
    cosine: bool


def access(store: Store, tape: Views, journal: Journal, t: int, settings: Settings) -> None:
    """Step t from M_{t-1} to M_t and the words r_t read from it, noted in tape and journal."""
    interface = tape.interface[t]
    if not activate(interface, settings.word_size):
        raise FloatingPointError(
            f"interface: got NaN or infinite values at step {t}, expected finite ones; have the "
            "model's parameters diverged?"
        )
    written_slots, written_weights = tape.read_slots[t], np.empty_like(tape.read_weights[t])
    read_slots, read_weights = tape.read_slots[t + 1], tape.read_weights[t + 1]
    popped = tape.popped[t]
    ring.least_recent(store.links, store.heads, popped)
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
    read_slots[:], _ = store.index.search(queries, read_slots.shape[2])
    complete(read_slots, store.written, store.num_written)
    read(store.memory, interface, read_slots, settings.cosine, read_weights, tape.words[t + 1])
    ring.record_access(
        store.links,
        store.heads,
        popped,
        (written_slots, written_weights),
        (read_slots, read_weights),
        settings.threshold,
        (journal.moved[t], journal.followed_by[t]),
    )


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
        self.interface = np.empty_like(tape.interface)
        self.steps_left = len(tape.interface)

    def step_back(self, words: np.ndarray) -> None:
        """Go back over the last step left. words: [B, H W], dL/dr of that step."""
        t = self.steps_left - 1
        tape, rows, interface = self.tape, self.memory_gradient.rows, self.interface[t]
        read_backward(
            self.memory,
            tape.interface[t],
            (tape.read_slots[t + 1], tape.read_weights[t + 1], self.read_places[t + 1]),
            self.settings.cosine,
            (words, self.weights),
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
        activate_backward(tape.interface[t], self.settings.word_size, interface)
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
