"""The pointwise part of an LSTM's steps inside the time loop; gates in torch's order i, f, g, o."""

from __future__ import annotations

import numpy as np

from ann_backends import kernel
from sam.sparse.tanh import tanh


@kernel(fastmath={"contract"})
def step(gates: np.ndarray, cell: np.ndarray, next_cell: np.ndarray, hidden: np.ndarray) -> None:
    """Activate the gates [B, 4C] in place; from cell, c_{t-1}, set next_cell and hidden, [B, C]."""
    batch_size, size = cell.shape
    half, one = gates.dtype.type(0.5), gates.dtype.type(1)
    for b in range(batch_size):
        for j in range(4 * size):
            # sigmoid(x) = (1 + tanh(x / 2)) / 2; the candidate's is a plain tanh
            scale = one if 2 * size <= j < 3 * size else half
            gates[b, j] = scale * tanh(scale * gates[b, j]) + (one - scale)
        for j in range(size):
            # c_t = f o c_{t-1} + i o g
            added = gates[b, j] * gates[b, 2 * size + j]
            next_cell[b, j] = gates[b, size + j] * cell[b, j] + added
        for j in range(size):
            # h_t = o o tanh(c_t)
            hidden[b, j] = gates[b, 3 * size + j] * tanh(next_cell[b, j])


class StepsGradient:
    """The gradient of T steps, from the last to the first.

    Takes the activated gates [T, B, 4C], the cells [T + 1, B, C] from t = 0, and dL/dc_T [B, C],
    which becomes `cell`, dL/dc of the step that was reached. gates: [T, B, 4C], set to the gradient
    of the preactivations.
    """

    def __init__(self, activated: np.ndarray, cells: np.ndarray, cell: np.ndarray) -> None:
        self.gates, self.cell = np.empty_like(activated), cell
        self._activated, self._cells = activated, cells

    def step_back(self, t: int, hidden: np.ndarray) -> None:
        """Set gates[t]. hidden: [B, C], all of dL/dh_t."""
        forward = self._activated[t], self._cells[t], self._cells[t + 1]
        _step_back(forward, hidden, self.cell, self.gates[t])


@kernel(fastmath={"contract"})
def _step_back(
    forward: tuple[np.ndarray, np.ndarray, np.ndarray],
    hidden_gradient: np.ndarray,
    cell_gradient: np.ndarray,
    gates_gradient: np.ndarray,
) -> None:
    """forward: the activated gates [B, 4C], c_{t-1} and c_t [B, C]."""
    gates, cell, next_cell = forward
    batch_size, size = cell.shape
    one = cell.dtype.type(1)
    tanh_cell = np.empty(size, cell.dtype)
    for b in range(batch_size):
        for j in range(size):
            tanh_cell[j] = tanh(next_cell[b, j])
        for j in range(size):
            i, f = gates[b, j], gates[b, size + j]
            g, o = gates[b, 2 * size + j], gates[b, 3 * size + j]
            y, dh = tanh_cell[j], hidden_gradient[b, j]
            dc = cell_gradient[b, j] + dh * o * (one - y * y)
            gates_gradient[b, j] = dc * g * i * (one - i)
            gates_gradient[b, size + j] = dc * cell[b, j] * f * (one - f)
            gates_gradient[b, 2 * size + j] = dc * i * (one - g * g)
            gates_gradient[b, 3 * size + j] = dh * y * o * (one - o)
            cell_gradient[b, j] = dc * f
