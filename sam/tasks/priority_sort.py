"""Priority sort: words in the order of their priorities (Graves et al. 2014, section 4.5)."""

from __future__ import annotations

import dataclasses

import torch

from sam import checks
from sam.tasks import bounds
from sam.tasks.episode import Episode
from sam.tasks.task import BitTask

PRIORITY, DELIMITER = range(2)  # the inputs' further channels, after those of the bits


@dataclasses.dataclass(frozen=True)
class PrioritySort(BitTask):
    """Random words, each with a priority; the answer is the words of the highest, in order.

    The inputs have `bits` channels of bits and two more: each of the first steps shows a key, a
    word of random bits, with its priority, uniform in [-1, 1), on the one; then one step has the
    delimiter up on the other. Then the inputs are zero, and the targets are the keys of the
    highest priorities, highest first, and of equal ones the earlier first; those steps are scored.

    An episode's level is its number of keys, of which the same share is asked for at every level,
    `answers` of `keys`, rounded up; T = level + 1 + asked(level). Graves et al. 2014 and Rae et
    al. 2016 ask for 16 of 20. min_keys, max_keys: what is drawn, by default `keys` alone.
    """

    bits: int = 8
    keys: int = 20
    answers: int = 16
    min_keys: int | None = None
    max_keys: int | None = None

    def __post_init__(self) -> None:
        settings = dataclasses.asdict(self)
        checks.positive_sizes(**{name: size for name, size in settings.items() if size is not None})
        if self.answers > self.keys:
            raise ValueError(f"answers: got {self.answers}, expected at most keys={self.keys}")
        bounds.check("keys", self.min_level, self.max_level)

    @property
    def input_size(self) -> int:
        return self.bits + 2

    @property
    def output_size(self) -> int:
        return self.bits

    @property
    def min_level(self) -> int:
        return self.keys if self.min_keys is None else self.min_keys

    @property
    def max_level(self) -> int:
        return self.keys if self.max_keys is None else self.max_keys

    def asked(self, level: int) -> int:
        """How many of so many keys are asked for."""
        return -(-level * self.answers // self.keys)

    def chance(self, level: int) -> float:
        return float(self.bits * self.asked(level))

    def sample(
        self, batch_size: int, generator: torch.Generator, level: int | None = None
    ) -> Episode:
        checks.positive_sizes(batch_size=batch_size)
        level = self._level(level, generator)
        keys = torch.randint(0, 2, (level, batch_size, self.bits), generator=generator).float()
        priorities = 2 * torch.rand(level, batch_size, generator=generator) - 1
        order = priorities.sort(dim=0, descending=True, stable=True).indices[: self.asked(level)]
        steps, answer = level + 1 + len(order), level + 1
        inputs = torch.zeros(steps, batch_size, self.input_size)
        inputs[:level, :, : self.bits] = keys
        inputs[:level, :, self.bits + PRIORITY] = priorities
        inputs[level, :, self.bits + DELIMITER] = 1
        targets = torch.zeros(steps, batch_size, self.bits)
        targets[answer:] = keys.take_along_dim(order.unsqueeze(-1), dim=0)
        mask = torch.zeros(steps, batch_size, dtype=torch.bool)
        mask[answer:] = True
        return Episode(inputs, targets, mask, level=level)
