"""The time loop of SAM as one `torch.autograd.Function`: O(1) memory per step, no graph inside.

A step is three matrix products, the LSTM's gates, and the sparse access to the memory; the inputs
are projected for all steps at once, and so are the gradients of the weights. The backward pass
rolls the memory back step by step (Rae et al. 2016, section 3.4).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sam.sparse import lstm
from sam.sparse.access import AccessGradient, Settings, access
from sam.sparse.journal import Journal
from sam.sparse.record import Recorder
from sam.sparse.store import Version
from sam.sparse.tape import Tape, Views

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


def run(
    inputs: Tensor, weights: Weights, tape: Tape, version: Version, settings: Settings
) -> tuple[Journal, Version]:
    """Make T steps from `version` on, filling the tape; returns their journal, the version after.

    inputs: [T, B, I]. After a failure everything stands as if the steps had not been tried.
    """
    store = version.store
    store.stand_at(version)
    num_steps, _, input_size = inputs.shape
    size = weights.hidden.shape[1]
    from_inputs = weights.inputs[:, :input_size].t()
    from_state = torch.cat([weights.hidden, weights.inputs[:, input_size:]], dim=1).t()
    interface = weights.interface.t()
    bias = weights.input_bias + weights.hidden_bias
    torch.addmm(bias, inputs.flatten(0, 1), from_inputs, out=tape.gates.flatten(0, 1))
    links = store.links.journal() if store.links is not None else None
    journal = Journal.empty(num_steps, tuple(tape.read_slots.shape[1:]), store.memory, links)
    arrays = Views(tape)
    states, heads_of_all = tape.outputs, tape.interface.flatten(2)
    steps = _by_step(states[:-1], states[1:, :, :size], tape.gates, heads_of_all)
    try:
        for t, (before, hidden, gates, heads) in enumerate(steps):
            gates.addmm_(before, from_state)
            lstm.step(arrays.gates[t], arrays.cells[t], arrays.cells[t + 1], arrays.hidden[t + 1])
            torch.addmm(weights.interface_bias, hidden, interface, out=heads)
            access(store, arrays, journal, t, settings)
    except BaseException:
        store.abandon(journal)
        raise
    if links is not None:
        links.trim()
    return journal, store.advance(journal)


def _by_step(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The tensors' parts at each step: a view takes longer to make than to use one by one."""
    for block in zip(*(tensor.split(STEPS_VIEWED) for tensor in tensors), strict=True):
        yield from zip(*(part.unbind() for part in block), strict=True)


