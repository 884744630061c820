"""A slow, dense SAM in plain torch autograd, written from the paper's equations.

Rae et al. 2016: similarities of all N words, the K most similar kept, write weights and erasures
as full N vectors, a new memory at each step. Usage is kept as the time of each slot's last
access. Imports nothing of the package it checks.
"""

import torch

EPSILON = 1e-6


def similarity(query, memory, kind):
    """query [W], memory [N, W] -> [N]."""
    if kind == "l2":
        return -((query - memory) ** 2).sum(-1)
    norm = ((query**2).sum() + EPSILON).sqrt() * ((memory**2).sum(-1) + EPSILON).sqrt()
    return memory @ query / norm


class Oracle:
    """One batch element: parameters by name, its memory [N, W] and which rows are written."""

    def __init__(self, parameters, sizes, memory=None, kind="cosine", threshold=0.005):
        self.p, self.kind, self.threshold = parameters, kind, threshold
        self.N, self.W, self.H, self.K = sizes
        like = parameters["output.weight"]
        size = parameters["controller.weight_hh"].shape[1]
        self.h = self.c = like.new_zeros(size)
        self.r = like.new_zeros(self.H * self.W)
        self.w = like.new_zeros(self.H, self.N)  # w^R of the step before
        self.memory = like.new_zeros(self.N, self.W) if memory is None else memory
        self.written = torch.full((self.N,), memory is not None)
        self.last_access = torch.full((self.N,), -1)
        self.t = 0
        self.support = None  # the slots read before

    def step(self, x):
        self._controller(x)
        p = self.p["interface.weight"] @ self.h + self.p["interface.bias"]
        heads = p.view(self.H, -1)
        # The H least recently accessed slots, the lowest first among equals.
        popped = torch.argsort(self.last_access, stable=True)[: self.H]
        writes = self._write(heads, popped)
        reads = torch.stack([self._read_weights(head) for head in heads])
        self.r = (reads @ self.memory).flatten()
        accessed = (reads + writes).sum(0) > self.threshold
        accessed[popped] = True
        self.last_access = torch.where(accessed, self.t, self.last_access)
        self.w, self.t = reads, self.t + 1
        return self.p["output.weight"] @ torch.cat([self.h, self.r]) + self.p["output.bias"]

    def _controller(self, x):
        p = self.p
        gates = (
            p["controller.weight_ih"] @ torch.cat([x, self.r])
            + p["controller.bias_ih"]
            + p["controller.weight_hh"] @ self.h
            + p["controller.bias_hh"]
        )
        i, f, g, o = gates.chunk(4)
        self.c = f.sigmoid() * self.c + i.sigmoid() * g.tanh()
        self.h = o.sigmoid() * self.c.tanh()

    def _write(self, heads, popped):
        """Returns w^W [H, N]."""
        eye = torch.eye(self.N, dtype=heads.dtype)
        alpha, gamma = heads[:, 2 * self.W].sigmoid(), heads[:, 2 * self.W + 1].sigmoid()
        words = heads[:, self.W : 2 * self.W]
        writes = alpha[:, None] * (gamma[:, None] * self.w + (1 - gamma)[:, None] * eye[popped])
        erase = eye[popped].sum(0)[:, None]
        self.memory = (1 - erase) * self.memory + writes.T @ words
        self.written = self.written.clone()
        self.written[popped] = True
        if self.support is not None:
            self.written[self.support.flatten()] = True
        self.next_support = []
        return writes

    def _read_weights(self, head):
        """w^R [N] of one head."""
        scores = similarity(head[: self.W], self.memory, self.kind)
        beta = 1.0
        if len(head) > 2 * self.W + 2:
            beta = 1 + torch.nn.functional.softplus(head[2 * self.W + 2])
        # Unwritten rows are taken only where too few are written, lowest first.
        order = torch.where(self.written, scores, -torch.inf).detach()
        support = torch.argsort(order, descending=True, stable=True)[: self.K]
        self.next_support.append(support)
        if len(self.next_support) == self.H:
            self.support = torch.stack(self.next_support)
        weights = (beta * scores[support]).softmax(0)
        return torch.zeros(self.N, dtype=head.dtype).index_put((support,), weights)


def run(parameters, sizes, inputs, memory=None, **settings):
    """inputs [T, B, I], memory [N, W] or [B, N, W] -> outputs [T, B, O], the oracles."""
    oracles = []
    for b in range(inputs.shape[1]):
        own = memory[b] if memory is not None and memory.dim() == 3 else memory
        oracles.append(Oracle(parameters, sizes, own, **settings))
    outputs = [[o.step(x) for o, x in zip(oracles, step, strict=True)] for step in inputs]
    return torch.stack([torch.stack(step) for step in outputs]), oracles
