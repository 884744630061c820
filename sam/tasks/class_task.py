"""Tasks whose answers are one of many classes, and how they are scored."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from sam.tasks.episode import Episode
from sam.tasks.task import Task


class ClassTask(Task):
    """A task whose targets are classes, int64 [T, B], and whose outputs are logits [T, B, O]."""

    unit = "wrong answers per sequence"

    def loss(self, outputs: Tensor, episode: Episode) -> Tensor:
        """Mean cross-entropy of the scored steps, in nats per target class."""
        _check(outputs, episode)
        return functional.cross_entropy(outputs[episode.mask], episode.targets[episode.mask])

    def cost(self, outputs: Tensor, episode: Episode) -> Tensor:
        """Cross-entropy of each sequence's scored steps, summed, in bits: float64 [B]."""
        _check(outputs, episode)
        nats = functional.cross_entropy(
            outputs[episode.mask], episode.targets[episode.mask], reduction="none"
        )
        return self._sums(nats, episode) / math.log(2)

    def errors(self, outputs: Tensor, episode: Episode) -> Tensor:
        """At how many of each sequence's scored steps another class has the highest logit."""
        _check(outputs, episode)
        named = outputs[episode.mask].argmax(-1)
        return self._sums(named != episode.targets[episode.mask], episode)

    def scored(self, episode: Episode) -> Tensor:
        return episode.mask.sum(0, dtype=torch.float64)

    @staticmethod
    def _sums(parts: Tensor, episode: Episode) -> Tensor:
        """Of what is there for each scored step, in the order of a mask, the sum by sequence."""
        sequences = episode.mask.nonzero()[:, 1]
        sums = torch.zeros(episode.mask.shape[1], dtype=torch.float64)
        return sums.index_add_(0, sequences, parts.double())


def _check(outputs: Tensor, episode: Episode) -> None:
    if outputs.shape[:-1] != episode.targets.shape:
        raise ValueError(
            f"outputs: got shape {list(outputs.shape)}, expected {list(episode.targets.shape)} "
            "as the episode's targets, and the classes"
        )
