"""Copy: repeat a sequence of random words (Graves et al. 2014, section 4.1)."""

from __future__ import annotations

import dataclasses

import torch

from sam import checks
from sam.tasks import bounds
from sam.tasks.episode import Episode


@dataclasses.dataclass(frozen=True)
class Copy:
    """`length` random words of `bits` bits, a delimiter on its own channel, then the answer.

    While answering, the inputs are zero and the targets are the words. Rae et al. 2016 train on
    lengths from 1 to 20. An episode's level is its length.
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

    def sample(
        self, batch_size: int, generator: torch.Generator, length: int | None = None
    ) -> Episode:
        """A minibatch of one length, by default uniform between the task's; T = 2 length + 1."""
        if length is None:
            length = bounds.draw(self.min_length, self.max_length, generator)
        checks.positive_sizes(batch_size=batch_size, length=length)
        words = torch.randint(0, 2, (length, batch_size, self.bits), generator=generator).float()
        inputs = torch.zeros(2 * length + 1, batch_size, self.input_size)
        inputs[:length, :, : self.bits] = words
        inputs[length, :, self.bits] = 1
        targets = torch.zeros(2 * length + 1, batch_size, self.bits)
        targets[length + 1 :] = words
        mask = torch.zeros(2 * length + 1, batch_size, dtype=torch.bool)
        mask[length + 1 :] = True
        return Episode(inputs, targets, mask, level=length)

    def longest(self, batch_size: int, generator: torch.Generator) -> Episode:
        """A minibatch of the task's longest episodes."""
        return self.sample(batch_size, generator, self.max_length)
