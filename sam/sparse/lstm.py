"""The steps of the LSTM controller inside the time loop; gates in torch's order i, f, g, o."""

from __future__ import annotations

import numpy as np
import torch
from numba import njit
from torch import Tensor


class Steps:
    """The pointwise part of T steps.

    gates: [T, B, 4C], preactivations of step t, activated by it. cells: [T + 1, B, C], c_t from
    t = 0. outputs: [T + 1, B, C + ...], h_t from t = 0 in front.
    """

    def __init__(self, gates: Tensor, cells: Tensor, outputs: Tensor) -> None:
        size = cells.shape[2]
        self.gates, self.cells = gates.unbind(), cells.unbind()
        self.hiddens = outputs[:, :, :size].unbind()
        self.input_and_forget = gates[:, :, : 2 * size].unbind()
        self.input, self.forget, self.candidate, self.output = (
            part.unbind() for part in gates.split(size, dim=2)
        )
        self.tanh_cell = torch.empty_like(self.cells[0])

    def step(self, t: int) -> Tensor:
        """Activate gates[t], set cells[t + 1] and h in outputs[t + 1]; returns the latter."""
        cell, hidden = self.cells[t + 1], self.hiddens[t + 1]
        torch.sigmoid_(self.input_and_forget[t])
        torch.tanh_(self.candidate[t])
        torch.sigmoid_(self.output[t])
        # c_t = f o c_{t-1} + i o g
        torch.mul(self.forget[t], self.cells[t], out=cell)
        cell.addcmul_(self.input[t], self.candidate[t])
        # h_t = o o tanh(c_t)
        torch.tanh(cell, out=self.tanh_cell)
        return torch.mul(self.output[t], self.tanh_cell, out=hidden)


class StepsGradient:
    """The gradient of `Steps`, step by step from the last.

    activated: [T, B, 4C], the gates. cells: [T + 1, B, C]. cell: [B, C], dL/dc_T from outside,
    becomes that of the step before at each step. outputs: [T, B, C + ...], dL/dh in front.
    gates: [T, B, 4C], set to the gradient of the preactivations.
    """

    def __init__(self, activated: Tensor, cells: Tensor, cell: Tensor, outputs: Tensor) -> None:
        self.hidden = outputs[:, :, : cells.shape[2]].unbind()
        self.gates = torch.empty_like(activated)
        self.cell = cell.clone(memory_format=torch.contiguous_format)
        self._hidden = outputs.numpy()[:, :, : cells.shape[2]]
        self._activated, self._cells = activated.numpy(), cells.numpy()
        self._tanh_cells = torch.tanh(cells[1:]).numpy()
        self._gates, self._cell = self.gates.numpy(), self.cell.numpy()

    def step_back(self, t: int) -> Tensor:
        """Set gates[t] and return it, once dL/dh_t is whole."""
        _step_backward(
            self._activated[t],
            self._cells[t],
            self._tanh_cells[t],
            self._hidden[t],
            self._cell,
            self._gates[t],
        )
        return self.gates[t]


@njit(nogil=True, cache=True, fastmath={"contract"})
def _step_backward(
    gates: np.ndarray,
    cell: np.ndarray,
    tanh_cell: np.ndarray,
    hidden_gradient: np.ndarray,
    cell_gradient: np.ndarray,
    gates_gradient: np.ndarray,
) -> None:
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
