"""What this package's `torch.autograd.Function`s have in common on the way back."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sam.tracing import opaque

Backward = Callable[..., Any]


def own_precision(device_type: str) -> contextlib.AbstractContextManager[Any]:
    """Within it `torch.autocast` casts nothing: all is computed in the dtype that it has.

    The formulas here work in place and into buffers, and a state has one dtype.
    """
    if torch._C._is_any_autocast_enabled() and autocasts(device_type):
        return torch.autocast(device_type, enabled=False)
    return contextlib.nullcontext()


def autocasts(device_type: str) -> bool:
    """Whether `torch.autocast` is at work; not every device has it."""
    available = torch.amp.is_autocast_available(device_type)
    return available and torch.is_autocast_enabled(device_type)


def once_differentiable(backward: Backward) -> Backward:
    """For a Function's `backward`: no autocast within it, and no gradient of what it returns.

    What it takes are tensors as they look, for those who read them as arrays.

    As `torch.autograd.function.once_differentiable`, but a gradient of the gradient is refused
    wherever it is asked for. Torch's refuses it where the incoming gradient has a graph, and gives
    zeros in silence where that is a constant, as for the sum of a state.
    """

    @functools.wraps(backward)
    def once(ctx: Any, *given: Tensor | None) -> Any:
        gradients = [each.resolve_neg() if isinstance(each, Tensor) else each for each in given]
        with own_precision(_device_type(gradients)):
            if not torch.is_grad_enabled():
                return backward(ctx, *gradients)
            with torch.no_grad():  # create_graph=True
                results = backward(ctx, *gradients)
        return _final(results if isinstance(results, tuple) else (results,))

    return once


def once_differentiable_in_numpy(backward: Backward) -> Backward:
    """As `once_differentiable`, for one that computes where `torch.compile` cannot follow."""
    return opaque(once_differentiable(backward))


def _device_type(gradients: Sequence[Tensor | None]) -> str:
    for gradient in gradients:
        if isinstance(gradient, Tensor):
            return gradient.device.type
    return "cpu"


def _final(gradients: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
    """The same gradients, whose own gradient raises RuntimeError."""
    known = [each for each in gradients if each is not None]
    if not known:
        return tuple(gradients)
    anchor = known[0].new_zeros((), requires_grad=True)
    final = iter(_Final.apply(anchor, *known))
    return tuple(None if each is None else next(final) for each in gradients)


class _Final(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, anchor: Tensor, *gradients: Tensor) -> tuple[Tensor, ...]:
        return tuple(each.view_as(each) for each in gradients)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> None:
        raise RuntimeError(
            "got a call for the gradient of a gradient (create_graph=True), expected one for a "
            "gradient: a model with a memory can be differentiated once"
        )
