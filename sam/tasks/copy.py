"""Copy: repeat a sequence of random words (Graves et al. 2014, section 4.1)."""

from __future__ import annotations

import dataclasses

import torch

from sam import checks
from sam.tasks import bounds
from sam.tasks.episode import Episode
from sam.tasks.task import BitTask


@dataclasses.dataclass(frozen=True)
class Copy(BitTask):
    """Random words of `bits` bits, a delimiter on its own channel, then the answer.

    An episode's level is its length, the number of its words; T = 2 level + 1. While answering,
    the inputs are zero and the targets are the words; those steps are scored. Rae et al. 2016
    train on lengths from 1 to 20.
    """

    bits: int = 8
    min_length: int = 1
    max_length: int = 20

    def __post_init__(self) -> None:
        checks.positive_sizes(
            bits=self.bits, min_length=self.min_length, max_length=self.max_length
        )
        bounds.check("length", self.min_length, self.max_length)

    @property
    def input_size(self) -> int:
        return self.bits + 1

    @property
    def output_size(self) -> int:
        return self.bits

    @property
    def min_level(self) -> int:
        return self.min_length

    @property
    def max_level(self) -> int:
        return self.max_length

    def chance(self, level: int) -> float:
        return float(self.bits * level)

    def sample(
        self, batch_size: int, generator: torch.Generator, level: int | None = None
    ) -> Episode:
        checks.positive_sizes(batch_size=batch_size)
        length = self._level(level, generator)
        words = torch.randint(0, 2, (length, batch_size, self.bits), generator=generator).float()
        inputs = torch.zeros(2 * length + 1, batch_size, self.input_size)
        inputs[:length, :, : self.bits] = words
        inputs[length, :, self.bits] = 1
        targets = torch.zeros(2 * length + 1, batch_size, self.bits)
        targets[length + 1 :] = words
        mask = torch.zeros(2 * length + 1, batch_size, dtype=torch.bool)
        mask[length + 1 :] = True
        return Episode(inputs, targets, mask, level=length)
