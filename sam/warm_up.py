"""Compiling what a model needs before it is needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

import ann_backends
from sam.model import RecurrentModel
from sam.models import MODELS, build
from sam.sam import SAM

# Batch sizes and lengths; arrays of one element or step have types of their own in kernels.
SHAPES = ((1, 1), (2, 3))
WORDS = 64  # of the memory on which an index is tried


def warm_up(model: RecurrentModel | str | None = None, **settings: Any) -> None:
    """Compile the kernels that a model needs, so that its first calls do not wait for that.

    A few steps are run forward and backward, of which nothing remains: neither gradients nor a
    change of the random state. Machine code is kept on disk for processors of this type, so that
    once is enough; the line that says so comes from `ann_backends`' logger.

    >>> sam.warm_up("sam", ann="kd_forest")  # when a container is built, say
    >>> sam.warm_up(model)  # a model in its own sizes and precision

    Args:
        model: a model; the name of one, for its default settings in float32; None for all names.
        **settings: with a name, other settings of the model, as in `sam.build`.

    Raises:
        TypeError: for anything but a model of this package, a name or None, or for settings that
            a model made before cannot take.
        ValueError: for an unknown name.
    """
    if isinstance(model, RecurrentModel):
        if settings:
            raise TypeError(f"settings: got {', '.join(settings)} beside a model, expected none")
        _run(model)
        return
    if not isinstance(model, str | None):
        raise TypeError(f"model: got {type(model).__name__}, expected a model, a name or None")
    if model is None and settings:
        raise TypeError(f"settings: got {', '.join(settings)} without a model's name")
    for name in MODELS if model is None else [model]:
        with torch.random.fork_rng(devices=[]):
            _run(build(name, **{"input_size": 2, "output_size": 2} | settings))


def _run(model: RecurrentModel) -> None:
    if not isinstance(model, SAM):
        return  # dense models are made of torch's operators
    parameters = [each for each in model.parameters() if each.requires_grad]
    like = next(model.parameters())
    with torch.random.fork_rng(devices=[]):
        for batch_size, num_steps in SHAPES:
            layout = (batch_size, num_steps) if model.batch_first else (num_steps, batch_size)
            inputs = torch.zeros(*layout, model.input_size, dtype=like.dtype, device=like.device)
            start = model.initial_state(batch_size)
            later = _pass(model, inputs, start, parameters)
            _pass(model, inputs.requires_grad_(), start, parameters)  # back to the start
            with torch.no_grad():
                model(inputs, later)  # and on to where it was
    _try_index(model.ann, model.word_size, model.similarity, like)


def _pass(model: RecurrentModel, inputs: Tensor, state: Any, parameters: Sequence[Tensor]) -> Any:
    """Two forward passes, one from the state of the other, and the backward pass of both."""
    with torch.enable_grad():
        first, state = model(inputs, state)
        second, state = model(inputs, state)
        sources = [*parameters, *([inputs] if inputs.requires_grad else [])]
        if sources:
            torch.autograd.grad(first.sum() + second.sum(), sources, allow_unused=True)
    return state.detach()


def _try_index(ann: ann_backends.Settings, word_size: int, metric: str, like: Tensor) -> None:
    """All that an index is asked for over a full memory."""
    cpu: dict[str, Any] = {"device": "cpu"}  # whatever the default is
    words = torch.linspace(-1, 1, WORDS * word_size, dtype=like.dtype, **cpu)
    words = words.reshape(1, WORDS, word_size)
    index = ann_backends.create(ann, memory=words, metric=metric)
    slots = torch.arange(2, **cpu)[None]
    index.search(words[:, :2].contiguous(), 2)
    index.remove(slots)
    index.update(slots)
    index.rebuild()
    index.reset()
