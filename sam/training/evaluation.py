"""How well a trained model does on sequences that it was not trained on."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sam.model import MemoryModel, RecurrentModel
from sam.tasks import Episode, Task
from sam.training.folder import RunFolder
from sam.training.settings import SEEDS, RunSettings, check_seed
from sam.training.trainer import Trainer, check_same_run

HELD_OUT_SEED = SEEDS  # no run has such a seed


def evaluate(
    model: RecurrentModel,
    task: Task,
    level: int,
    *,
    split: str | None = None,
    sequences: int = 256,
    batch_size: int = 64,
    seed: int = 0,
) -> dict[str, Any]:
    """Means over held-out sequences of one level, which may be beyond those trained on.

    loss (nats per target), cost (bits per sequence), errors (the task's unit), scored (the most
    that errors could be), chance (the cost of guessing), and what the task's `breakdown` adds.
    split: one of the task's, by default its last. sequences: so many, or all that the split has.
    """
    check_seed(seed)
    generator = torch.Generator().manual_seed(HELD_OUT_SEED + seed)
    split = split or task.splits[-1]
    sums, seen = dict[str, Any](), 0
    trains = model.training
    model.eval()
    try:
        for episode in task.held_out(split, level, sequences, batch_size, generator):
            for name, part in _measured(model, task, episode).items():
                sums[name] = sums.get(name, 0.0) + part.sum(0)
            seen += episode.inputs.shape[1]
    finally:
        model.train(trains)
    return {
        "split": split,
        "sequences": seen,
        **{name: (total / seen).tolist() for name, total in sums.items()},
        "chance": task.chance(level),
    }


@torch.no_grad()
def _measured(model: RecurrentModel, task: Task, episode: Episode) -> dict[str, Tensor]:
    """Of each sequence, float64 [B, ...]; the loss is that of all."""
    outputs, _ = model(episode.inputs)
    loss = task.loss(outputs, episode).double()
    return {
        "loss": loss.expand(episode.inputs.shape[1]),
        "cost": task.cost(outputs, episode),
        "errors": task.errors(outputs, episode),
        "scored": task.scored(episode),
        **task.breakdown(outputs, episode),
    }


def without_reads(model: MemoryModel) -> MemoryModel:
    """The same model, to whose controller and output the words read contribute nothing.

    What it still gets right, it does without its memory.
    """
    blind = copy.deepcopy(model)
    with torch.no_grad():
        blind.controller.weight_ih[:, blind.input_size :] = 0
        blind.output.weight[:, blind.hidden_size :] = 0
    return blind


def evaluate_all(
    model: RecurrentModel, task: Task, levels: tuple[int, ...], sequences: int, **options: Any
) -> Iterator[dict[str, Any]]:
    """A record per split and level, as the model is and, if it has a memory, with reads zeroed."""
    models = {"kept": model}
    if isinstance(model, MemoryModel):
        models["zeroed"] = without_reads(model)
    for split, level in itertools.product(task.splits, levels):
        for reads, each in models.items():
            yield {
                "level": level,
                "reads": reads,
                **evaluate(each, task, level, split=split, sequences=sequences, **options),
            }


def evaluate_trainer(trainer: Trainer) -> Iterator[dict[str, Any]]:
    """The records of `evaluation.jsonl` at the end of a run."""
    settings = trainer.settings
    levels = settings.evaluate or trainer.task.evaluation_levels
    for record in evaluate_all(trainer.model, trainer.task, levels, settings.sequences):
        yield {
            "kind": "evaluation",
            "minibatch": trainer.minibatch,
            "episodes": trainer.episodes,
            **record,
        }


class Loaded(NamedTuple):
    """The model of a run's checkpoint, and where it stood in training."""

    model: RecurrentModel
    settings: RunSettings
    files: RunFolder
    minibatch: int
    episodes: int


def load(folder: str | Path, **changes: Any) -> Loaded:
    """The trained model of a run.

    changes: to settings that its parameters do not depend on, such as memory_size or ann of SAM;
    for others it raises ValueError. Raises FileNotFoundError if there is no run, CheckpointError if
    its checkpoint cannot be read.
    """
    files = RunFolder.holding_a_run(folder)
    settings, state = files.read_settings(), files.read_checkpoint()
    check_same_run(settings, state)
    model = settings.build_model(**changes)
    try:
        model.load_state_dict(state["model"])
    except RuntimeError as error:
        came = ", ".join(f"{name}={value!r}" for name, value in changes.items()) or "no changes"
        raise ValueError(
            f"model_settings: got {came}, expected settings that the parameters do not depend on "
            f"({' '.join(str(error).split())})"
        ) from error
    minibatch = state["minibatch"]
    return Loaded(model, settings, files, minibatch, minibatch * settings.batch_size)
