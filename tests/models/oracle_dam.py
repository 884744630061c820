"""The DAM as Rae et al. 2016 print it: loops over elements and heads, plain autograd."""

import torch

from .oracle_lstm import lstm_cell

EPSILON = 1e-6


def dam(p, inputs, memory, num_heads, **settings):
    """inputs [T, B, I], memory [B, N, W] -> outputs [T, B, O], memories [B, N, W]."""
    runs = [_one(p, inputs[:, b], memory[b], num_heads, **settings) for b in range(inputs.shape[1])]
    outputs, memories = zip(*runs, strict=True)
    return torch.stack(outputs, 1), torch.stack(memories)


def _one(p, inputs, memory, num_heads, usage, similarity, key_strength, discount=0.99, delta=0.005):
    slots, word_size = memory.shape
    hidden = cell = memory.new_zeros(p["controller.weight_hh"].shape[1])
    words = memory.new_zeros(num_heads * word_size)
    reads = [memory.new_zeros(slots) for _ in range(num_heads)]
    used = [0.0] * slots if usage == "discounted" else [-1] * slots
    outputs = []
    for t, x in enumerate(inputs):
        hidden, cell = lstm_cell(p, "", torch.cat([x, words]), hidden, cell)
        interface = p["interface.weight"] @ hidden + p["interface.bias"]
        heads = interface.view(num_heads, -1)
        query, add = heads[:, :word_size], heads[:, word_size : 2 * word_size]
        alpha, gamma = torch.sigmoid(heads[:, 2 * word_size : 2 * word_size + 2]).unbind(1)
        beta = [1.0] * num_heads
        if key_strength:
            beta = 1 + torch.log1p(torch.exp(heads[:, -1]))
        popped = sorted(range(slots), key=lambda i: used[i])[:num_heads]
        writes = []
        for h in range(num_heads):
            indicator = torch.zeros(slots, dtype=memory.dtype)
            indicator[popped[h]] = 1
            writes.append(alpha[h] * (gamma[h] * reads[h] + (1 - gamma[h]) * indicator))
        keep = torch.ones(slots, 1, dtype=memory.dtype)
        keep[popped] = 0
        memory = memory * keep
        for h in range(num_heads):
            memory = memory + writes[h][:, None] * add[h][None, :]
        reads = [
            torch.softmax(beta[h] * _similarity(query[h], memory, similarity), 0)
            for h in range(num_heads)
        ]
        words = torch.cat([weights @ memory for weights in reads])
        outputs.append(p["output.weight"] @ torch.cat([hidden, words]) + p["output.bias"])
        accessed = (sum(writes) + sum(reads)).tolist()
        for i in range(slots):
            if usage == "discounted":
                used[i] = discount * used[i] + accessed[i]
            elif i in popped or accessed[i] > delta:
                used[i] = t
    return torch.stack(outputs), memory


def _similarity(query, memory, kind):
    if kind == "l2":
        return -((memory - query) ** 2).sum(1)
    norms = torch.sqrt((memory**2).sum(1) + EPSILON) * torch.sqrt((query**2).sum() + EPSILON)
    return (memory @ query) / norms
