"""Associative recall: the value that came with a key (Rae et al. 2016, section 4.2)."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from sam import checks
from sam.tasks import bounds
from sam.tasks.episode import Episode
from sam.tasks.task import BitTask

KEY, VALUE, CUE = range(3)  # the marks' channels, after those of the bits


@dataclasses.dataclass(frozen=True)
class AssociativeRecall(BitTask):
    """Pairs of a key and a value, of random bits, then a cue: which value came with this key?

    The inputs have `bits` channels of bits and three marks. Each of the pairs takes
    1 + value_steps steps: its key with the first mark up, then the steps of its value with the
    second up. One step shows the cue, the key of one of the pairs, with the third mark up. Then
    the inputs are zero for value_steps steps, and the targets are that pair's value, step by
    step. Only those steps are scored: bits value_steps bits, 48 by default.

    The keys of an episode are distinct, the values need not be; the cue is any pair's, all
    equally likely. Rae et al. 2016 train on 3 to 6 pairs.

    An episode's level is its number of pairs; T = (level + 1) (1 + value_steps). bits: at most 62,
    and enough for max_pairs distinct keys.
    """

    bits: int = 8
    value_steps: int = 6
    min_pairs: int = 3
    max_pairs: int = 6

    def __post_init__(self) -> None:
        checks.positive_sizes(**dataclasses.asdict(self))
        if self.bits > 62:
            raise ValueError(f"bits: got {self.bits}, expected at most 62")
        bounds.check("pairs", self.min_pairs, self.max_pairs)
        if self.max_pairs > self.level_limit:
            raise ValueError(
                f"max_pairs: got {self.max_pairs}, expected at most {self.level_limit}, the keys "
                f"of bits={self.bits}, as an episode's keys are distinct"
            )

    @property
    def input_size(self) -> int:
        return self.bits + 3

    @property
    def output_size(self) -> int:
        return self.bits

    @property
    def min_level(self) -> int:
        return self.min_pairs

    @property
    def max_level(self) -> int:
        return self.max_pairs

    @property
    def level_limit(self) -> int:
        """As many pairs as there are distinct keys."""
        return int(2**self.bits)

    def chance(self, level: int) -> float:
        """As for every task; the same at every level."""
        return float(self.bits * self.value_steps)

    def sample(
        self, batch_size: int, generator: torch.Generator, level: int | None = None
    ) -> Episode:
        checks.positive_sizes(batch_size=batch_size)
        pairs = self._level(level, generator)
        keys = _bits_of(_distinct(batch_size, pairs, self.bits, generator), self.bits)
        shape = (batch_size, pairs, self.value_steps, self.bits)
        values = torch.randint(0, 2, shape, generator=generator).float()
        asked = torch.randint(0, pairs, (batch_size,), generator=generator)
        every = torch.arange(batch_size)
        inputs = torch.zeros(batch_size, pairs + 1, 1 + self.value_steps, self.input_size)
        inputs[:, :pairs, 0, : self.bits] = keys
        inputs[:, :pairs, 0, self.bits + KEY] = 1
        inputs[:, :pairs, 1:, : self.bits] = values
        inputs[:, :pairs, 1:, self.bits + VALUE] = 1
        inputs[:, pairs, 0, : self.bits] = keys[every, asked]
        inputs[:, pairs, 0, self.bits + CUE] = 1
        targets = torch.zeros(*inputs.shape[:3], self.bits)
        targets[:, pairs, 1:] = values[every, asked]
        mask = torch.zeros(inputs.shape[:3], dtype=torch.bool)
        mask[:, pairs, 1:] = True
        return Episode(_time_first(inputs), _time_first(targets), _time_first(mask), level=pairs)


def _time_first(part: Tensor) -> Tensor:
    """[B, pairs + 1, 1 + value_steps, ...] -> [T, B, ...]."""
    return part.flatten(1, 2).transpose(0, 1).contiguous()


def _bits_of(numbers: Tensor, bits: int) -> Tensor:
    """The binary digits of int64 numbers, lowest first, as float: [..., bits]."""
    return (numbers.unsqueeze(-1) >> torch.arange(bits) & 1).float()


def _distinct(rows: int, count: int, bits: int, generator: torch.Generator) -> Tensor:
    """Uniform numbers below 2^bits, distinct within each row: int64 [rows, count]."""
    numbers = torch.randint(0, 2**bits, (rows, count), generator=generator)
    while (repeated := _repeated(numbers)).any():
        fresh = (int(repeated.sum()),)
        numbers[repeated] = torch.randint(0, 2**bits, fresh, generator=generator)
    return numbers


def _repeated(numbers: Tensor) -> Tensor:
    """Whether each number [rows, count] equals an earlier one of its row."""
    ascending, order = numbers.sort(dim=1, stable=True)
    repeated = torch.zeros(numbers.shape, dtype=torch.bool)
    return repeated.scatter_(1, order[:, 1:], ascending[:, 1:] == ascending[:, :-1])
