"""One step of an LSTM, written out, and the loop of the plain LSTM model."""

import torch


def lstm_cell(p, suffix, x, hidden, cell):
    """One element's step; `suffix` is how torch ends the names of this cell's parameters."""
    gates = (
        p[f"controller.weight_ih{suffix}"] @ x
        + p[f"controller.bias_ih{suffix}"]
        + p[f"controller.weight_hh{suffix}"] @ hidden
        + p[f"controller.bias_hh{suffix}"]
    )
    enter, forget, new, leave = gates.chunk(4)
    cell = torch.sigmoid(forget) * cell + torch.sigmoid(enter) * torch.tanh(new)
    return torch.sigmoid(leave) * torch.tanh(cell), cell


def lstm(p, inputs):
    """inputs [T, B, I] -> outputs [T, B, O]."""
    elements = []
    for x in inputs.unbind(1):
        hidden = cell = x.new_zeros(p["controller.weight_hh_l0"].shape[1])
        outputs = []
        for step in x:
            hidden, cell = lstm_cell(p, "_l0", step, hidden, cell)
            outputs.append(p["output.weight"] @ hidden + p["output.bias"])
        elements.append(torch.stack(outputs))
    return torch.stack(elements, 1)
