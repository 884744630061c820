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
    """

    outputs: Tensor
    cells: Tensor
    read_slots: Tensor
    read_weights: Tensor
    gates: Tensor
    interface: Tensor
    popped: Tensor

    @classmethod
    def start(
        cls, num_steps: int, interface_size: int, state: tuple[Tensor, Tensor, Tensor, Tensor]
    ) -> Tape:
        """Empty but for t = 0. state: its output, cell, read slots and read weights.

        interface_size: H P, all heads' parameters.
        """
        output, cell, read_slots, read_weights = state
        batch_size, num_heads, _ = read_slots.shape
        steps = (num_steps, batch_size)
        return cls(
            outputs=_beginning_with(output, num_steps + 1),
            cells=_beginning_with(cell, num_steps + 1),
            read_slots=_beginning_with(read_slots, num_steps + 1),
            read_weights=_beginning_with(read_weights, num_steps + 1),
            gates=cell.new_empty((*steps, 4 * cell.shape[1])),
            interface=cell.new_empty((*steps, num_heads, interface_size // num_heads)),
            popped=read_slots.new_empty((*steps, num_heads)),
        )

    def tensors(self) -> tuple[Tensor, ...]:
        return tuple(getattr(self, field.name) for field in dataclasses.fields(self))


class Views:
    """A tape's parts that the kernels use, as NumPy arrays over the same numbers.

    words: [T + 1, B, H W], r_t. The others as in `Tape`.
    """

    def __init__(self, tape: Tape) -> None:
        self.words = tape.outputs.numpy()[:, :, tape.cells.shape[2] :]
        self.read_slots: np.ndarray = tape.read_slots.numpy()
        self.read_weights: np.ndarray = tape.read_weights.numpy()
        self.interface: np.ndarray = tape.interface.numpy()
        self.popped: np.ndarray = tape.popped.numpy()


def _beginning_with(first: Tensor, length: int) -> Tensor:
    tape = torch.empty((length, *first.shape), dtype=first.dtype)
    tape[0] = first
    return tape
