"""The time loop of SAM as one `torch.autograd.Function`: O(1) memory per step, no graph inside.

A step is three matrix products, the LSTM's gates, and the sparse access to the memory; the inputs
are projected for all steps at once, and so are the gradients of the weights. The backward pass
rolls the memory back step by step (Rae et al. 2016, section 3.4).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sam.autograd import once_differentiable_in_numpy
from sam.sparse import lstm
from sam.sparse.access import AccessGradient, Settings, access
from sam.sparse.gradient import SparseGradient
from sam.sparse.journal import Journal
from sam.sparse.record import Recorder
from sam.sparse.store import Store, Version
from sam.sparse.tape import Accesses, Tape

STEPS_VIEWED = 32  # views made ahead; each takes as much memory as some words


class Weights(NamedTuple):
    """Of the controller [4C, I + H W], [4C, C], [4C] twice; of the interface [H P, C], [H P].

    The controller's inputs are [x_t, r_{t-1}].
    """

    inputs: Tensor
    hidden: Tensor
    input_bias: Tensor
    hidden_bias: Tensor
    interface: Tensor
    interface_bias: Tensor


class Projections(NamedTuple):
    """The weights as the steps use them: x_t and [h_{t-1}, r_{t-1}] to gates, h_t to p_t."""

    from_inputs: Tensor  # [I, 4C]
    from_state: Tensor  # [C + H W, 4C]
    bias: Tensor  # [4C]
    interface: Tensor  # [C, H P]
    interface_bias: Tensor  # [H P]

    @classmethod
    def of(cls, weights: Weights, input_size: int) -> Projections:
        from_inputs, from_words = weights.inputs[:, :input_size], weights.inputs[:, input_size:]
        return cls(
            from_inputs.t(),
            torch.cat([weights.hidden, from_words], dim=1).t(),
            weights.input_bias + weights.hidden_bias,
            weights.interface.t(),
            weights.interface_bias,
        )


def run(
    inputs: Tensor, weights: Weights, tape: Tape, store: Store, settings: Settings
) -> tuple[Journal, Version]:
    """Make T steps of the store, filling the tape; returns their journal, the version after.

    inputs: [T, B, I]. After a failure everything stands as if the steps had not been tried. The
    caller holds the store.
    """
    projections = Projections.of(weights, inputs.shape[2])
    with journal_in(store, len(inputs), tape.read_slots.shape[1:]) as journal:
        make_steps(inputs, projections, tape, partial(access, store, journal, settings))
    return journal, store.advance(journal)


@contextlib.contextmanager
def journal_in(store: Store, num_steps: int, read_shape: Sequence[int]) -> Iterator[Journal]:
    """The journal of the T steps that the block makes, each by `access`.

    read_shape: B, H, K. If the block fails, everything stands as if it had made none. The caller
    holds the store until it has told it to `advance`.
    """
    links = store.links.journal() if store.links is not None else None
    journal = Journal.empty(num_steps, tuple(read_shape), store.memory, links, store.start_log)
    try:
        yield journal
    except BaseException:
        store.index.stop_log()
        store.abandon(journal)
        raise
    store.index.stop_log()


def make_steps(
    inputs: Tensor, weights: Projections, tape: Tape, read: Callable[[Tape, int], None]
) -> None:
    """The controller's steps [T, B, I], filling the tape.

    read: takes the tape and t, whose p_t is known, and activates p_t; then the tape has r_t.
    """
    all_gates, states = torch.from_numpy(tape.gates), torch.from_numpy(tape.outputs)
    torch.addmm(
        weights.bias, inputs.flatten(0, 1), weights.from_inputs, out=all_gates.flatten(0, 1)
    )
    all_heads = torch.from_numpy(tape.interface).flatten(2)
    cells, all_hidden = tape.cells, tape.hidden
    steps = _by_step(states[:-1], states[1:, :, : cells.shape[2]], all_gates, all_heads)
    for t, (before, hidden, gates, heads) in enumerate(steps):
        gates.addmm_(before, weights.from_state)
        lstm.step(tape.gates[t], cells[t], cells[t + 1], all_hidden[t + 1])
        torch.addmm(weights.interface_bias, hidden, weights.interface, out=heads)
        read(tape, t)


def _by_step(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The tensors' parts at each step: a view takes longer to make than to use one by one."""
    for block in zip(*(tensor.split(STEPS_VIEWED) for tensor in tensors), strict=True):
        yield from zip(*(part.unbind() for part in block), strict=True)


