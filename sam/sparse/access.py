"""The sparse access of one step to the memory: write, tell the index, search it, read, use."""

from __future__ import annotations

import dataclasses

import numpy as np

from sam.sparse import modes, step
from sam.sparse.gradient import SparseGradient
from sam.sparse.journal import Journal
from sam.sparse.store import Store
from sam.sparse.tape import Tape


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
        """Where the modes stand among a head's parameters; 0 without."""
        return 2 * self.word_size + 2 if self.has_modes else 0


def access(
    store: Store,
    journal: Journal,
    settings: Settings,
    tape: Tape,
    t: int,
    *,
    first: int | None = 0,
) -> None:
    """Step t from M_{t-1} to M_t and the words r_t read from it, noted in tape and journal.

    first: the number in the pass of the tape's first step, for the error; None where no pass has
    a number for it.
    """
    memory, known, usage = (
        store.memory,
        (store.written, store.num_written),
        (store.ring, store.heads),
    )
    key_strength, first_mode = settings.key_strength, settings.first_mode
    reads = tape.read_slots, tape.read_weights
    weights = tape.read_weights[t]
    written = np.empty(weights.shape[:2], weights.dtype), np.empty_like(weights)
    if not step.begin(
        memory,
        known,
        usage,
        (tape.interface, tape.popped, *reads),
        (journal.slots, journal.rows, journal.fresh),
        written,
        t,
        settings.word_size,
        key_strength,
        first_mode,
    ):
        raise FloatingPointError(
            f"interface: got NaN or infinite values{_at(first, t)}, expected finite ones; "
            "have the model's parameters diverged?"
        )
    queries = tape.interface[t, :, :, : settings.word_size]
    try:
        store.index.update(journal.slots[t])
        found, _ = store.index.search(queries, weights.shape[2])
    except ValueError as error:
        # The index takes no row or key that is not finite, or too long to have a similarity.
        raise FloatingPointError(
            f"{error}{_at(first, t)}; have the model's parameters diverged?"
        ) from error
    contents = tape.content_slots, tape.content_weights
    step.weigh(memory, known, (tape.interface, *contents), found, t, settings.cosine, key_strength)
    step.end(
        memory,
        usage,
        (tape.interface, tape.popped, *reads, *contents, tape.parts, tape.words),
        _follow_links(store, tape, journal, t, written),
        (journal.moved, journal.followed_by),
        written[1],
        t,
        settings.threshold,
        first_mode,
    )


def _at(first: int | None, t: int) -> str:
    """Where an error was met, as far as it has a number."""
    return "" if first is None else f" at step {first + t}"


def _follow_links(
    store: Store,
    tape: Tape,
    journal: Journal,
    t: int,
    written: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Link what step t wrote to what was written before; where links lead from w^R_{t-1}.

    written: w^W_t as in `step.begin`. Returns slots [B, H, n], -1 after the last, and their b_t and
    f_t, [B, H, n, 2]; no slots where no links are kept.
    """
    read_slots = tape.read_slots[t]
    if store.links is None or journal.links is None:
        shape = (*read_slots.shape[:2], 0)
        return np.empty(shape, np.int64), np.empty((*shape, 2), tape.read_weights.dtype)
    popped_weights, write_weights = written
    store.links.record_write(
        tape.popped[t], popped_weights, read_slots, write_weights, journal.links
    )
    return store.links.follow(read_slots, tape.read_weights[t])


def recall(settings: Settings, tape: Tape, t: int) -> None:
    """Activate p_t as step t did, of which the tape knows all that `access` found otherwise."""
    step.activate_all(
        tape.interface[t], settings.word_size, settings.key_strength, settings.first_mode
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
        tape: Tape,
        journal: Journal,
        settings: Settings,
        weights: np.ndarray,
        memory_gradient: SparseGradient,
    ) -> None:
        self.memory, self.tape, self.journal, self.settings = memory, tape, journal, settings
        self.weights, self.memory_gradient = weights, memory_gradient
        slots = [tape.read_slots, tape.popped]
        if settings.has_modes:
            slots.append(tape.content_slots)
        self.read_places, self.popped_places, *more = memory_gradient.places(*slots)
        self.content_places = more[0] if more else self.read_places[1:]
        self.interface = np.empty_like(tape.interface)
        self._steps_left = np.array([len(tape.interface)])

    @property
    def steps_left(self) -> int:
        return int(self._steps_left[0])

    def step_back(self, words: np.ndarray) -> None:
        """Go back over the last step left. words: [B, H W], dL/dr of that step."""
        tape, journal, settings = self.tape, self.journal, self.settings
        step.go_back(
            self.memory,
            (
                tape.interface,
                tape.read_slots,
                tape.read_weights,
                tape.content_slots,
                tape.content_weights,
                tape.parts,
            ),
            (self.read_places, self.popped_places, self.content_places),
            (journal.slots, journal.rows),
            words,
            self.weights,
            self.memory_gradient.rows,
            self.interface,
            self._steps_left,
            settings.word_size,
            settings.cosine,
            settings.key_strength,
            settings.first_mode,
        )

    def release_gradient(self) -> SparseGradient:
        """dL/dM before the pass, once all steps have been gone back over; drops it here."""
        gradient = self.memory_gradient
        del self.memory_gradient
        return gradient

    def give_up(self) -> None:
        """Carry the memory back to where it stood, after a failure."""
        undone = self.journal.of_steps(self.steps_left, len(self.interface))
        undone.carry_rows(self.memory, forward=True)
