"""Traces: what a model, as it trains, asks of its index."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sam import checks, files
from sam.model import RecurrentModel
from sam.sam import SAM
from sam.sparse.record import Recorder


@contextlib.contextmanager
def record_trace(
    model: RecurrentModel,
    path: str | os.PathLike[str],
    *,
    max_steps: int | None = None,
    memories: int | None = None,
    info: dict[str, Any] | None = None,
) -> Iterator[Recorder]:
    """Record every step that `model` makes inside the block, for `ann_backends.replay`.

    >>> with sam.record_trace(model, "copy.npz", max_steps=2000, info={"task": "copy"}):
    ...     train(model)

    model: one with an index. path: where the block's end writes an `ann_backends.Trace`, in place
    of what stood there; a block left by an exception writes nothing and leaves what stood there.
    max_steps: T at most; the model goes on unrecorded after them. None: no end. memories: B at
    most, the first of the batch. None: all. info: JSON values
    under string keys, kept in the trace: the task, the training stage, the seed.

    The block's value counts: `num_steps` recorded so far, `is_full` when there will be no more.
    Until the block ends they lie in memory: H (K + 2) W numbers per step and memory element and,
    where a pass starts from another state than the last one ended in, the written rows of that
    state. A state that is carried on costs nothing.

    All steps have one batch size and dtype, or the model's call raises ValueError. A model that
    is being recorded already, a block without a step, or bad arguments raise ValueError or
    TypeError; FileNotFoundError where the folder of `path` does not exist.
    """
    if not isinstance(model, SAM):
        raise TypeError(f"model: got {type(model).__name__}, expected a SAM, which has an index")
    if model.recorder is not None:
        raise ValueError("model: got one that is being recorded, expected one block at a time")
    limits = {"max_steps": max_steps, "memories": memories}
    checks.positive_sizes(**{name: size for name, size in limits.items() if size is not None})
    info = _json_values({} if info is None else info)
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path: got {path}, whose folder does not exist")
    recorder = model.recorder = Recorder(max_steps, memories)
    try:
        yield recorder
    finally:
        model.recorder = None
    if recorder.num_steps == 0:
        raise ValueError("model: made no step inside the block, expected at least one to write")
    with files.replacing(path) as file:
        recorder.trace(model.memory_size, model.k, model.similarity, info).write(file)


def _json_values(info: dict[str, Any]) -> dict[str, Any]:
    """A copy of `info` as the file will give it back: told now, not after the training."""
    try:
        copied = json.loads(json.dumps(info, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise TypeError(f"info: got {info!r}, expected a dict of JSON values ({error})") from error
    if not isinstance(copied, dict):
        raise TypeError(f"info: got {info!r}, expected a dict of JSON values")
    return copied
