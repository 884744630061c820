"""A slow, dense SDNC in plain torch autograd: the SAM of `oracle_sam` with temporal links.

Rae et al. 2016, supplement D: L is the paper's N_t as one [N, N] matrix, P_t its transpose.
f and b are constants to autograd. Imports nothing of the package it checks.
"""

import torch

import tests.sam.oracle_sam


def keep_largest(values, count):
    """values [..., n] with all but the `count` largest set to 0; of equal ones the lower stays."""
    order = values.argsort(stable=True, dim=-1, descending=True)
    return values.scatter(-1, order[..., count:], 0)


def link(links, precedence, writes, popped, link_size, strict):
    """L_t [N, N] and p_t [N] from those of the step before, w^W_t [H, N] and the slots popped."""
    w = writes.sum(0).clamp(0, 1)
    w = w / w.sum().clamp(min=1)
    links = links.clone()
    if not strict:
        links[popped] = 0
        links[:, popped] = 0
    # N_t(i,j) = (1 - w^W_t(i)) N_{t-1}(i,j) + w^W_t(i) p_{t-1}(j)
    links = (1 - w[:, None]) * links + w[:, None] * precedence
    if not strict:
        links.fill_diagonal_(0)
    links = keep_largest(keep_largest(links, link_size).T, link_size).T
    # p_t = (1 - sum_i w^W_t(i)) p_{t-1} + w^W_t
    return links, keep_largest((1 - w.sum()).clamp(min=0) * precedence + w, link_size)


class Oracle(tests.sam.oracle_sam.Oracle):
    """One batch element.

    links: L_t [N, N]. precedence: p_t [N]. temporal: b and f of every step so far, [2, H, N] each;
    `given_temporal` [T, 2, H, N] takes their place. followed: how often a slot was read that
    content alone would not have read.
    """

    def __init__(
        self, parameters, sizes, memory=None, given_temporal=None, *, link_size, strict, **settings
    ):
        super().__init__(parameters, sizes, memory, **settings)
        like = parameters["output.weight"].detach()
        self.link_size, self.strict = link_size, strict
        self.links, self.precedence = like.new_zeros(self.N, self.N), like.new_zeros(self.N)
        self.temporal, self.given_temporal = [], given_temporal
        self.followed = 0

    def _write(self, heads, popped):
        writes = super()._write(heads, popped)
        self.links, self.precedence = link(
            self.links, self.precedence, writes.detach(), popped, self.link_size, self.strict
        )
        before = self.w.detach()
        # b_t = P_t w^R_{t-1}, f_t = N_t w^R_{t-1}
        temporal = torch.stack([before @ self.links, before @ self.links.T])
        if self.given_temporal is not None:
            temporal = self.given_temporal[self.t]
        self.temporal.append(temporal)
        return writes

    def _read_weights(self, head):
        """w^R [N] of one head; called for the heads in order."""
        h, first_mode = len(self.next_support), 2 * self.W + 2
        backward, forward = self.temporal[-1][:, h]
        modes = head[first_mode : first_mode + 3].softmax(0)
        content = super()._read_weights(torch.cat([head[:first_mode], head[first_mode + 3 :]]))
        mixture = modes[0] * backward + modes[1] * content + modes[2] * forward
        support = mixture.detach().argsort(stable=True, descending=True)[: self.K]
        self.followed += int((content[support] == 0).sum())
        # What is read, and thereby written at the next step, is this support, not that by content.
        self.next_support[h] = support
        self.support = torch.stack(self.next_support)
        return torch.zeros_like(mixture).index_put((support,), mixture[support])


def run(parameters, sizes, inputs, memory=None, temporal=None, **settings):
    """inputs [T, B, I], memory [N, W] or [B, N, W] -> outputs [T, B, O], the oracles.

    temporal: [B, T, 2, H, N], b and f to be used in place of those of the links.
    """
    oracles = []
    for b in range(inputs.shape[1]):
        own = memory[b] if memory is not None and memory.dim() == 3 else memory
        given = None if temporal is None else temporal[b]
        oracles.append(Oracle(parameters, sizes, own, given, **settings))
    outputs = [[o.step(x) for o, x in zip(oracles, step, strict=True)] for step in inputs]
    return torch.stack([torch.stack(step) for step in outputs]), oracles
