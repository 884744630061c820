"""The time loop of SAM as one `torch.autograd.Function`: O(1) memory per step, no graph inside.

What needs no recurrence (the projections of the inputs and to the outputs) stays outside, in
ordinary torch. Inside, a step is two matrix products, the LSTM's gates, and the sparse access to
the memory; the backward pass rolls the memory back step by step (Rae et al. 2016, section 3.4).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sam.sparse import lstm
from sam.sparse.access import AccessGradient, Settings, access
from sam.sparse.journal import Journal
from sam.sparse.store import Version
from sam.sparse.tape import Tape, Views


def run(
    projected: Tensor,
    weights: tuple[Tensor, Tensor, Tensor],
    tape: Tape,
    version: Version,
    settings: Settings,
) -> tuple[Journal, Version]:
    """Make T steps from `version` on, filling the tape; returns their journal, the version after.

    projected: [T, B, 4C], the inputs' share of the gates, with the biases. weights: as in
    `Unroll`. After a failure everything stands as if the steps had not been tried.
    """
    recurrent, interface, interface_bias = weights
    recurrent, interface = recurrent.t(), interface.t()
    store = version.store
    store.stand_at(version)
    journal = Journal.empty(len(projected), tuple(tape.read_slots.shape[1:]), store.memory)
    views = Views(tape)
    outputs, projections = tape.outputs.unbind(), tape.interface.flatten(2).unbind()
    controller = lstm.Steps(tape.gates, tape.cells, tape.outputs)
    try:
        for t, inputs in enumerate(projected.unbind()):
            torch.addmm(inputs, outputs[t], recurrent, out=controller.gates[t])
            hidden = controller.step(t)
            torch.addmm(interface_bias, hidden, interface, out=projections[t])
            access(store, views, journal, t, settings)
    except BaseException:
        store.abandon(journal)
        raise
    return journal, store.advance(journal)


class Unroll(torch.autograd.Function):
    """(outputs [T, B, C + H W], then output, cell, read weights and token at T, the tape's slots
    at T, the version at T) from

    projected [T, B, 4C]; recurrent [4C, C + H W], the weights from [h, r] to the gates; interface
    [H P, C] and its bias; output, cell, read_weights and read_slots at 0 as in `Tape`; token, a
    tensor threaded through the passes so that autograd goes back through them in order, while
    the gradient of the memory goes from version to version.
    """

    @staticmethod
    def forward(
        ctx: Any,
        projected: Tensor,
        recurrent: Tensor,
        interface: Tensor,
        interface_bias: Tensor,
        output: Tensor,
        cell: Tensor,
        read_weights: Tensor,
        token: Tensor,
        read_slots: Tensor,
        version: Version,
        settings: Settings,
    ) -> tuple[Any, ...]:
        state = (output, cell, read_slots, read_weights)
        tape = Tape.start(len(projected), len(interface_bias), state)
        weights = (recurrent, interface, interface_bias)
        journal, after = run(projected, weights, tape, version, settings)
        ctx.save_for_backward(recurrent, interface, *tape.tensors())
        ctx.journal, ctx.before, ctx.after, ctx.settings = journal, version, after, settings
        slots = tape.read_slots[-1].clone()
        ctx.mark_non_differentiable(slots)
        last = (part[-1].clone() for part in (tape.outputs, tape.cells, tape.read_weights))
        return tape.outputs[1:], *last, torch.zeros_like(token), slots, after

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,
        outputs_gradient: Tensor,
        output_gradient: Tensor,
        cell_gradient: Tensor,
        weights_gradient: Tensor,
        token_gradient: Tensor,
        *_: Any,
    ) -> tuple[Tensor | None, ...]:
        recurrent, interface, *tape_tensors = ctx.saved_tensors
        tape = Tape(*tape_tensors)
        store = ctx.after.store
        outputs_gradient = outputs_gradient.clone(memory_format=torch.contiguous_format)
        outputs_gradient[-1] += output_gradient
        memory = AccessGradient(
            store.memory,
            Views(tape),
            ctx.journal,
            ctx.settings,
            weights_gradient.clone(memory_format=torch.contiguous_format).numpy(),
            store.begin_backward(ctx.after),
        )
        controller = lstm.StepsGradient(tape.gates, tape.cells, cell_gradient, outputs_gradient)
        interface_gradient = torch.from_numpy(memory.interface).flatten(2)
        words_gradient = outputs_gradient[:, :, tape.cells.shape[2] :].numpy()
        try:
            for t in reversed(range(len(outputs_gradient))):
                memory.step_back(words_gradient[t])
                controller.hidden[t].addmm_(interface_gradient[t], interface)
                gates_gradient = controller.step_back(t)
                if t > 0:
                    outputs_gradient[t - 1].addmm_(gates_gradient, recurrent)
        except BaseException:
            memory.give_up()
            raise
        store.end_backward(ctx.before, memory.memory_gradient if ctx.needs_input_grad[7] else None)

        hiddens = tape.outputs[1:, :, : tape.cells.shape[2]]
        return (
            controller.gates,
            controller.gates.flatten(0, 1).t() @ tape.outputs[:-1].flatten(0, 1),
            interface_gradient.flatten(0, 1).t() @ hiddens.flatten(0, 1),
            interface_gradient.sum((0, 1)),
            controller.gates[0] @ recurrent,
            controller.cell,
            torch.from_numpy(memory.weights),
            torch.zeros_like(token_gradient),
            None,
            None,
            None,
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
