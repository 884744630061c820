"""Repeat copy: a sequence of random words, over and over (Graves et al. 2014, section 4.2)."""

from __future__ import annotations

import dataclasses

import torch

from sam import checks
from sam.tasks import bounds
from sam.tasks.episode import Episode
from sam.tasks.task import BitTask

START, REPEATS = range(2)  # the inputs' further channels, after those of the bits


@dataclasses.dataclass(frozen=True)
class RepeatCopy(BitTask):
    """Random words of `bits` bits, how often to repeat them, then the answer.

    As the DNC's authors published it. The inputs have `bits` channels of bits and two more: the
    first step has the one up as a start mark; after the words, one step has the number of repeats
    divided by max_repeats on the other. Then the inputs are zero, and the targets are the words,
    `repeats` times over, and a last step with the end mark, the targets' further channel, up
    alone. Those level repeats + 1 steps are scored, the end mark's channel among their bits.

    An episode's level is its length, the number of its words; T = level (1 + repeats) + 3.
    """

    bits: int = 8
    min_length: int = 1
    max_length: int = 10
    min_repeats: int = 1
    max_repeats: int = 10

    def __post_init__(self) -> None:
        checks.positive_sizes(**dataclasses.asdict(self))
        bounds.check("length", self.min_length, self.max_length)
        bounds.check("repeats", self.min_repeats, self.max_repeats)

    @property
    def input_size(self) -> int:
        return self.bits + 2

    @property
    def output_size(self) -> int:
        return self.bits + 1

    @property
    def min_level(self) -> int:
        return self.min_length

    @property
    def max_level(self) -> int:
        return self.max_length

    def chance(self, level: int) -> float:
        """As for every task; the mean over the numbers of repeats that are drawn."""
        mean_repeats = (self.min_repeats + self.max_repeats) / 2
        return self.output_size * (level * mean_repeats + 1)

    def sample(
        self,
        batch_size: int,
        generator: torch.Generator,
        level: int | None = None,
        *,
        repeats: int | None = None,
    ) -> Episode:
        """A minibatch of one level and number of repeats, by default each uniform in its bounds."""
        checks.positive_sizes(batch_size=batch_size)
        if repeats is not None:
            checks.positive_sizes(repeats=repeats)
        length = self._level(level, generator)
        if repeats is None:
            repeats = bounds.draw(self.min_repeats, self.max_repeats, generator)
        words = torch.randint(0, 2, (length, batch_size, self.bits), generator=generator).float()
        steps, answer = length * (1 + repeats) + 3, length + 2
        inputs = torch.zeros(steps, batch_size, self.input_size)
        inputs[0, :, self.bits + START] = 1
        inputs[1 : length + 1, :, : self.bits] = words
        inputs[length + 1, :, self.bits + REPEATS] = repeats / self.max_repeats
        targets = torch.zeros(steps, batch_size, self.output_size)
        targets[answer:-1, :, : self.bits] = words.repeat(repeats, 1, 1)
        targets[-1, :, self.bits] = 1
        mask = torch.zeros(steps, batch_size, dtype=torch.bool)
        mask[answer:] = True
        return Episode(inputs, targets, mask, level=length)

    def longest(self, batch_size: int, generator: torch.Generator) -> Episode:
        """A minibatch of the most words, repeated the most often."""
        return self.sample(batch_size, generator, self.max_length, repeats=self.max_repeats)
