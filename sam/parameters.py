"""A model's parameters, wherever torch has put them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn


def named(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """`model.named_parameters()`, and those of a replica that `nn.DataParallel` has made of it.

    A replica has copies in the places of its parameters, and none to list.
    """
    yield from model.named_parameters()
    for prefix, module in model.named_modules():
        for name, copy in vars(module).get("_former_parameters", {}).items():
            yield f"{prefix}.{name}" if prefix else name, copy


def first(model: nn.Module) -> Tensor:
    """A tensor of the model's dtype and device: its first parameter, or what stands for one.

    Quantised layers have no tensors at all: they take float32, on the CPU.
    """
    for parameter in model.parameters():
        if _is_number(parameter):
            return parameter
    for _, copy in named(model):
        if _is_number(copy):
            return copy
    return torch.empty(0, dtype=torch.float32, device="cpu")


def _is_number(parameter: Tensor) -> bool:
    """Not the integers that a layer may keep its weights as."""
    return parameter.is_floating_point() or parameter.is_complex()
