"""The NTM as Graves et al. 2014 print it: loops and plain autograd, nothing of the package."""

import torch

from .oracle_lstm import lstm_cell

EPSILON = 1e-6


def ntm(parameters, inputs, memory, num_heads):
    """inputs [T, B, I], memory [B, N, W] -> outputs [T, B, O] and the last memory."""
    runs = [_one(parameters, inputs[:, b], memory[b], num_heads) for b in range(inputs.shape[1])]
    return torch.stack([run[0] for run in runs], 1), torch.stack([run[1] for run in runs])


def _one(parameters, inputs, memory, num_heads):
    slots, word_size = memory.shape
    hidden = cell = memory.new_zeros(parameters["controller.weight_hh"].shape[1])
    words = memory.new_zeros(num_heads * word_size)
    start = torch.zeros(slots, dtype=memory.dtype)
    start[0] = 1
    weights = [start] * (2 * num_heads)
    outputs = []
    for x in inputs:
        hidden, cell = lstm_cell(parameters, "", torch.cat([x, words]), hidden, cell)
        interface = parameters["interface.weight"] @ hidden + parameters["interface.bias"]
        size = word_size + 6
        moves = interface[: 2 * num_heads * size].view(2 * num_heads, size)
        erase, add = interface[2 * num_heads * size :].view(2, num_heads, word_size)
        for head in range(num_heads):
            weights[head] = _address(memory, weights[head], moves[head])
        new = memory
        for head in range(num_heads):
            new = new * (1 - weights[head][:, None] * torch.sigmoid(erase[head])[None, :])
        for head in range(num_heads):
            new = new + weights[head][:, None] * add[head][None, :]
        memory = new
        reads = []
        for head in range(num_heads, 2 * num_heads):
            weights[head] = _address(memory, weights[head], moves[head])
            reads.append((weights[head][:, None] * memory).sum(0))
        words = torch.cat(reads)
        outputs.append(
            parameters["output.weight"] @ torch.cat([hidden, words]) + parameters["output.bias"]
        )
    return torch.stack(outputs), memory


def cosine(query, memory):
    norms = torch.sqrt((memory**2).sum(1) + EPSILON)
    return (memory @ query) / (norms * torch.sqrt((query**2).sum() + EPSILON))


def _address(memory, previous, move):
    word_size = memory.shape[1]
    key, (beta, gate, *shift, gamma) = move[:word_size], move[word_size:]
    beta = torch.log1p(torch.exp(beta))
    gate = torch.sigmoid(gate)
    shift = torch.softmax(torch.stack(shift), 0)
    gamma = 1 + torch.log1p(torch.exp(gamma))
    content = torch.softmax(beta * cosine(key, memory), 0)
    blend = gate * content + (1 - gate) * previous
    slots = len(blend)
    shifted = []
    for i in range(slots):
        shifted.append(sum(shift[s + 1] * blend[(i - s) % slots] for s in (-1, 0, 1)))
    powers = torch.stack(shifted).clamp(min=1e-12) ** gamma
    return powers / powers.sum()
