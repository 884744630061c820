"""One step of the access to a sparse memory as a `torch.autograd.Function`.

For steps whose parameters p_t come from layers that are called one by one. The steps of a whole
pass in one Function (`unroll`) cost less.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from sam.autograd import once_differentiable_in_numpy
from sam.sparse.access import AccessGradient, Settings, access
from sam.sparse.record import Recorder
from sam.sparse.store import Version
from sam.sparse.tape import Accesses, Tape
from sam.sparse.unroll import journal_in


class Step(torch.autograd.Function):
    """Write and read as the heads' parameters say.

    Takes those, p_t [B, H, P]; of the state before the step the read weights [B, H, K], the token
    that orders the steps for autograd, the read slots [B, H, K] and the version of the store; the
    settings; who records the step, if anyone. Returns the words read, r_t [B, H, W], and of the
    state after it the parts in the same order. After a failure all stands as it stood.
    """

    @staticmethod
    def forward(
        ctx: Any,
        interface: Tensor,
        read_weights: Tensor,
        token: Tensor,
        read_slots: Tensor,
        version: Version,
        settings: Settings,
        recorder: Recorder | None,
    ) -> tuple[Any, ...]:
        given = interface.resolve_neg().numpy(), read_slots.numpy(), read_weights.numpy()
        tape = _tape(*given, settings)
        with version.store.standing_at(version) as store:
            with journal_in(store, 1, read_slots.shape) as journal:
                access(store, journal, settings, tape, 0, first=None)
            after = store.advance(journal)
            if recorder is not None:
                recorder.record(tape.interface[..., : settings.word_size], journal, version, after)
        ctx.save_for_backward(*map(torch.from_numpy, tape.arrays()))
        ctx.journal, ctx.before, ctx.after, ctx.settings = journal, version, after, settings
        ctx.set_materialize_grads(False)
        words = tape.words[1].reshape(*read_slots.shape[:2], settings.word_size)
        last = words, tape.read_weights[1], tape.read_slots[1]
        # Copies, so that the state does not hold the tape.
        words, weights, slots = (torch.from_numpy(part.copy()) for part in last)
        ctx.mark_non_differentiable(slots)
        return words, weights, torch.zeros_like(token), slots, after

    @staticmethod
    @once_differentiable_in_numpy
    def backward(
        ctx: Any, to_words: Tensor | None, to_weights: Tensor | None, *_: Any
    ) -> tuple[Tensor | None, ...]:
        """Each argument is the gradient of what `forward` returned in its place, None for zero."""
        tape = Tape(*(part.numpy() for part in ctx.saved_tensors))
        weights = np.zeros_like(tape.read_weights[1])
        words = np.zeros_like(tape.outputs[1])[:, NO_CONTROLLER:]
        if to_weights is not None:
            weights[:] = to_weights.numpy()
        if to_words is not None:
            words[:] = to_words.flatten(1).numpy()
        store = ctx.after.store
        with store.held():
            memory_gradient = store.begin_backward(ctx.after)
            gradient = AccessGradient(
                store.memory, tape, ctx.journal, ctx.settings, weights, memory_gradient
            )
            with store.rolling_back_to(ctx.before, gradient.give_up):
                gradient.step_back(words)
            if ctx.needs_input_grad[2]:
                store.add_gradient(ctx.before, gradient.release_gradient())
        to_interface, to_weights = map(torch.from_numpy, (gradient.interface[0], gradient.weights))
        return to_interface, to_weights, to_weights.new_zeros(1), *[None] * 4


# A tape's controller of one unit, which nothing uses: words beside it lie in memory as those of a
# whole pass do, for which the kernels have been compiled.
NO_CONTROLLER = 1


def _tape(
    interface: np.ndarray, read_slots: np.ndarray, read_weights: np.ndarray, settings: Settings
) -> Tape:
    """Of one step from these reads on, with its p_t."""
    batch_size, num_heads, head_size = interface.shape
    words = np.zeros((batch_size, num_heads * settings.word_size), interface.dtype)
    unit = np.zeros((batch_size, NO_CONTROLLER), interface.dtype)
    accesses = Accesses.start(1, settings.num_modes, read_slots, read_weights)
    tape = Tape.over(accesses, num_heads * head_size, unit, unit, words)
    tape.interface[0] = interface
    return tape
