"""Slow models of temporal links and of the usage ring in plain Python; import nothing of ours.

Weights over slots are {slot: weight}. Links are {(i, j): weight}: slot i was written after slot j.
"""

import numpy as np


def largest(weights, count):
    """The `count` largest of {key: weight > 0}; of equal ones those with the lower keys."""
    keys = sorted(key for key, weight in weights.items() if weight > 0)
    return {key: weights[key] for key in sorted(keys, key=lambda key: -weights[key])[:count]}


def cut(links, side, count):
    """Keep the `count` largest links of each row (side 0) or of each column (side 1)."""
    lines, kept = {}, {}
    for link, weight in links.items():
        lines.setdefault(link[side], {})[link] = weight
    for line in lines.values():
        kept |= largest(line, count)
    return kept


def grown(links, precedence, weights):
    """N_t(i,j) = (1 - w^W_t(i)) N_{t-1}(i,j) + w^W_t(i) p_{t-1}(j), uncut."""
    links = {(i, j): (1 - weights.get(i, 0.0)) * weight for (i, j), weight in links.items()}
    for i, weight in weights.items():
        for j, before in precedence.items():
            links[i, j] = links.get((i, j), 0.0) + weight * before
    return links


def preceding(precedence, weights, count):
    """p_t = (1 - sum_i w^W_t(i)) p_{t-1} + w^W_t, cut."""
    kept = max(0.0, 1 - sum(weights.values()))
    slots = {*precedence, *weights}
    mixed = {s: kept * precedence.get(s, 0.0) + weights.get(s, 0.0) for s in slots}
    return largest(mixed, count)


def total_write(heads):
    """The write weights of all heads, clipped to 1 per slot, then scaled to a sum of at most 1."""
    weights = {}
    for head in heads:
        for slot, weight in head.items():
            weights[slot] = weights.get(slot, 0.0) + weight
    weights = {slot: min(weight, 1.0) for slot, weight in sorted(weights.items())}
    total = max(1.0, sum(weights.values()))
    return {slot: weight / total for slot, weight in weights.items()}


def product(links, reads, side):
    """f = N w^R (side 1) or b = P w^R (side 0), {slot: weight}."""
    reached = {}
    for link, weight in links.items():
        if link[side] in reads:
            end = link[1 - side]
            reached[end] = reached.get(end, 0.0) + weight * reads[link[side]]
    return reached


class Links:
    """One memory's links, kept as one matrix: the paper's N_t, with P_t its transpose."""

    def __init__(self, link_size, strict=False):
        self.link_size, self.strict = link_size, strict
        self.links, self.precedence = {}, {}

    def write(self, heads, popped=()):
        """heads: w^W of each, {slot: weight}. popped: the slots that were erased before."""
        weights, links = total_write(heads), self.links
        if not self.strict:
            links = {link: weight for link, weight in links.items() if not {*link} & {*popped}}
        links = grown(links, self.precedence, weights)
        if not self.strict:
            links = {(i, j): weight for (i, j), weight in links.items() if i != j}
        self.links = cut(cut(links, 0, self.link_size), 1, self.link_size)
        self.precedence = preceding(self.precedence, weights, self.link_size)


class PrintedLinks:
    """The paper's two matrices as printed, each cut to the `link_size` largest of its own rows.

    following: N_t. preceding: the transpose of P_t, so that uncut the two are equal.
    """

    def __init__(self, link_size):
        self.link_size = link_size
        self.following, self.preceding, self.precedence = {}, {}, {}

    def write(self, weights):
        # P_t(i,j) = (1 - w^W_t(j)) P_{t-1}(i,j) + w^W_t(j) p_{t-1}(i): that of N_t, transposed.
        self.following = cut(grown(self.following, self.precedence, weights), 0, self.link_size)
        self.preceding = cut(grown(self.preceding, self.precedence, weights), 1, self.link_size)
        self.precedence = preceding(self.precedence, weights, self.link_size)


class Ring:
    """All slots in order of last access, least recent first."""

    def __init__(self, memory_size):
        self.order = list(range(memory_size))

    def access(self, slots):
        """These slots become the most recent ones, in ascending order."""
        accessed = {*slots}
        self.order = [slot for slot in self.order if slot not in accessed] + sorted(accessed)


def dnc_links(writes):
    """L_T [N, N] and p_T [N] of the dense DNC (Graves et al. 2016) after the writes w [T, N]."""
    links, precedence = np.zeros((writes.shape[1],) * 2), np.zeros(writes.shape[1])
    for w in writes:
        # L_t[i,j] = (1 - w[i] - w[j]) L_{t-1}[i,j] + w[i] p_{t-1}[j], L_t[i,i] = 0
        links = (1 - w[:, None] - w) * links + w[:, None] * precedence
        np.fill_diagonal(links, 0)
        precedence = (1 - w.sum()) * precedence + w
    return links, precedence
