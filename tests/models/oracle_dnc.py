"""The DNC as Graves et al. 2016 print it: loops and plain autograd, nothing of the package."""

import torch

from .oracle_lstm import lstm_cell

EPSILON = 1e-6


def dnc(parameters, inputs, memory, num_heads):
    """inputs [T, B, I], memory [B, N, W] -> outputs [T, B, O], and a dict of the last state."""
    runs = [_one(parameters, inputs[:, b], memory[b], num_heads) for b in range(inputs.shape[1])]
    outputs, states = zip(*runs, strict=True)
    return torch.stack(outputs, 1), {
        name: torch.stack([state[name] for state in states]) for name in states[0]
    }


def _one(parameters, inputs, memory, num_heads):
    slots, word_size = memory.shape
    hidden = cell = memory.new_zeros(parameters["controller.weight_hh"].shape[1])
    words = memory.new_zeros(num_heads * word_size)
    state = {
        "memory": memory,
        "usage": memory.new_zeros(slots),
        "write_weights": memory.new_zeros(slots),
        "read_weights": memory.new_zeros(num_heads, slots),
        "precedence": memory.new_zeros(slots),
        "links": memory.new_zeros(slots, slots),
    }
    outputs = []
    for x in inputs:
        hidden, cell = lstm_cell(parameters, "", torch.cat([x, words]), hidden, cell)
        interface = parameters["interface.weight"] @ hidden + parameters["interface.bias"]
        words, state = _access(interface, state, num_heads)
        outputs.append(
            parameters["output.weight"] @ torch.cat([hidden, words]) + parameters["output.bias"]
        )
    return torch.stack(outputs), state


def _access(interface, state, num_heads):
    word_size = state["memory"].shape[1]
    sizes = [word_size] * num_heads + [1] * num_heads + [word_size, 1, word_size, word_size]
    sizes += [1] * num_heads + [1, 1] + [3] * num_heads
    parts = list(interface.split(sizes))

    def take(count):
        taken, parts[:count] = parts[:count], []
        return taken

    read_keys, read_strengths = take(num_heads), [oneplus(x) for x in take(num_heads)]
    write_key, write_strength, erase, vector = take(4)
    free_gates = [torch.sigmoid(x) for x in take(num_heads)]
    allocation_gate, write_gate = (torch.sigmoid(x) for x in take(2))
    modes = [torch.softmax(x, 0) for x in take(num_heads)]

    used = usage(state["usage"], state["write_weights"], state["read_weights"], free_gates)
    by_content = content(state["memory"], write_key, oneplus(write_strength))
    write = write_gate * (allocation_gate * allocation(used) + (1 - allocation_gate) * by_content)
    memory = state["memory"] * (1 - torch.outer(write, torch.sigmoid(erase)))
    memory = memory + torch.outer(write, vector)
    linked = links(state["links"], state["precedence"], write)
    precedence = (1 - write.sum()) * state["precedence"] + write
    reads = []
    for head, before in enumerate(state["read_weights"]):
        backward, forward = linked.T @ before, linked @ before
        by_content = content(memory, read_keys[head], read_strengths[head])
        reads.append(
            modes[head][0] * backward + modes[head][1] * by_content + modes[head][2] * forward
        )
    words = torch.cat([memory.T @ read for read in reads])
    return words, {
        "memory": memory,
        "usage": used,
        "write_weights": write,
        "read_weights": torch.stack(reads),
        "precedence": precedence,
        "links": linked,
    }


def oneplus(x):
    return 1 + torch.log1p(torch.exp(x))


def content(memory, key, strength):
    norms = torch.sqrt((memory**2).sum(1) + EPSILON)
    cosine = (memory @ key) / (norms * torch.sqrt((key**2).sum() + EPSILON))
    return torch.softmax(strength * cosine, 0)


def usage(before, write, reads, free_gates):
    """before, write: [N]; reads: [R, N]; free_gates: R numbers."""
    retention = torch.ones_like(before)
    for read, gate in zip(reads, free_gates, strict=True):
        retention = retention * (1 - gate * read)
    return (before + write - before * write) * retention


def allocation(used):
    """[N] -> [N]"""
    weights, free = [None] * len(used), 1
    for slot in sorted(range(len(used)), key=lambda i: (used[i].item(), i)):
        weights[slot] = (1 - used[slot]) * free
        free = free * used[slot]
    return torch.stack(weights)


def links(before, precedence, write):
    """before: [N, N]; precedence, write: [N]."""
    slots = range(len(write))
    entries = [
        (1 - write[i] - write[j]) * before[i, j] + write[i] * precedence[j]
        if i != j
        else torch.zeros_like(write[i])
        for i in slots
        for j in slots
    ]
    return torch.stack(entries).view(len(write), len(write))
