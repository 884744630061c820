"""One minibatch of a task."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Episode(NamedTuple):
    """What a model sees and what it should answer, time first.

    inputs: [T, B, I]. targets: [T, B, O], in the task's own encoding. mask: bool [T, B], the steps
    that are scored. level: how hard the episode is, an integer of at least 1 in the task's own
    unit.
    """

    inputs: Tensor
    targets: Tensor
    mask: Tensor
    level: int
