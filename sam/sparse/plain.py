"""Whether a layer is as the model made it, so that its weights do for calling it.

What changes a layer in PyTorch hangs on the call: hooks, adapters in its place, pruning, the older
weight and spectral norms, quantisation. Parametrizations do not: with them the weights themselves
are what the layer computes with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn.modules import module as modules

from sam.model import Readout


class Kind(NamedTuple):
    """A kind of layer: the `forward` that it is made with, as torch had it first, and its weights.

    forwards: others do as well whose result is that of the same weights.
    """

    forwards: tuple[Callable[..., Any], ...]
    weights: tuple[str, ...]


CALL = nn.Module.__call__
LSTM_CELL = Kind((nn.LSTMCell.forward,), ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
LINEAR = Kind((nn.Linear.forward,), ("weight", "bias"))
READOUT = Kind((Readout.forward, nn.Linear.forward), ("weight", "bias"))


def weights_of(layer: nn.Module, kind: Kind, numbers: int | None = None) -> list[Tensor] | None:
    """Those of a layer, if they are all that its call depends on; else None. Takes a microsecond.

    numbers: how many its first weight has to have.
    """
    own = layer.__dict__
    if (
        getattr(type(layer), "forward", None) not in kind.forwards
        or type(layer).__call__ is not CALL
        or "forward" in own
        or own["_forward_pre_hooks"]
        or own["_forward_hooks"]
        or own["_backward_pre_hooks"]
        or own["_backward_hooks"]
        or modules._has_any_global_hook()
    ):
        return None
    weights = _named_weights(layer, kind)
    for weight in weights:
        if type(weight) is not nn.Parameter and type(weight) is not Tensor:
            return None
    return weights if numbers is None or weights[0].numel() == numbers else None


def _named_weights(layer: nn.Module, kind: Kind) -> list[Any]:
    """None for one that the layer lacks.

    From where a layer keeps parameters, if they are there: to ask for them by name takes longer
    than all else here.
    """
    parameters = layer.__dict__["_parameters"]
    return [
        parameters[each] if parameters.get(each) is not None else getattr(layer, each, None)
        for each in kind.weights
    ]


def difference(name: str, layer: nn.Module, kind: Kind) -> str:
    """In words, what of the layer called `name` its weights do not tell."""
    own = vars(layer)
    for each in ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks"):
        if own[each]:
            hooks = ", ".join(map(_name, own[each].values()))
            return f"{each[1:].replace('_', ' ')} on `{name}` ({hooks})"
    if modules._has_any_global_hook():
        return "hooks on all modules"
    for which, weight in zip(kind.weights, _named_weights(layer, kind), strict=True):
        if type(layer).forward in kind.forwards and type(weight) not in (nn.Parameter, Tensor):
            return f"`{name}` with a {type(weight).__name__} as {which}"
    return f"a {type(layer).__name__} of its own as `{name}`"


def _name(hook: Any) -> str:
    return str(getattr(hook, "__qualname__", type(hook).__name__))
