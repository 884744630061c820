"""The time loop of SAM under a memory budget: what the controller computed is made again.

Of every step stay its journal, where it read and wrote and with what weights, and the words it
read, a (K + 1)-th of the journal's rows. With those the controller runs again by itself: no
memory, index or link is asked a second time. What it computes, most of a step's tape, is kept for
as many steps as the budget holds (`sam.recompute.schedule`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sam.autograd import once_differentiable_in_numpy
from sam.recompute.costs import TENSOR_BYTES, Costs
from sam.recompute.schedule import Schedule
from sam.sparse.access import AccessGradient, Settings, access, recall
from sam.sparse.gradient import SparseGradient
from sam.sparse.journal import Journal
from sam.sparse.record import Recorder
from sam.sparse.store import Store, Version
from sam.sparse.tape import Accesses, Tape
from sam.sparse.unroll import Parts, Projections, StepsGradient, Weights, journal_in, make_steps

# Steps that are not taped are made so many at a time, or fewer where the budget is short.
STEPS_AT_ONCE = 32


def costs_of(batch_size: int, sizes: tuple[int, int, int], reads: int, number: int) -> Costs:
    """What a state of the controller takes, and a step of its tape with the gradient of each part.

    sizes: C, H W and H P. reads: H K. number: bytes of one.
    """
    hidden, words, interface = sizes
    # Gates 4C, [h_t, r_t] and p_t, and the gradient of each; c_t.
    step = (2 * (5 * hidden + words + interface) + hidden) * number
    # Of the slots read, found and erased, int64, where their gradients lie.
    places = 8 * 3 * reads
    return Costs(
        state=batch_size * 2 * hidden * number + 2 * TENSOR_BYTES, step=batch_size * (step + places)
    )


class _Controller(NamedTuple):
    """What a step of the controller needs of the steps before it, but for the words read."""

    hidden: np.ndarray  # [B, C], h_t
    cell: np.ndarray  # [B, C], c_t


class _Taped(NamedTuple):
    """Steps from `start` to `stop` with what their gradient needs."""

    start: int
    stop: int
    tape: Tape


class _Gap(NamedTuple):
    """Steps from `start` to `stop`, to be made again from the state before them."""

    start: int
    stop: int
    state: _Controller
    budget: int  # in units of the plan


Make = Callable[[int, int, _Controller], Tape]  # the steps from one to another, from a state


class _Pass:
    """T steps, the way ahead and what of it is kept for the way back.

    inputs: [T, B, I]. words: [T + 1, B, H W], r_t, and accesses: of all steps; as far as they have
    been made.
    """

    def __init__(
        self,
        plan: Schedule,
        inputs: Tensor,
        weights: Weights,
        words: np.ndarray,
        accesses: Accesses,
        settings: Settings,
    ) -> None:
        self.plan, self.inputs, self.weights = plan, inputs, weights
        self.projections = Projections.of(weights, inputs.shape[2])
        self.words, self.accesses, self.settings = words, accesses, settings
        self.kept: list[_Taped | _Gap] = []

    def go_over_all(self, start: _Controller, make: Make) -> _Controller:
        return self.go_ahead(_Gap(0, len(self.inputs), start, self.plan.units.budget), make)

    def go_ahead(self, gap: _Gap, make: Make) -> _Controller:
        """Make the steps of a gap, of which the last are always taped; returns the state then."""
        start, state = gap.start, gap.state
        for stretch in self.plan.stretches(gap.stop - gap.start, gap.budget):
            stop = start + stretch.steps
            if stretch.taped:
                tape = make(start, stop, state)
                self.kept.append(_Taped(start, stop, tape))
                state = _after(tape)
            else:
                self.kept.append(_Gap(start, stop, state, stretch.budget))
                # In what is left for the steps behind these, one at the least.
                room = (stretch.budget - self.plan.units.state) // self.plan.units.step
                at_once = min(STEPS_AT_ONCE, room)
                for first in range(start, stop, at_once):
                    state = _after(make(first, min(first + at_once, stop), state))
            start = stop
        return state

    def make_first(
        self, store: Store, journal: Journal, start: int, stop: int, state: _Controller
    ) -> Tape:
        """Make steps for the first time, which takes the store ahead and notes their accesses."""
        tape = self._tape(start, stop, state)
        steps = partial(access, store, journal.of_steps(start, stop), self.settings, first=start)
        make_steps(self.inputs[start:stop], self.projections, tape, steps)
        self.words[start + 1 : stop + 1] = tape.words[1:]
        return tape

    def make_again(self, start: int, stop: int, state: _Controller) -> Tape:
        """Make steps whose accesses are known."""
        tape = self._tape(start, stop, state)
        tape.words[1:] = self.words[start + 1 : stop + 1]
        steps = partial(recall, self.settings)
        make_steps(self.inputs[start:stop], self.projections, tape, steps)
        return tape

    def _tape(self, start: int, stop: int, state: _Controller) -> Tape:
        accesses = self.accesses.of_steps(start, stop)
        return Tape.over(accesses, len(self.weights.interface_bias), *state, self.words[start])


def _after(tape: Tape) -> _Controller:
    """The state after a tape, which it does not keep alive."""
    return _Controller(tape.hidden[-1].copy(), tape.cells[-1].copy())


class Call(NamedTuple):
    """What a pass consists of beside tensors."""

    version: Version
    settings: Settings
    recorder: Recorder | None
    plan: Schedule


class UnrollByPlan(torch.autograd.Function):
    """`Unroll` and the model's output layer, by a plan.

    Takes the call, the inputs [T, B, I], the state's parts as `Unroll` does, the output layer's
    weight and bias, the `Weights`. Returns y_t of all steps [T, B, O], and what `Unroll` does of
    the state at T.
    """

    @staticmethod
    def forward(
        ctx: Any,
        call: Call,
        inputs: Tensor,
        hidden: Tensor,
        cell: Tensor,
        read_words: Tensor,
        read_weights: Tensor,
        token: Tensor,
        read_slots: Tensor,
        to_y: Tensor,
        y_bias: Tensor,
        *weights: Tensor,
    ) -> tuple[Any, ...]:
        num_steps = len(inputs)
        accesses = Accesses.start(
            num_steps, call.settings.num_modes, read_slots.numpy(), read_weights.numpy()
        )
        first_words = read_words.flatten(1).numpy()
        words = np.empty((num_steps + 1, *first_words.shape), first_words.dtype)
        words[0] = first_words
        steps = _Pass(call.plan, inputs, Weights(*weights), words, accesses, call.settings)
        y = inputs.new_empty((*inputs.shape[:2], len(y_bias)))
        queries: list[np.ndarray] = []
        store = call.version.store

        def make(start: int, stop: int, state: _Controller) -> Tape:
            tape = steps.make_first(store, journal, start, stop, state)
            y[start:stop] = functional.linear(torch.from_numpy(tape.outputs[1:]), to_y, y_bias)
            if call.recorder is not None:
                queries.append(tape.interface[..., : call.settings.word_size].copy())
            return tape

        with store.standing_at(call.version):
            with journal_in(store, num_steps, accesses.read_slots.shape[1:]) as journal:
                start = _Controller(hidden.numpy().copy(), cell.numpy().copy())
                end = steps.go_over_all(start, make)
            after = store.advance(journal)
            if call.recorder is not None:
                call.recorder.record(np.concatenate(queries), journal, call.version, after)
        kept = *start, words, *accesses.arrays()
        ctx.save_for_backward(inputs, to_y, *weights, *map(torch.from_numpy, kept))
        ctx.call, ctx.steps, ctx.journal, ctx.after = call, steps, journal, after
        ctx.set_materialize_grads(False)
        last = (
            words[-1].reshape(read_words.shape),
            accesses.read_weights[-1],
            accesses.read_slots[-1],
        )
        parts = *end, *(part.copy() for part in last)
        *tensors, last_slots = map(torch.from_numpy, parts)
        ctx.mark_non_differentiable(last_slots)
        return y, *tensors, torch.zeros_like(token), last_slots, after

    @staticmethod
    @once_differentiable_in_numpy
    def backward(ctx: Any, y: Tensor | None, *state: Tensor | None) -> tuple[Tensor | None, ...]:
        """Each argument is the gradient of what `forward` returned in its place, None for zero."""
        inputs, to_y, *saved = ctx.saved_tensors
        count = len(Weights._fields)
        weights = Weights(*saved[:count])
        hidden, first_cell, words, *rest = (part.numpy() for part in saved[count:])
        call, store = ctx.call, ctx.after.store
        # A second pass, over a retained graph, starts from the first step.
        steps, ctx.steps = ctx.steps, None
        if steps is None:
            steps = _Pass(call.plan, inputs, weights, words, Accesses(*rest), call.settings)
            steps.go_over_all(_Controller(hidden, first_cell), steps.make_again)
        if y is None:
            y = inputs.new_zeros((*inputs.shape[:2], len(to_y)))
        gradient = _Gradient(steps, to_y, state[:4])
        with store.held():
            to_memory = store.begin_backward(ctx.after)
            give_up = partial(gradient.give_up, ctx.journal, store.memory)
            with store.rolling_back_to(call.version, give_up):
                to_memory = gradient.run(y, ctx.journal, store.memory, to_memory)
            if ctx.needs_input_grad[6]:
                store.add_gradient(call.version, to_memory)
        to_call = (None, gradient.inputs, *gradient.state, inputs.new_zeros(1), None)
        return *to_call, gradient.to_y, y.sum((0, 1)), *gradient.weights


class _Gradient:
    """The way back through a pass, tape by tape.

    inputs, to_y, weights: dL/d of them. state: dL/d of the state that was reached.
    """

    def __init__(self, steps: _Pass, to_y: Tensor, state: Parts) -> None:
        self._steps, self._to_y = steps, to_y
        self.inputs = torch.empty_like(steps.inputs)
        self.to_y = torch.zeros_like(to_y)
        self.weights = Weights(*map(torch.zeros_like, steps.weights))
        self.state = state
        self._reached: tuple[int, AccessGradient] | None = None  # the tape's start, its gradient

    def run(
        self, y: Tensor, journal: Journal, memory: np.ndarray, memory_gradient: SparseGradient
    ) -> SparseGradient:
        """Go back over all steps; returns dL/dM before them, where the memory then stands.

        y: [T, B, O], dL/dy_t. journal: of all steps. memory, memory_gradient: M_T and dL/dM_T,
        taken over. After a failure `give_up` puts the memory back to where it stood.
        """
        steps = self._steps
        while steps.kept:
            last = steps.kept.pop()
            if isinstance(last, _Gap):
                steps.go_ahead(last, steps.make_again)
                continue
            own = journal.of_steps(last.start, last.stop)
            gradient = StepsGradient(
                steps.weights, last.tape, own, steps.settings, self.state, memory, memory_gradient
            )
            self._reached = last.start, gradient.memory
            own_y = y[last.start : last.stop]
            memory_gradient = gradient.run(own_y @ self._to_y)
            self._add(last, gradient, own_y)
        return memory_gradient

    def give_up(self, journal: Journal, memory: np.ndarray) -> None:
        """Carry the memory back to where it stood before `run`."""
        if self._reached is not None:
            start, access_gradient = self._reached
            undone = journal.of_steps(start + access_gradient.steps_left, len(journal.slots))
            undone.carry_rows(memory, forward=True)

    def _add(self, taped: _Taped, gradient: StepsGradient, y: Tensor) -> None:
        """Take over what the way back over a tape has found."""
        inputs = self._steps.inputs[taped.start : taped.stop]
        from_inputs = self._steps.weights.inputs[:, : inputs.shape[2]]
        gates = torch.from_numpy(gradient.lstm.gates)
        torch.matmul(gates, from_inputs, out=self.inputs[taped.start : taped.stop])
        self.state = gradient.state
        outputs = torch.from_numpy(taped.tape.outputs)[1:]
        self.to_y += y.flatten(0, 1).t() @ outputs.flatten(0, 1)
        for total, more in zip(self.weights, gradient.of_weights(inputs), strict=True):
            total += more
