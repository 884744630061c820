"""Which states to keep under a memory budget, so that the fewest steps are made again.

Gruslys et al. 2016 (arXiv 1606.03401), the mixed variant. C(t, m) is the least number of forward
steps that going back over t steps takes, where m units of memory are free and the state before the
first of them is kept anyway:

    C(t, m) = min( 1 + C(t-1, m - step),
                   min over 1 <= y < t of  y + C(t-y, m - state) + C(y, m) )

Either the first step is taped: what its gradient needs, the state after it included, stays until
the steps behind it have been gone back over. Or the first y steps leave nothing but the state after
them, and are made again later. The paper lets a taped step stand alone for the price of `step`;
but its gradient needs the state before it too, so that this is the second move, then the first.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from ann_backends import kernel

# Of a table, to whose size and number of steps the time of filling it is proportional: 0.2 s.
# More steps are scheduled in blocks, finer units are rounded up to coarser ones.
MAX_STEPS, MAX_UNITS = 1024, 512

Moves = dict[tuple[int, int], int]


class Units(NamedTuple):
    """A budget of memory, and what it is spent on, in whole units."""

    budget: int
    state: int
    step: int

    @classmethod
    def of(cls, budget: float, state: float, step: float) -> Units:
        """Of bytes, in at most `MAX_UNITS`: the budget rounded down, what is spent rounded up.

        Raises ValueError for a budget below `state + step`, with which nothing works.
        """
        if budget < state + step:
            raise ValueError(f"budget: got {budget}, expected at least {state + step}")
        coarsest = budget / MAX_UNITS
        # In parts of a step, so that only the state is rounded, by as little as can be.
        parts = range(1, max(int(step / coarsest), 1) + 1)
        best = min(parts, key=lambda n: (math.ceil(n * state / step) / n, n))
        unit = max(step / best, coarsest)
        units = cls(int(budget / unit), math.ceil(state / unit), math.ceil(step / unit))
        # What just suffices must not fail for being rounded.
        return units._replace(budget=max(units.budget, units.state + units.step))


class Stretch(NamedTuple):
    """Steps to go over: taped, or left with nothing but the state after them.

    budget: the units that are free for going back over them, where they are not taped.
    """

    taped: bool
    steps: int
    budget: int


class Schedule(NamedTuple):
    """The best moves of going back over some number of steps.

    inside, outside: (t, m) -> the steps y to go ahead, or 0 to tape the first; of t <= block steps,
        and of more, counted in blocks. forwards: C, the forward steps that it takes in all.
    """

    units: Units
    block: int
    inside: Moves
    outside: Moves
    forwards: int

    def stretches(self, steps: int, budget: int) -> list[Stretch]:
        """How to go ahead over all of `steps`, with so many units left; neighbours are not both
        taped."""
        found: list[Stretch] = []
        while steps:
            taped, ahead = self._move(steps, budget)
            before = budget
            budget -= ahead * self.units.step if taped else self.units.state
            steps -= ahead
            if taped and found and found[-1].taped:
                found[-1] = found[-1]._replace(steps=found[-1].steps + ahead)
            else:
                found.append(Stretch(taped, ahead, before))
        return found

    def _move(self, steps: int, budget: int) -> tuple[bool, int]:
        """Whether to tape, and how many steps."""
        if steps <= self.block:
            ahead = self.inside[steps, budget]
            return ahead == 0, max(ahead, 1)
        ahead = self.outside[math.ceil(steps / self.block), budget]
        # Where the last block is shorter than the others, it is behind these steps.
        return ahead == 0, self.block * max(ahead, 1)


@functools.lru_cache(maxsize=64)
def schedule(num_steps: int, units: Units) -> Schedule:
    """The best moves for a pass of `num_steps`; optimal up to `MAX_STEPS`, else in blocks."""
    block = math.ceil(num_steps / MAX_STEPS) if num_steps > MAX_STEPS else num_steps
    costs = least_forwards(block, units)
    if block == num_steps:
        inside = _moves_from(costs, units, [(num_steps, units.budget)])
        return Schedule(units, block, inside, {}, int(costs[-1, -1]))
    # A block can be gone back over at the cost of its steps by themselves, or be taped as a whole.
    in_blocks = units._replace(step=block * units.step)
    num_blocks = math.ceil(num_steps / block)
    total = least_forwards(num_blocks, in_blocks, block, costs[block])
    outside = _moves_from(total, in_blocks, [(num_blocks, units.budget)], block)
    last = num_steps - (num_blocks - 1) * block
    starts = {(steps, m) for t, m in outside if t == 1 for steps in (block, last)}
    inside = _moves_from(costs, units, starts)
    return Schedule(units, block, inside, outside, int(total[-1, -1]))


def least_forwards(
    num_steps: int, units: Units, work: int = 1, alone: np.ndarray | None = None
) -> np.ndarray:
    """C(t, m), float32 [num_steps + 1, budget + 1]; inf where m does not suffice.

    work: forward steps that one of these steps stands for. alone: C(1, m) where a step need not be
    taped to be gone back over.
    """
    costs = np.full((num_steps + 1, units.budget + 1), np.inf, np.float32)
    costs[0] = 0
    if alone is not None:
        costs[1] = alone
    _fill(costs, units.state, units.step, work)
    return costs


@kernel
def _fill(costs: np.ndarray, state: int, step: int, work: int) -> None:
    num_units = costs.shape[1]
    for t in range(1, len(costs)):
        least = costs[t]
        for m in range(step, num_units):
            least[m] = min(least[m], np.float32(work) + costs[t - 1, m - step])
        for y in range(1, t):
            before, after = costs[y], costs[t - y]
            ahead = np.float32(work * y)
            for m in range(state, num_units):
                cost = ahead + after[m - state] + before[m]
                least[m] = cost if cost < least[m] else least[m]


def _moves_from(
    costs: np.ndarray, units: Units, starts: Iterable[tuple[int, int]], work: int = 1
) -> Moves:
    """The best move at each (t, m) that is reached from `starts`."""
    moves: Moves = {}
    pending = list(starts)
    while pending:
        t, m = here = pending.pop()
        if t == 0 or here in moves:
            continue
        if units.step <= m and costs[t, m] == work + costs[t - 1, m - units.step]:
            moves[here] = 0
            pending.append((t - 1, m - units.step))
            continue
        ahead = np.arange(1, t)
        if len(ahead) == 0:  # a block by itself, which is gone back over step by step
            moves[here] = 0
            continue
        total = work * ahead + costs[t - 1 : 0 : -1, m - units.state] + costs[1:t, m]
        best = int(ahead[total.argmin()])
        moves[here] = best
        pending += [(best, m), (t - best, m - units.state)]
    return moves
