"""How well a trained model does on sequences that it was not trained on."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from sam import checks
from sam.model import MemoryModel, RecurrentModel
from sam.tasks import Task
from sam.training.folder import RunFolder
from sam.training.settings import SEEDS, RunSettings, check_seed
from sam.training.trainer import Trainer, check_same_run

HELD_OUT_SEED = SEEDS  # no run has such a seed


def evaluate(
    model: RecurrentModel,
    task: Task,
    level: int,
    *,
    sequences: int = 256,
    batch_size: int = 64,
    seed: int = 0,
) -> dict[str, float]:
    """Mean loss (nats per target), cost (bits per sequence), errors (the task's unit) and chance.

    On `sequences` fresh sequences of one level, which may be beyond those trained on. chance: the
    cost of guessing.
    """
    checks.positive_sizes(sequences=sequences, batch_size=batch_size)
    check_seed(seed)
    generator = torch.Generator().manual_seed(HELD_OUT_SEED + seed)
    sums, left = {"loss": 0.0, "cost": 0.0, "errors": 0.0}, sequences
    while left:
        episode = task.sample(min(batch_size, left), generator, level)
        size = episode.inputs.shape[1]
        with torch.no_grad():
            outputs, _ = model(episode.inputs)
            sums["loss"] += size * float(task.loss(outputs, episode))
            sums["cost"] += float(task.cost(outputs, episode).sum())
            sums["errors"] += float(task.errors(outputs, episode).sum())
        left -= size
    means = {name: total / sequences for name, total in sums.items()}
    return means | {"chance": task.chance(level)}


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
    """A record per level, as the model is and, if it has a memory, with its reads zeroed."""
    models = {"kept": model}
    if isinstance(model, MemoryModel):
        models["zeroed"] = without_reads(model)
    for level in levels:
        for reads, each in models.items():
            yield {
                "level": level,
                "reads": reads,
                "sequences": sequences,
                **evaluate(each, task, level, sequences=sequences, **options),
            }


def evaluate_trainer(trainer: Trainer) -> Iterator[dict[str, Any]]:
    """The records of `evaluation.jsonl` at the end of a run."""
    settings = trainer.settings
    levels = settings.evaluate or (trainer.task.min_level, trainer.task.max_level)
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
