"""Data-parallel training: processes that `torchrun` starts share each minibatch.

Each process has the whole model, takes its part of the minibatch, and the gradients are averaged,
so that all take the step that one process would take on the joined minibatch. In a process by
itself everything here does nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch
from torch import Tensor, distributed


@contextlib.contextmanager
def processes() -> Iterator[None]:
    """Joins the processes of `torchrun`, if it started this one, through gloo."""
    if not distributed.is_torchelastic_launched() or distributed.is_initialized():
        yield
        return
    distributed.init_process_group("gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def rank() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0


def leads() -> bool:
    """Whether this is the process that speaks for all, even when they have parted again."""
    return not distributed.is_torchelastic_launched() or os.environ["RANK"] == "0"


def world_size() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def average_gradients(model: torch.nn.Module) -> None:
    """Give every process the mean of all processes' gradients."""
    if world_size() == 1:
        return
    gradients = [each.grad for each in model.parameters() if each.grad is not None]
    joined = torch.cat([each.flatten() for each in gradients])
    distributed.all_reduce(joined)
    joined /= world_size()
    parts = joined.split([each.numel() for each in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def mean(*values: Tensor) -> list[float]:
    """The mean over all processes of some numbers."""
    joined = torch.stack([each.detach().double() for each in values])
    if world_size() > 1:
        distributed.all_reduce(joined)
        joined /= world_size()
    return joined.tolist()


def agreed(code: int) -> int:
    """The largest of all processes' codes, so that they stop together."""
    if world_size() == 1:
        return code
    largest = torch.tensor(code)
    distributed.all_reduce(largest, distributed.ReduceOp.MAX)
    return int(largest)


def wait() -> None:
    """Until all processes are here."""
    if world_size() > 1:
        distributed.barrier()