def _back_by_step(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """As `_by_step`, from the last step to the first."""
    blocks = zip(*(tensor.split(STEPS_VIEWED) for tensor in tensors), strict=True)
    for block in reversed(list(blocks)):
        yield from reversed(list(zip(*(part.unbind() for part in block), strict=True)))


class Unroll(torch.autograd.Function):
    """T steps of SAM.

    Takes the inputs [T, B, I]; of the state h_0 and c_0 [B, C], r_0 [B, H, W] and the read weights,
    as in `Tape`; its token, a tensor threaded through the passes so that autograd goes back
    through them in order while the gradient of the memory goes from version to version; its read
    slots and version; the settings; who records the pass, if anyone; the `Weights`. Returns the
    outputs [h_t, r_t] of all steps [T, B, C + H W], and of the state at T the parts in the same
    order.
    """

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        hidden: Tensor,
        cell: Tensor,
        read_words: Tensor,
        read_weights: Tensor,
        token: Tensor,
        read_slots: Tensor,
        version: Version,
        settings: Settings,
        recorder: Recorder | None,
        *weights: Tensor,
    ) -> tuple[Any, ...]:
        parameters = Weights(*weights)
        accesses = Accesses.start(
            len(inputs), settings.num_modes, read_slots.numpy(), read_weights.numpy()
        )
        words = read_words.flatten(1)
        first = hidden.numpy(), cell.numpy(), words.numpy()
        tape = Tape.over(accesses, len(parameters.interface_bias), *first)
        with version.store.standing_at(version) as store:
            journal, after = run(inputs, parameters, tape, store, settings)
            if recorder is not None:
                queries = tape.interface[..., : settings.word_size]
                recorder.record(queries, journal, version, after)
        kept = [torch.from_numpy(part) for part in tape.arrays()]
        ctx.save_for_backward(inputs, *weights, *kept)
        ctx.journal, ctx.before, ctx.after, ctx.settings = journal, version, after, settings
        ctx.set_materialize_grads(False)
        last = (
            tape.hidden[-1],
            tape.cells[-1],
            tape.words[-1].reshape(read_words.shape),
            tape.read_weights[-1],
            tape.read_slots[-1],
        )
        # Copies, so that the state does not hold the tape.
        *parts, last_slots = (torch.from_numpy(part.copy()) for part in last)
        ctx.mark_non_differentiable(last_slots)
        # A view of what is saved, so that autograd notices if it is changed.
        return kept[-1][1:], *parts, torch.zeros_like(token), last_slots, after

    @staticmethod
    @once_differentiable_in_numpy
    def backward(
        ctx: Any, outputs: Tensor | None, *state: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        """Each argument is the gradient of what `forward` returned in its place, None for zero."""
        inputs, *saved = ctx.saved_tensors
        count = len(Weights._fields)
        weights = Weights(*saved[:count])
        tape = Tape(*(part.numpy() for part in saved[count:]))
        store = ctx.after.store
        with store.held():
            to_memory = store.begin_backward(ctx.after)
            gradient = StepsGradient(
                weights, tape, ctx.journal, ctx.settings, state[:4], store.memory, to_memory
            )
            with store.rolling_back_to(ctx.before, gradient.memory.give_up):
                to_memory = gradient.run(outputs)
            if ctx.needs_input_grad[5]:
                store.add_gradient(ctx.before, to_memory)
        del to_memory
        to_inputs = None
        if ctx.needs_input_grad[0]:
            to_inputs = torch.from_numpy(gradient.lstm.gates) @ weights.inputs[:, : inputs.shape[2]]
        to_state = gradient.state
        to_weights = gradient.of_weights(inputs)
        return to_inputs, *to_state, weights.inputs.new_zeros(1), *[None] * 4, *to_weights


Parts = Sequence[Tensor | None]  # dL/dh_t, dL/dc_t [B, C], dL/dr_t [B, H, W], dL/dw^R_t; None: zero


class StepsGradient:
    """The way back through the steps of a tape.

    lstm, memory: the gradients of the controller and of the access.
    """

    def __init__(
        self,
        weights: Weights,
        tape: Tape,
        journal: Journal,
        settings: Settings,
        state: Parts,
        memory: np.ndarray,
        memory_gradient: SparseGradient,
    ) -> None:
        """journal: of the tape's steps. state: the gradient of the state at T, as far as what comes
        after the tape knows it. memory, memory_gradient: M_T and dL/dM_T, taken over."""
        self.weights, self.tape = weights, tape
        # dL/d[h, r] of the step that was reached, as far as it is known, and its two parts
        self._output = np.zeros_like(tape.outputs[-1])
        cell, read_weights = np.zeros_like(tape.cells[-1]), np.zeros_like(tape.read_weights[-1])
        self._hidden, self._words = np.split(self._output, cell.shape[1:], axis=1)
        words = self._words.reshape(*read_weights.shape[:2], -1)
        for own, part in zip((self._hidden, cell, words, read_weights), state, strict=True):
            if part is not None:
                own[:] = part.numpy()
        self.lstm = lstm.StepsGradient(tape.gates, tape.cells, cell)
        self.memory = AccessGradient(memory, tape, journal, settings, read_weights, memory_gradient)

    def run(self, outputs: Tensor | None) -> SparseGradient:
        """Go back over all steps; returns dL/dM before them, where the memory then stands.

        outputs: [T, B, C + H W], dL/d[h_t, r_t] from outside, None for zero. After a failure
        `memory.give_up` puts the memory back to where it stood.
        """
        # Not joined as in `run`: memory is at its tightest here.
        to_hidden, to_words = self.weights.hidden, self.weights.inputs[:, -self._words.shape[1] :]
        output, hidden, words = map(torch.from_numpy, (self._output, self._hidden, self._words))
        interface = torch.from_numpy(self.memory.interface).flatten(2)
        steps = _back_by_step(interface, torch.from_numpy(self.lstm.gates))
        from_outside = repeat((None,)) if outputs is None else _back_by_step(outputs)
        for t in reversed(range(len(interface))):
            (heads, gates), (outside,) = next(steps), next(from_outside)
            if outside is not None:
                output += outside
            self.memory.step_back(self._words)
            hidden.addmm_(heads, self.weights.interface)
            self.lstm.step_back(t, self._hidden)
            torch.mm(gates, to_hidden, out=hidden)
            torch.mm(gates, to_words, out=words)
        return self.memory.release_gradient()

    @property
    def state(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The gradient of the state that was reached, in the order of `Parts`."""
        hidden, cell = torch.from_numpy(self._hidden), torch.from_numpy(self.lstm.cell)
        read_weights = torch.from_numpy(self.memory.weights)
        words = torch.from_numpy(self._words).unflatten(1, (read_weights.shape[1], -1))
        return hidden, cell, words, read_weights

    def of_weights(self, inputs: Tensor) -> Weights:
        """dL/d of the weights, once all steps have been gone back over."""
        size = self.lstm.cell.shape[1]
        interface = torch.from_numpy(self.memory.interface).flatten(2).flatten(0, 1)
        outputs = torch.from_numpy(self.tape.outputs)
        hidden = outputs[1:].flatten(0, 1)[:, :size]
        to_interface, to_interface_bias = interface.t() @ hidden, interface.sum(0)
        gates = torch.from_numpy(self.lstm.gates).flatten(0, 1)
        before = outputs[:-1].flatten(0, 1)
        # Memory peaks here: what the rest can do without is given up first.
        del self.memory, self.lstm, interface
        # Joined, as a matrix product is slow where it has few columns.
        controller_inputs = torch.cat([inputs.flatten(0, 1), before[:, size:]], dim=1)
        bias = gates.sum(0)
        return Weights(
            gates.t() @ controller_inputs,
            gates.t() @ before[:, :size],
            bias,
            bias.clone(),
            to_interface,
            to_interface_bias,
        )
