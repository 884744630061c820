"""What follows or replaces a model's computation, and how far a model goes along with it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def opaque(function: Callable[P, R]) -> Callable[P, R]:
    """`function` as one call that `torch.compile` leaves as it is; what is around it is compiled.

    A loop over time compiles to code for one number of steps, and a sparse memory not at all.
    Under `fullgraph=True` torch says that this call is not for compiling. As
    `torch.compiler.disable`, whose import takes as long as this package's, but only once somebody
    compiles.
    """

    uncompiled: list[Callable[P, R]] = []  # once it is needed

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if torch.compiler.is_dynamo_compiling():
            if not uncompiled:
                uncompiled.append(torch.compiler.disable(function))
            return uncompiled[0](*args, **kwargs)
        return function(*args, **kwargs)

    return call


def refuse_symbols(model: str, *, functions: bool) -> None:
    """Raises RuntimeError where numbers are replaced by what only stands for them.

    functions: whether the model has `torch.autograd.Function`s, which torch.func cannot transform.
    """
    if torch.jit.is_tracing():
        tool, instead = "torch.jit.trace", "save the model and its class, or use torch.compile"
    elif torch.compiler.is_exporting():
        tool, instead = "torch.export", "save the model and its class, or use torch.compile"
    elif functions and torch._C._are_functorch_transforms_active():
        tool = "a transform of torch.func (vmap, grad, jvp, ...)"
        instead = "use torch.autograd, and the batch axis of the inputs"
    else:
        return
    raise RuntimeError(
        f"{model}: got a call inside {tool}, expected one with plain tensors; its steps depend on "
        f"their numbers and on a state that is more than tensors ({instead})"
    )
