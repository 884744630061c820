"""Minibatches of sequences of like length, so that hardly a step goes into padding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import numpy as np
import torch

from sam import checks

Item = TypeVar("Item")


class Buckets(Generic[Item]):
    """Groups of weighted items, of which the longest of one is not much longer than the shortest.

    All items of a minibatch are of one bucket. A bucket comes as often as its items weigh, and so
    does each of its items: over many minibatches every item is drawn in proportion to its weight.

    ratio: of longest to shortest length within a bucket, the most that padding can cost.
    """

    def __init__(
        self,
        items: Sequence[Item],
        weights: Sequence[float],
        length: Callable[[Item], int],
        ratio: float = 1.1,
    ) -> None:
        checks.number("ratio", ratio, "[1, inf)")
        lengths = np.array([length(item) for item in items])
        order = np.argsort(lengths, kind="stable")
        self._items = [items[each] for each in order]
        self._ends = _ends(lengths[order], ratio)
        cumulative = np.cumsum(np.asarray(weights, float)[order])
        self._cumulative = torch.from_numpy(cumulative / cumulative[-1])

    def draw(self, count: int, generator: torch.Generator) -> list[Item]:
        """`count` items of one bucket, with replacement."""
        numbers = torch.rand(count + 1, generator=generator, dtype=torch.float64)
        # An item by its weight says which bucket; items within it are drawn anew.
        first = int(torch.searchsorted(self._cumulative, numbers[0], right=True))
        bucket = int(np.searchsorted(self._ends, first, side="right"))
        start, end = (0 if bucket == 0 else int(self._ends[bucket - 1])), int(self._ends[bucket])
        low = float(self._cumulative[start - 1]) if start else 0.0
        high = float(self._cumulative[end - 1])
        drawn = torch.searchsorted(self._cumulative, low + (high - low) * numbers[1:], right=True)
        return [self._items[each] for each in drawn.clamp(start, end - 1).tolist()]

    def longest(self, count: int) -> list[Item]:
        return self._items[-count:]


def _ends(lengths: np.ndarray, ratio: float) -> np.ndarray:
    """Where each bucket of sorted lengths ends."""
    ends: list[int] = []
    while not ends or ends[-1] < len(lengths):
        shortest = lengths[ends[-1] if ends else 0]
        ends.append(int(np.searchsorted(lengths, ratio * shortest, side="right")))
    return np.array(ends)
