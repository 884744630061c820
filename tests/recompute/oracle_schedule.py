"""The recursions of Gruslys et al. 2016 as they are printed, and a search through all schedules."""

import functools
import math

import numpy as np


def hidden_state_memorization(num_steps, slots):
    """C(t, m), float [num_steps + 1, slots + 1], for m >= 1: eq. 2 and its limits."""
    costs = np.full((num_steps + 1, slots + 1), np.inf)
    for t in range(num_steps + 1):
        costs[t, 1] = t * (t + 1) / 2
    costs[:2, 1:] = [[0], [1]]
    for m in range(2, slots + 1):
        for t in range(2, num_steps + 1):
            y = np.arange(1, t)
            costs[t, m] = (y + costs[t - y, m - 1] + costs[y, m]).min()
    return costs


def internal_state_memorization(num_steps, slots):
    """The same where a slot holds all that the gradient of a step needs."""
    costs = np.full((num_steps + 1, slots + 1), np.inf)
    for t in range(num_steps + 1):
        costs[t, 1] = t * (t + 1) / 2
    costs[0] = 0
    for m in range(2, slots + 1):
        for t in range(1, num_steps + 1):
            y = np.arange(1, t + 1)
            costs[t, m] = (y + costs[t - y, m - 1] + costs[y - 1, m]).min()
    return costs


def fewest_forwards(num_steps, budget, state, step):
    """The least number of forward steps, by Dijkstra's search through all that could be done.

    A situation is where one stands, which states are kept, which steps are taped, and how many
    steps are still to be gone back over. Position 0 is kept by the caller.
    """
    import heapq

    start = (0, frozenset([0]), frozenset(), num_steps)
    best, queue, number = {start: 0}, [(0, 0, start)], 0
    while queue:
        cost, _, here = heapq.heappop(queue)
        if cost > best[here]:
            continue
        at, kept, taped, left = here
        if left == 0:
            return cost
        for extra, there in _moves(at, kept, taped, left):
            if _size(there, state, step) > budget or best.get(there, math.inf) <= cost + extra:
                continue
            best[there], number = cost + extra, number + 1
            heapq.heappush(queue, (cost + extra, number, there))
    return math.inf


def _moves(at, kept, taped, left):
    if at < left:  # one step ahead, taped or not; a tape starts from a state that stays
        yield 1, (at + 1, kept, taped, left)
        if at in kept or at in taped:  # `taped` by the position after the step
            yield 1, (at + 1, kept, taped | {at + 1}, left)
        if at not in kept and at not in taped:
            yield 0, (at, kept | {at}, taped, left)
    if left in taped:  # back over the last step
        yield 0, (at if at < left else left - 1, kept - {left}, taped - {left}, left - 1)
    for position in kept | taped:
        if position < left:
            yield 0, (position, kept, taped, left)
    for position in kept - {0}:
        if position + 1 not in taped:
            yield 0, (at, kept - {position}, taped, left)


def _size(situation, state, step):
    _, kept, taped, _ = situation
    return state * len(kept - {0}) + step * len(taped)


@functools.cache
def mixed(num_steps, budget, state, step):
    """The recursion of `sam.recompute.schedule`, written out."""
    if num_steps == 0:
        return 0
    if budget < step:
        return math.inf
    least = 1 + mixed(num_steps - 1, budget - step, state, step)
    if budget >= state:
        for y in range(1, num_steps):
            after = mixed(num_steps - y, budget - state, state, step)
            least = min(least, y + after + mixed(y, budget, state, step))
    return least
