"""How much memory a state takes, and a step's tape: what autograd keeps of it for its gradient."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from sam import parameters
from sam.recompute.schedule import Schedule

MIB = 2**20

# Beside their numbers: what torch's own objects take, for each operation of a graph and for each
# tensor of a state. Measured as resident memory with torch 2.13, 1.2 to 1.4 KB and 0.4 KB.
NODE_BYTES, TENSOR_BYTES = 1400, 400


class Costs(NamedTuple):
    """Bytes of one state between two steps, and of what one more taped step keeps."""

    state: int
    step: int

    @property
    def moving(self) -> int:
        """What going over steps takes at any time: the state before one and the state after it, or
        their gradients."""
        return 2 * self.state

    @property
    def least(self) -> int:
        """The smallest budget that works: one kept state, one taped step, and what moves."""
        return self.state + self.step + self.moving


@runtime_checkable
class RunsByPlan(Protocol):
    """A model that goes over its steps by a plan itself: its state is more than tensors."""

    def costs(self, batch_size: int) -> Costs:
        """What the plan spends its budget on."""

    def unroll_by_plan(self, plan: Schedule, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        """`unroll`, keeping what the plan says."""


_known: weakref.WeakKeyDictionary[nn.Module, dict[Any, Costs]] = weakref.WeakKeyDictionary()


def of(model: Any, batch_size: int) -> Costs:
    """Counted once for a model's sizes, dtype and device, on two steps of its own.

    A model that `RunsByPlan` says it.
    """
    if isinstance(model, RunsByPlan):
        return model.costs(batch_size)
    like = parameters.first(model)
    known = _known.setdefault(model, {})
    key = batch_size, like.dtype, like.device
    if key not in known:
        known[key] = _count(model, like.new_zeros(1, batch_size, model.input_size))
    return known[key]


@torch.enable_grad()
def _count(model: Any, inputs: Tensor) -> Costs:
    own = (part for _, part in parameters.named(model))
    kept = {part.untyped_storage().data_ptr(): part.detach() for part in own}

    def keep(tensor: Tensor) -> Tensor:
        # Alive as long as `kept` is, so that no storage takes the address of another.
        kept[tensor.untyped_storage().data_ptr()] = tensor.detach()
        return tensor.detach()

    counts = []
    state = model.initial_state(inputs.shape[1])
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        # The first step is unlike the others: its state may be constant, views of one number.
        for _ in range(2):
            outputs, state = model.unroll(inputs, state)
            parts = tensors(state).values()
            nodes = _num_nodes([outputs, *parts])
            counts.append(num_bytes(kept.values()) + NODE_BYTES * nodes)
    first, both = counts
    return Costs(num_bytes(parts) + TENSOR_BYTES * len(parts), both - first)


def _num_nodes(results: Iterable[Tensor]) -> int:
    """How many operations autograd has noted on the way to the results."""
    pending = {part.grad_fn for part in results if part.grad_fn is not None}
    found = set(pending)
    while pending:
        before = {node for node, _ in pending.pop().next_functions if node is not None}
        pending |= before - found
        found |= before
    return len(found)


def num_bytes(parts: Iterable[Tensor]) -> int:
    """Bytes of the storages behind the tensors, each counted once."""
    storages = {part.untyped_storage().data_ptr(): part.untyped_storage() for part in parts}
    return sum(storage.nbytes() for storage in storages.values())


def tensors(state: Any) -> dict[str, Tensor]:
    """The parts of a state that are tensors, by name."""
    parts = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    return {name: part for name, part in parts.items() if isinstance(part, Tensor)}


def with_tensors(state: Any, names: Iterable[str], values: Iterable[Tensor | None]) -> Any:
    """The same state with other tensors in the parts of these names."""
    return dataclasses.replace(state, **dict(zip(names, values, strict=True)))
