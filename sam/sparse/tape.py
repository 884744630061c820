"""What the steps of one pass compute and their gradient needs."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Accesses:
    """Where T steps of a batch read and wrote, and with what weights; time first.

    What is a state has T + 1 entries, from t = 0.

    read_slots (int64) and read_weights: [T + 1, B, H, K], s and w^R_t; slot -1 for none. popped:
    int64 [T, B, H], the slots erased. content_slots (int64), content_weights: [T, B, H, K], what
    was found by content, and c_t; with no other read modes, the same arrays as of what was read.
    parts: [T, B, H, K, 3], how each mode weights the slots read (`modes`); without, the last is 0.
    """

    read_slots: np.ndarray
    read_weights: np.ndarray
    popped: np.ndarray
    content_slots: np.ndarray
    content_weights: np.ndarray
    parts: np.ndarray

    @staticmethod
    def start(
        num_steps: int, num_modes: int, read_slots: np.ndarray, read_weights: np.ndarray
    ) -> Accesses:
        """Empty but for t = 0, the slots and weights given. num_modes: 0 where content is all."""
        slots = _beginning_with(read_slots, num_steps + 1)
        weights = _beginning_with(read_weights, num_steps + 1)
        return Accesses(
            read_slots=slots,
            read_weights=weights,
            popped=np.empty((num_steps, *read_slots.shape[:2]), slots.dtype),
            content_slots=np.empty_like(slots[1:]) if num_modes else slots[1:],
            content_weights=np.empty_like(weights[1:]) if num_modes else weights[1:],
            parts=np.empty((*weights[1:].shape, num_modes), weights.dtype),
        )

    def of_steps(self, start: int, stop: int) -> Accesses:
        """Those of the steps from `start` to `stop`: views."""
        states, steps = slice(start, stop + 1), slice(start, stop)
        return Accesses(
            read_slots=self.read_slots[states],
            read_weights=self.read_weights[states],
            popped=self.popped[steps],
            content_slots=self.content_slots[steps],
            content_weights=self.content_weights[steps],
            parts=self.parts[steps],
        )

    def arrays(self) -> tuple[np.ndarray, ...]:
        """In the order in which a new one takes them."""
        return tuple(vars(self).values())


@dataclasses.dataclass(frozen=True)
class Tape(Accesses):
    """T steps of a batch: their accesses, and what the controller computed.

    cells: [T + 1, B, C], c_t. gates: [T, B, 4C], the LSTM's. interface: [T, B, H, P], the heads'
    parameters p_t. outputs: [T + 1, B, C + H W], [h_t, r_t].
    """

    cells: np.ndarray
    gates: np.ndarray
    interface: np.ndarray
    outputs: np.ndarray

    @classmethod
    def over(
        cls,
        accesses: Accesses,
        interface_size: int,
        hidden: np.ndarray,
        cell: np.ndarray,
        words: np.ndarray,
    ) -> Tape:
        """Of the steps whose accesses these are, empty but for t = 0: h_0, c_0 and r_0, [B, H W].

        interface_size: H P, all heads' parameters.
        """
        num_steps, batch_size, num_heads = accesses.popped.shape
        steps, size, dtype = (num_steps, batch_size), cell.shape[1], cell.dtype
        outputs = np.empty((num_steps + 1, batch_size, size + words.shape[1]), dtype)
        outputs[0, :, :size], outputs[0, :, size:] = hidden, words
        return cls(
            **vars(accesses),
            cells=_beginning_with(cell, num_steps + 1),
            gates=np.empty((*steps, 4 * size), dtype),
            interface=np.empty((*steps, num_heads, interface_size // num_heads), dtype),
            outputs=outputs,
        )

    @property
    def hidden(self) -> np.ndarray:
        """h_t, [T + 1, B, C]."""
        return self.outputs[:, :, : self.cells.shape[2]]

    @property
    def words(self) -> np.ndarray:
        """r_t, [T + 1, B, H W]."""
        return self.outputs[:, :, self.cells.shape[2] :]


def _beginning_with(first: np.ndarray, length: int) -> np.ndarray:
    tape = np.empty((length, *first.shape), first.dtype)
    tape[0] = first
    return tape
