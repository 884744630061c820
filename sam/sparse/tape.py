"""What the steps of one pass compute and their gradient needs."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Accesses:
    """Where T steps of a batch read and wrote, and with what weights; time first.

    What is a state has T + 1 entries, from t = 0.

    read_slots (int64) and read_weights: [T + 1, B, H, K], s and w^R_t; slot -1 for none. popped:
    int64 [T, B, H], the slots erased. content_slots (int64), content_weights: [T, B, H, K], what
    was found by content, and c_t; with no other read modes, the same tensors as of what was read.
    parts: [T, B, H, K, 3], how each mode weights the slots read (`modes`); without, the last is 0.
    """

    read_slots: Tensor
    read_weights: Tensor
    popped: Tensor
    content_slots: Tensor
    content_weights: Tensor
    parts: Tensor

    @staticmethod
    def start(num_steps: int, num_modes: int, read_slots: Tensor, read_weights: Tensor) -> Accesses:
        """Empty but for t = 0, the slots and weights given. num_modes: 0 where content is all."""
        slots = _beginning_with(read_slots, num_steps + 1)
        weights = _beginning_with(read_weights, num_steps + 1)
        return Accesses(
            read_slots=slots,
            read_weights=weights,
            popped=read_slots.new_empty((num_steps, *read_slots.shape[:2])),
            content_slots=torch.empty_like(slots[1:]) if num_modes else slots[1:],
            content_weights=torch.empty_like(weights[1:]) if num_modes else weights[1:],
            parts=weights.new_empty((*weights[1:].shape, num_modes)),
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

    def tensors(self) -> tuple[Tensor, ...]:
        return tuple(getattr(self, field.name) for field in dataclasses.fields(self))


@dataclasses.dataclass(frozen=True)
class Tape(Accesses):
    """T steps of a batch: their accesses, and what the controller computed.

    outputs: [T + 1, B, C + H W], [h_t, r_t]. cells: [T + 1, B, C], c_t. gates: [T, B, 4C], the
    LSTM's. interface: [T, B, H, P], the heads' parameters p_t.
    """

    outputs: Tensor
    cells: Tensor
    gates: Tensor
    interface: Tensor

    @classmethod
    def over(cls, accesses: Accesses, interface_size: int, output: Tensor, cell: Tensor) -> Tape:
        """Of the steps whose accesses these are, empty but for t = 0, the output and cell given.

        interface_size: H P, all heads' parameters.
        """
        num_steps, batch_size, num_heads = accesses.popped.shape
        steps = (num_steps, batch_size)
        return cls(
            **vars(accesses),
            outputs=_beginning_with(output, num_steps + 1),
            cells=_beginning_with(cell, num_steps + 1),
            gates=cell.new_empty((*steps, 4 * cell.shape[1])),
            interface=cell.new_empty((*steps, num_heads, interface_size // num_heads)),
        )


class Views:
    """A tape's parts that the kernels use, as NumPy arrays over the same numbers.

    hidden: [T + 1, B, C], h_t. words: [T + 1, B, H W], r_t. The others as in `Tape`.
    """

    def __init__(self, tape: Tape) -> None:
        size = tape.cells.shape[2]
        self.hidden, self.words = np.split(tape.outputs.numpy(), [size], axis=2)
        self.cells: np.ndarray = tape.cells.numpy()
        self.gates: np.ndarray = tape.gates.numpy()
        self.read_slots: np.ndarray = tape.read_slots.numpy()
        self.read_weights: np.ndarray = tape.read_weights.numpy()
        self.interface: np.ndarray = tape.interface.numpy()
        self.popped: np.ndarray = tape.popped.numpy()
        self.content_slots: np.ndarray = tape.content_slots.numpy()
        self.content_weights: np.ndarray = tape.content_weights.numpy()
        self.parts: np.ndarray = tape.parts.numpy()


def _beginning_with(first: Tensor, length: int) -> Tensor:
    tape = torch.empty((length, *first.shape), dtype=first.dtype)
    tape[0] = first
    return tape
