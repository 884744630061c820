"""What the steps of one pass compute and their gradient needs."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Tape:
    """T steps of a batch, time first; what is a state has T + 1 entries, from t = 0.

    outputs: [T + 1, B, C + H W], [h_t, r_t]. cells: [T + 1, B, C], c_t. read_slots (int64) and
    read_weights: [T + 1, B, H, K], s and w^R_t; slot -1 for none. gates: [T, B, 4C], the LSTM's.
    interface: [T, B, H, P], the heads' parameters p_t. popped: int64 [T, B, H], the slots erased.
    content_slots (int64), content_weights: [T, B, H, K], what was found by content, and c_t; with
    no other read modes, the same tensors as of what was read. parts: [T, B, H, K, 3], how each
    mode weights the slots read (`modes`); without, [0].
    """

    outputs: Tensor
    cells: Tensor
    read_slots: Tensor
    read_weights: Tensor
    gates: Tensor
    interface: Tensor
    popped: Tensor
    content_slots: Tensor
    content_weights: Tensor
    parts: Tensor

    @classmethod
    def start(
        cls,
        num_steps: int,
        interface_size: int,
        num_modes: int,
        state: tuple[Tensor, Tensor, Tensor, Tensor],
    ) -> Tape:
        """Empty but for t = 0. state: its output, cell, read slots and read weights.

        interface_size: H P, all heads' parameters. num_modes: 0 where content is all.
        """
        output, cell, read_slots, read_weights = state
        batch_size, num_heads, _ = read_slots.shape
        steps = (num_steps, batch_size)
        slots = _beginning_with(read_slots, num_steps + 1)
        weights = _beginning_with(read_weights, num_steps + 1)
        return cls(
            outputs=_beginning_with(output, num_steps + 1),
            cells=_beginning_with(cell, num_steps + 1),
            read_slots=slots,
            read_weights=weights,
            gates=cell.new_empty((*steps, 4 * cell.shape[1])),
            interface=cell.new_empty((*steps, num_heads, interface_size // num_heads)),
            popped=read_slots.new_empty((*steps, num_heads)),
            content_slots=torch.empty_like(slots[1:]) if num_modes else slots[1:],
            content_weights=torch.empty_like(weights[1:]) if num_modes else weights[1:],
            parts=weights.new_empty((*weights[1:].shape, num_modes) if num_modes else (0,)),
        )

    def tensors(self) -> tuple[Tensor, ...]:
        return tuple(getattr(self, field.name) for field in dataclasses.fields(self))


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
