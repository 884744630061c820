"""What every task offers, and how answers of bits are scored."""

from __future__ import annotations

import abc
import math
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from sam import checks
from sam.tasks import bounds
from sam.tasks.episode import Episode


class Task(abc.ABC):
    """A distribution of episodes of growing difficulty, and the scores of a model's outputs.

    Tasks are settings alone, frozen: all randomness comes from the generator that is handed in, so
    that the same seed gives the same episodes. An episode's level is its difficulty, an integer of
    at least 1; without a given one it is uniform between min_level and max_level, while `sample`
    takes harder ones as well, up to level_limit.
    """

    unit: ClassVar[str]
    """What `errors` counts."""
    splits: ClassVar[tuple[str, ...]] = ("fresh",)
    """What a trained model is evaluated on: each a name that `held_out` takes."""

    @property
    @abc.abstractmethod
    def input_size(self) -> int: ...

    @property
    @abc.abstractmethod
    def output_size(self) -> int: ...

    @property
    @abc.abstractmethod
    def min_level(self) -> int:
        """The easiest level that is drawn when none is given."""

    @property
    @abc.abstractmethod
    def max_level(self) -> int:
        """The hardest level that is drawn when none is given."""

    @property
    def level_limit(self) -> int | None:
        """The hardest level that there is; None: no limit."""
        return None

    @abc.abstractmethod
    def sample(
        self, batch_size: int, generator: torch.Generator, level: int | None = None
    ) -> Episode:
        """A minibatch of one level, by default uniform between the task's.

        Raises TypeError or ValueError, naming the argument, for a batch_size or level that is no
        integer of at least 1, and for a level above level_limit.
        """

    def prepare(self) -> None:
        """Read what sampling needs, if it is not there yet; DataError says what is missing."""
        return None

    @property
    def evaluation_levels(self) -> tuple[int, ...]:
        """The levels at which a trained model is evaluated, unless others are asked for."""
        return (self.min_level, self.max_level)

    def held_out(
        self, split: str, level: int, sequences: int, batch_size: int, generator: torch.Generator
    ) -> Iterator[Episode]:
        """Minibatches of one of `splits`, nothing of which `sample` gives.

        `sequences` of them in all, or as many as there are; at most batch_size at once.
        """
        checks.one_of("split", split, self.splits)
        checks.positive_sizes(sequences=sequences, batch_size=batch_size)
        for start in range(0, sequences, batch_size):
            yield self.sample(min(batch_size, sequences - start), generator, level)

    def longest(self, batch_size: int, generator: torch.Generator) -> Episode:
        """A minibatch of the longest episodes that `sample` makes by itself."""
        return self.sample(batch_size, generator, self.max_level)

    @abc.abstractmethod
    def loss(self, outputs: Tensor, episode: Episode) -> Tensor:
        """What training minimises, over the scored steps alone, in nats per target bit."""

    @abc.abstractmethod
    def cost(self, outputs: Tensor, episode: Episode) -> Tensor:
        """Cross-entropy of each sequence, its scored steps summed, in bits: float64 [B]."""

    @abc.abstractmethod
    def errors(self, outputs: Tensor, episode: Episode) -> Tensor:
        """What is wrong in each sequence at its scored steps, in `unit`: float64 [B]."""

    @abc.abstractmethod
    def scored(self, episode: Episode) -> Tensor:
        """The most that `errors` can be for each sequence, all its answers wrong: float64 [B]."""

    def breakdown(self, outputs: Tensor, episode: Episode) -> dict[str, Tensor]:
        """Further measures of each sequence, by name, float64 [B, ...]; evaluation means them."""
        return {}

    @abc.abstractmethod
    def chance(self, level: int) -> float:
        """The `cost` of guessing at this level, in bits per sequence."""

    def _level(self, level: int | None, generator: torch.Generator) -> int:
        """The given level, if there is such a one, or a drawn one."""
        if level is None:
            return bounds.draw(self.min_level, self.max_level, generator)
        checks.positive_sizes(level=level)
        if self.level_limit is not None and level > self.level_limit:
            raise ValueError(f"level: got {level}, expected at most {self.level_limit} of {self}")
        return level


class BitTask(Task):
    """A task whose targets are bits and whose outputs are their logits, both [T, B, O].

    Guessing costs one bit per scored bit and gets every second one wrong, so half of `chance` is
    what guessing makes of `errors`.
    """

    unit = "wrong bits per sequence"

    def loss(self, outputs: Tensor, episode: Episode) -> Tensor:
        """Mean cross-entropy of the scored bits, in nats per target bit."""
        targets = _targets_like(outputs, episode)
        return functional.binary_cross_entropy_with_logits(
            outputs[episode.mask], targets[episode.mask]
        )

    def cost(self, outputs: Tensor, episode: Episode) -> Tensor:
        """Cross-entropy of each sequence's scored bits, summed, in bits: float64 [B].

        The measure of the learning curves of Graves et al. 2014 and Rae et al. 2016.
        """
        targets = _targets_like(outputs, episode)
        nats = functional.binary_cross_entropy_with_logits(outputs, targets, reduction="none")
        return _sum_of_scored(nats, episode) / math.log(2)

    def errors(self, outputs: Tensor, episode: Episode) -> Tensor:
        """How many of each sequence's scored bits the logits are on the wrong side of."""
        targets = _targets_like(outputs, episode)
        return _sum_of_scored((outputs > 0) != (targets > 0.5), episode)

    def scored(self, episode: Episode) -> Tensor:
        return episode.mask.sum(0, dtype=torch.float64) * episode.targets.shape[-1]


def _targets_like(outputs: Tensor, episode: Episode) -> Tensor:
    if outputs.shape != episode.targets.shape:
        raise ValueError(
            f"outputs: got shape {list(outputs.shape)}, expected {list(episode.targets.shape)} "
            "as the episode's targets"
        )
    return episode.targets.to(outputs)


def _sum_of_scored(parts: Tensor, episode: Episode) -> Tensor:
    """Of what is there for each output [T, B, O], the sum over each sequence: float64 [B]."""
    return torch.where(episode.mask.unsqueeze(-1), parts, 0).sum((0, 2), dtype=torch.float64)
