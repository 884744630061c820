"""A model's steps under a memory budget, as one `torch.autograd.Function`.

The way ahead keeps some states, and tapes some steps: runs them with autograd's graph. The way back
takes the last thing kept first: a tape gives its gradients, a state the steps after it once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sam import checks, parameters
from sam.autograd import once_differentiable
from sam.recompute import costs
from sam.recompute.costs import MIB
from sam.recompute.schedule import Schedule, Units, schedule

# Steps that are not taped are made so many at a time: a call is shared, little is kept.
STEPS_AT_ONCE = 16


def check_settings(checkpoint: str | None, checkpoint_mib: float | None) -> None:
    """Raises ValueError unless both are None, or "dp" comes with a budget."""
    if checkpoint not in (None, "dp"):
        raise ValueError(f"checkpoint: got {checkpoint!r}, expected 'dp' or None")
    if (checkpoint is None) != (checkpoint_mib is None):
        expected = "None without checkpoint='dp'" if checkpoint is None else "a number of MiB"
        raise ValueError(f"checkpoint_mib: got {checkpoint_mib!r}, expected {expected}")
    if checkpoint_mib is not None:
        checks.number("checkpoint_mib", checkpoint_mib, "(0, inf)")


def unroll(model: Any, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
    """`model.unroll(inputs, state)`, for whose gradient `model.checkpoint_mib` are kept at most.

    inputs: [T, B, input_size]. What fits the budget is run as if there were none, and so is what
    needs no gradient. Raises ValueError for a budget too small for any schedule.
    """
    parts = costs.tensors(state)
    named = dict(parameters.named(model))
    given = [inputs, *parts.values(), *named.values()]
    if not torch.is_grad_enabled() or not any(part.requires_grad for part in given):
        return model.unroll(inputs, state)
    num_steps, batch_size, _ = inputs.shape
    own, budget = costs.of(model, batch_size), model.checkpoint_mib * MIB
    if own.moving + num_steps * own.step <= budget:
        return model.unroll(inputs, state)
    if budget < own.least:
        raise ValueError(
            f"checkpoint_mib: got {model.checkpoint_mib}, expected at least "
            f"{own.least / MIB:.4g}: one state of {own.state / MIB:.4g} MiB at batch size "
            f"{batch_size}, the one before and the one after a step, and {own.step / MIB:.4g} MiB "
            "that the gradient of a step needs"
        )
    plan = schedule(num_steps, Units.of(budget - own.moving, own.state, own.step))
    if isinstance(model, costs.RunsByPlan):
        return model.unroll_by_plan(plan, inputs, state)
    start = costs.with_tensors(state, parts, [None] * len(parts))
    call = _Call(_Steps(model), tuple(named), start, tuple(parts), plan)
    outputs, state, *last = _Unroll.apply(call, *given)
    return outputs, costs.with_tensors(state, parts, last)


class _Steps(nn.Module):
    """A model's steps, in the form that `torch.func.functional_call` gives parameters to."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        return self.model.unroll(inputs, state)


class _Call(NamedTuple):
    """What a call consists of, but for its tensors."""

    steps: _Steps
    parameters: tuple[str, ...]
    start: Any  # the state before the first step without its tensors, `parts`
    parts: tuple[str, ...]
    plan: Schedule


class _Tape(NamedTuple):
    """Steps from `start` to `stop` with autograd's graph of them."""

    start: int
    stop: int
    inputs: Tensor
    first: list[Tensor]  # the parts of the state before them, leaves of the graph
    outputs: Tensor
    last: Any  # the state after them


class _Gap(NamedTuple):
    """Steps from `start` to `stop`, to be made again from the state before them."""

    start: int
    stop: int
    state: Any
    budget: int  # in units of the plan


