"""The pointwise part of an LSTM's steps inside the time loop; gates in torch's order i, f, g, o."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numba import njit
from torch import Tensor


class Gates(NamedTuple):
    """Views of gates [..., 4C]: both that let pass what is stored, then each by itself."""

    input_and_forget: Tensor
    input: Tensor
    forget: Tensor
    candidate: Tensor
    output: Tensor

    @classmethod
    def of(cls, gates: Tensor) -> Gates:
        return cls(gates.chunk(2, dim=-1)[0], *gates.chunk(4, dim=-1))


def step(gates: Gates, cell: Tensor, next_cell: Tensor, hidden: Tensor, scratch: Tensor) -> None:
    """Activate the gates in place; from cell, c_{t-1}, set next_cell and hidden, [B, C] each."""
    torch.sigmoid_(gates.input_and_forget)
    torch.tanh_(gates.candidate)
    torch.sigmoid_(gates.output)
    # c_t = f o c_{t-1} + i o g
    torch.mul(gates.forget, cell, out=next_cell)
    next_cell.addcmul_(gates.input, gates.candidate)
    # h_t = o o tanh(c_t)
    torch.tanh(next_cell, out=scratch)
    torch.mul(gates.output, scratch, out=hidden)


class StepsGradient:
    """The gradient of T steps, from the last to the first.

    Takes the activated gates [T, B, 4C], the cells [T + 1, B, C] from t = 0, and dL/dc_T [B, C].
    gates: [T, B, 4C], set to the gradient of the preactivations. cell: [B, C], dL/dc of the step
    that was reached.
    """

    def __init__(self, activated: Tensor, cells: Tensor, cell: Tensor) -> None:
        self.gates = torch.empty_like(activated)
        self.cell = cell.clone(memory_format=torch.contiguous_format)
        self._gates, self._cell = self.gates.numpy(), self.cell.numpy()
        self._activated, self._cells = activated.numpy(), cells.numpy()
        self._tanh_cells = torch.tanh(cells[1:]).numpy()

    def step_back(self, t: int, hidden: np.ndarray) -> None:
        """Set gates[t]. hidden: [B, C], all of dL/dh_t."""
        _step_back(
            (self._activated[t], self._cells[t], self._tanh_cells[t]),
            hidden,
            self._cell,
            self._gates[t],
        )


@njit(nogil=True, cache=True, fastmath={"contract"})
def _step_back(
    forward: tuple[np.ndarray, np.ndarray, np.ndarray],
    hidden_gradient: np.ndarray,
    cell_gradient: np.ndarray,
    gates_gradient: np.ndarray,
) -> None:
    """forward: the activated gates [B, 4C], c_{t-1} and tanh(c_t) [B, C]."""
    gates, cell, tanh_cell = forward
    batch_size, size = cell.shape
    one = cell.dtype.type(1)
    for b in range(batch_size):
        for j in range(size):
            i, f = gates[b, j], gates[b, size + j]
            g, o = gates[b, 2 * size + j], gates[b, 3 * size + j]
            y, dh = tanh_cell[b, j], hidden_gradient[b, j]
            dc = cell_gradient[b, j] + dh * o * (one - y * y)
            gates_gradient[b, j] = dc * g * i * (one - i)
            gates_gradient[b, size + j] = dc * cell[b, j] * f * (one - f)
            gates_gradient[b, 2 * size + j] = dc * i * (one - g * g)
            gates_gradient[b, 3 * size + j] = dh * y * o * (one - o)
            cell_gradient[b, j] = dc * f
