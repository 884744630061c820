"""One minibatch of a task, and how outputs are scored on it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class Episode(NamedTuple):
    """What a model sees and what it should answer, time first.

    inputs: [T, B, I]. targets: [T, B, O], bits. mask: bool [T, B], the steps that are scored.
    level: how hard the episode is, in the task's own unit.
    """

    inputs: Tensor
    targets: Tensor
    mask: Tensor
    level: int


def loss(outputs: Tensor, episode: Episode) -> Tensor:
    """Cross-entropy of the logits [T, B, O] over the scored steps, in nats per target bit."""
    return functional.binary_cross_entropy_with_logits(
        outputs[episode.mask], episode.targets[episode.mask]
    )


def wrong_bits(outputs: Tensor, episode: Episode) -> float:
    """The share of scored bits, in [0, 1], on whose wrong side the logits [T, B, O] are."""
    wrong = (outputs[episode.mask] > 0) != (episode.targets[episode.mask] > 0.5)
    return float(wrong.to(torch.float64).mean())