class _Run:
    """The way ahead and back of one call.

    inputs, state, parameters: the tensors of the call, of which those that `needs` names in that
    order get a gradient.
    """

    def __init__(self, call: _Call, needs: Sequence[bool], given: Sequence[Tensor]) -> None:
        self.call, self.needs = call, needs
        inputs, *rest = (part.detach() for part in given)
        count = len(call.parts)
        self.inputs, state, parameters = inputs, rest[:count], rest[count:]
        for parameter, needed in zip(parameters, needs[1 + count :], strict=True):
            parameter.requires_grad_(needed)
        self.parameters = dict(zip(call.parameters, parameters, strict=True))
        self.to_inputs = torch.zeros_like(inputs) if needs[0] else None
        start = costs.with_tensors(call.start, call.parts, state)
        self.whole = _Gap(0, len(inputs), start, call.plan.units.budget)
        self.kept: list[_Tape | _Gap] = []

    def go_ahead(self, gap: _Gap) -> tuple[list[Tensor], Any]:
        """Make the steps of a gap; returns their outputs [n, B, O], ..., and the state after them,
        with the graph of the last steps, which are always taped."""
        start, state, outputs = gap.start, gap.state, []
        for stretch in self.call.plan.stretches(gap.stop - gap.start, gap.budget):
            stop = start + stretch.steps
            if stretch.taped:
                tape = self._tape(start, stop, state.detach())
                self.kept.append(tape)
                outputs.append(tape.outputs.detach())
                state = tape.last
            else:
                state = state.detach()
                self.kept.append(_Gap(start, stop, state, stretch.budget))
                for piece in self.inputs[start:stop].split(STEPS_AT_ONCE):
                    output, state = self._steps(piece, state)
                    outputs.append(output)
            start = stop
        return outputs, state

    def go_back(self, to_outputs: Tensor | None, to_state: list[Tensor | None]) -> list[Any]:
        """The gradients of all that was given, from those of the outputs and of the last state."""
        while self.kept:
            last = self.kept.pop()
            if isinstance(last, _Gap):
                self.go_ahead(last)
            else:
                to_state = self._back_over(last, to_outputs, to_state)
        return [self.to_inputs, *to_state, *(part.grad for part in self.parameters.values())]

    def _steps(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        named = {f"model.{name}": part for name, part in self.parameters.items()}
        return torch.func.functional_call(self.call.steps, named, (inputs, state))

    def _tape(self, start: int, stop: int, state: Any) -> _Tape:
        inputs = self.inputs[start:stop].detach().requires_grad_(self.to_inputs is not None)
        first = [part.detach() for part in costs.tensors(state).values()]
        for part, needed in zip(first, self.needs[1:], strict=False):
            part.requires_grad_(part.is_floating_point() and (needed or start > 0))
        with torch.enable_grad():
            state = costs.with_tensors(state, self.call.parts, first)
            outputs, last = self._steps(inputs, state)
        return _Tape(start, stop, inputs, first, outputs, last)

    def _back_over(
        self, tape: _Tape, to_outputs: Tensor | None, to_state: list[Tensor | None]
    ) -> list[Tensor | None]:
        """The gradient of the state before a tape; the others' are added up where they belong."""
        known = list(zip(costs.tensors(tape.last).values(), to_state, strict=True))
        if to_outputs is not None:
            known.append((tape.outputs, to_outputs[tape.start : tape.stop]))
        known = [pair for pair in known if pair[0].requires_grad and pair[1] is not None]
        leaves = [tape.inputs, *tape.first, *self.parameters.values()]
        if known:
            torch.autograd.backward(
                [end for end, _ in known],
                [gradient for _, gradient in known],
                inputs=[leaf for leaf in leaves if leaf.requires_grad],
            )
        if self.to_inputs is not None and tape.inputs.grad is not None:
            self.to_inputs[tape.start : tape.stop] = tape.inputs.grad
        return [part.grad for part in tape.first]


class _Unroll(torch.autograd.Function):
    """Takes the call, its inputs, the parts of its state, its parameters; returns the outputs and
    the parts of the last state."""

    @staticmethod
    def forward(ctx: Any, call: _Call, *given: Tensor) -> tuple[Tensor, ...]:
        ctx.call = call
        ctx.save_for_backward(*given)
        ctx.set_materialize_grads(False)
        ctx.run = _Run(call, ctx.needs_input_grad[1:], given)
        before = _moods(call.steps, given[0].device)
        outputs, state = ctx.run.go_ahead(ctx.run.whole)
        if _moods(call.steps, given[0].device) != before:
            raise ValueError(
                "checkpoint: got 'dp' with layers that draw random numbers or change their "
                "buffers, expected None: steps that are made again would come out otherwise"
            )
        taped, last = costs.tensors(state), costs.tensors(state.detach())
        ctx.mark_non_differentiable(
            *(last[name] for name, end in taped.items() if not end.requires_grad)
        )
        bare = costs.with_tensors(state, last, [None] * len(last))
        return torch.cat(outputs), bare, *last.values()

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, to_outputs: Tensor | None, _: None, *to_state: Tensor | None
    ) -> tuple[Any, ...]:
        given = ctx.saved_tensors  # raises where they have been freed, or changed in place
        run, ctx.run = ctx.run, None  # a second pass, over a retained graph, starts from the inputs
        if run is None:
            run = _Run(ctx.call, ctx.needs_input_grad[1:], given)
            run.go_ahead(run.whole)
        return None, *run.go_back(to_outputs, list(to_state))


def _moods(steps: _Steps, device: torch.device) -> tuple[Any, ...]:
    """What makes the same step with the same parameters come out otherwise, as it stands now."""
    generators = [torch.get_rng_state()]
    if device.type == "cuda":
        generators.append(torch.cuda.get_rng_state(device))
    numbers = (bytes(state.numpy()) for state in generators)
    return *numbers, *(buffer._version for buffer in steps.buffers())