class Unroll(torch.autograd.Function):
    """T steps of SAM.

    Takes the inputs [T, B, I]; the state's output [h_0, r_0] [B, C + H W], cell and read weights,
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
        output: Tensor,
        cell: Tensor,
        read_weights: Tensor,
        token: Tensor,
        read_slots: Tensor,
        version: Version,
        settings: Settings,
        recorder: Recorder | None,
        *weights: Tensor,
    ) -> tuple[Any, ...]:
        parameters = Weights(*weights)
        state = (output, cell, read_slots, read_weights)
        interface_size = len(parameters.interface_bias)
        tape = Tape.start(len(inputs), interface_size, settings.num_modes, state)
        journal, after = run(inputs, parameters, tape, version, settings)
        if recorder is not None:
            queries = tape.interface[..., : settings.word_size]
            recorder.record(queries.numpy(), journal, version, after)
        ctx.save_for_backward(inputs, *weights, *tape.tensors())
        ctx.journal, ctx.before, ctx.after, ctx.settings = journal, version, after, settings
        last_slots = tape.read_slots[-1].clone()
        ctx.mark_non_differentiable(last_slots)
        last = (part[-1].clone() for part in (tape.outputs, tape.cells, tape.read_weights))
        return tape.outputs[1:], *last, torch.zeros_like(token), last_slots, after

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,
        outputs: Tensor,
        output: Tensor,
        cell: Tensor,
        read_weights: Tensor,
        token: Tensor,
        *_: Any,
    ) -> tuple[Tensor | None, ...]:
        """Each argument is the gradient of what `forward` returned in its place."""
        inputs, *saved = ctx.saved_tensors
        count = len(Weights._fields)
        weights, tape = Weights(*saved[:count]), Tape(*saved[count:])
        gradient = _Gradient(ctx, weights, tape, (output, cell, read_weights))
        gradient.run(outputs, keep_memory_gradient=ctx.needs_input_grad[4])
        to_inputs = None
        if ctx.needs_input_grad[0]:
            to_inputs = gradient.lstm.gates @ weights.inputs[:, : inputs.shape[2]]
        to_state = (gradient.output, gradient.lstm.cell, torch.from_numpy(gradient.memory.weights))
        to_weights = gradient.of_weights(inputs)
        return to_inputs, *to_state, torch.zeros_like(token), *[None] * 4, *to_weights


class _Gradient:
    """The way back through the steps of a pass.

    output: [B, C + H W], dL/d[h, r] of the step that was reached, as far as it is known. lstm,
    memory: the gradients of the controller and of the access.
    """

    def __init__(
        self,
        ctx: Any,
        weights: Weights,
        tape: Tape,
        state: tuple[Tensor, Tensor, Tensor],
    ) -> None:
        """state: dL/d[h_T, r_T], dL/dc_T, dL/dw^R_T, as far as later passes know them."""
        output, cell, read_weights = (
            part.clone(memory_format=torch.contiguous_format) for part in state
        )
        self.weights, self.tape, self.before = weights, tape, ctx.before
        self.output = output
        self.lstm = lstm.StepsGradient(tape.gates, tape.cells, cell)
        self.store = ctx.after.store
        self.memory = AccessGradient(
            self.store.memory,
            Views(tape),
            ctx.journal,
            ctx.settings,
            read_weights.numpy(),
            self.store.begin_backward(ctx.after),
        )

    def run(self, outputs: Tensor, *, keep_memory_gradient: bool) -> None:
        """Go back over all steps. outputs: [T, B, C + H W], dL/d[h_t, r_t] from outside."""
        size = self.lstm.cell.shape[1]
        read_size = self.output.shape[1] - size
        # Not joined as in `run`: memory is at its tightest here.
        to_hidden, to_words = self.weights.hidden, self.weights.inputs[:, -read_size:]
        hidden, words = self.output[:, :size], self.output[:, size:]
        hidden_array, words_array = hidden.numpy(), words.numpy()
        interface = torch.from_numpy(self.memory.interface).flatten(2)
        try:
            for t in reversed(range(len(outputs))):
                self.output.add_(outputs[t])
                self.memory.step_back(words_array)
                hidden.addmm_(interface[t], self.weights.interface)
                self.lstm.step_back(t, hidden_array)
                gates = self.lstm.gates[t]
                torch.mm(gates, to_hidden, out=hidden)
                torch.mm(gates, to_words, out=words)
        except BaseException:
            self.memory.give_up()
            raise
        gradient = self.memory.release_gradient()
        self.store.end_backward(self.before, gradient if keep_memory_gradient else None)

    def of_weights(self, inputs: Tensor) -> Weights:
        """dL/d of the weights, once all steps have been gone back over."""
        size, input_size = self.lstm.cell.shape[1], inputs.shape[2]
        interface = torch.from_numpy(self.memory.interface).flatten(2).flatten(0, 1)
        hidden = self.tape.outputs[1:].flatten(0, 1)[:, :size]
        to_interface, to_interface_bias = interface.t() @ hidden, interface.sum(0)
        gates, before = self.lstm.gates.flatten(0, 1), self.tape.outputs[:-1].flatten(0, 1)
        # Memory peaks here: what the rest can do without is given up first.
        del self.memory, self.lstm, interface
        to_inputs = torch.empty_like(self.weights.inputs)
        # This way round, as the matrix product is slow where it has few columns.
        to_inputs[:, :input_size] = (inputs.flatten(0, 1).t() @ gates).t()
        torch.mm(gates.t(), before[:, size:], out=to_inputs[:, input_size:])
        bias = gates.sum(0)
        return Weights(
            to_inputs,
            gates.t() @ before[:, :size],
            bias,
            bias.clone(),
            to_interface,
            to_interface_bias,
        )


class Load(torch.autograd.Function):
    """The token of a state whose memory was given; takes the memory's gradient back to the giver.

    words: [N, W] or [B, N, W], the memory as given. version: that of the store which holds it.
    """

    @staticmethod
    def forward(ctx: Any, words: Tensor, version: Version) -> Tensor:
        ctx.version, ctx.shared = version, words.dim() == 2
        return words.new_zeros(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, token_gradient: Tensor) -> tuple[Tensor, None]:
        gradient = ctx.version.store.begin_backward(ctx.version)
        return torch.from_numpy(gradient.dense(shared=ctx.shared)), None
