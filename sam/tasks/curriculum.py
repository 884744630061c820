"""The exponential curriculum: levels that grow as the loss falls (Rae et al. 2016, section 4.3)."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import torch

from sam import checks


class Progress(NamedTuple):
    """How far a training has come in its curriculum.

    highest: the hardest level that is drawn, the paper's h. recent: the losses of the minibatches
    since then, the last `window` of them, oldest first.
    """

    highest: int
    recent: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class Curriculum:
    """Levels up to a highest one, which doubles whenever the model has mastered them.

    Each minibatch has a level drawn uniformly between 0 and the highest, what is below `least`
    replaced by `least`. Once the mean loss of the last `window` minibatches is below `threshold`,
    the highest level grows, and the window starts anew. The paper gives neither threshold nor
    window; the defaults are this project's.

    start, end: the first highest level, and the one where it stops growing (None: never).
    threshold: above 0, in the loss's unit, nats per target bit. growth: the highest level is
    multiplied by it, and rounded up. increment: it grows by at least so much; growth=1.0 with
    increment=1 goes up one by one. hardest: the share, in [0, 1], of minibatches that have the
    highest level itself, instead of a drawn one; 0 in the paper.
    """

    start: int = 1
    end: int | None = None
    threshold: float = 0.01
    window: int = 100
    growth: float = 2.0
    increment: int = 0
    hardest: float = 0.0
    least: int = 1

    def __post_init__(self) -> None:
        checks.positive_sizes(least=self.least, start=self.start, window=self.window)
        if self.start < self.least:
            raise ValueError(f"start: got {self.start}, expected at least least={self.least}")
        if self.end is not None:
            checks.positive_sizes(end=self.end)
            if self.end < self.start:
                raise ValueError(f"end: got {self.end}, expected at least start={self.start}")
        checks.number("threshold", self.threshold, "(0, inf)")
        checks.number("growth", self.growth, "[1, 1000]")
        if self.increment != 0:
            checks.positive_sizes(increment=self.increment)
        elif self.growth == 1:
            raise ValueError(f"growth: got {self.growth}, expected above 1, as increment=0")
        checks.number("hardest", self.hardest, "[0, 1]")

    def begin(self) -> Progress:
        return Progress(self.start)

    def draw(self, progress: Progress, generator: torch.Generator) -> int:
        """A minibatch's level, between `least` and the highest."""
        if self.hardest and float(torch.rand((), generator=generator)) < self.hardest:
            return progress.highest
        # max(1, U(0, h))
        return max(self.least, int(torch.randint(0, progress.highest + 1, (), generator=generator)))

    def after(self, progress: Progress, loss: float) -> Progress:
        """The progress after one more minibatch, whose loss was this, in nats per target bit."""
        recent = (*progress.recent, float(loss))[-self.window :]
        if len(recent) < self.window or not math.fsum(recent) / self.window < self.threshold:
            return Progress(progress.highest, recent)
        return Progress(self._beyond(progress.highest))

    def _beyond(self, highest: int) -> int:
        grown = max(math.ceil(highest * self.growth), highest + self.increment)
        return grown if self.end is None else min(grown, self.end)
