"""Runs small enough for a second, and what two of them must have in common."""

import json
from pathlib import Path

import torch

from sam.training.settings import RunSettings

SIZES = {"hidden_size": 12}
MEMORY = {**SIZES, "memory_size": 16, "word_size": 6, "num_heads": 2}
MODELS = {
    "sam": ("sam", {**MEMORY, "k": 3}),
    "kd_forest": ("sam", {**MEMORY, "k": 3, "ann": {"name": "kd_forest", "checks": 8}}),
    "ntm": ("ntm", MEMORY),
    "lstm": ("lstm", SIZES),
}
# Easy enough to go up within the run.
CURRICULUM = {"start": 1, "end": 4, "threshold": 0.72, "window": 20}


def mapping(model="lstm", minibatches=250, **changes):
    name, settings = MODELS[model]
    return {
        "model": name,
        "model_settings": settings,
        "task": "copy",
        "task_settings": {"bits": 3, "max_length": 4},
        "batch_size": 4,
        "episodes": 4 * minibatches,
        "evaluate": [2, 5],
        "sequences": 8,
        "seed": 3,
        "optimizer": {"learning_rate": 3e-3, "cooldown": 0.25},
        **changes,
    }


def settings(model="lstm", minibatches=250, **changes):
    return RunSettings.of(mapping(model, minibatches, **changes))


def flags(folder, *more):
    """A quiet run of the LSTM as the command line takes it."""
    return [
        *("train", "--model", "lstm", "--hidden-size", "12", "--task", "copy"),
        *("--task-set", "bits=3", "--task-set", "max_length=4", "--batch-size", "4"),
        *("--sequences", "8", "--out", str(folder), "--quiet", "--no-tensorboard"),
        *map(str, more),
    ]


def checkpoint(folder):
    return torch.load(Path(folder) / "checkpoint.pt", weights_only=True)


TIMES = ("seconds", "data_seconds", "model_seconds")


def lines(path, *without):
    """The records of a file of JSON lines."""
    records = [json.loads(line) for line in Path(path).read_text().splitlines()]
    return [{key: each[key] for key in each if key not in without} for each in records]


def assert_same_state(left, right, place="checkpoint"):
    """Equal to the bit, whatever they hold; but for the time that training took."""
    assert type(left) is type(right), place
    if isinstance(left, torch.Tensor):
        assert left.dtype == right.dtype, place
        assert torch.equal(left, right), place
    elif isinstance(left, dict):
        assert left.keys() == right.keys(), place
        for key in left.keys() - {"seconds", "seconds_of"}:
            assert_same_state(left[key], right[key], f"{place}.{key}")
    elif isinstance(left, (list, tuple)):
        assert len(left) == len(right), place
        for number, (one, other) in enumerate(zip(left, right, strict=True)):
            assert_same_state(one, other, f"{place}.{number}")
    else:
        assert left == right, place


def assert_same_run(left, right):
    """All that two folders' runs came to."""
    assert_same_state(checkpoint(left), checkpoint(right))
    for name in ("metrics.jsonl", "evaluation.jsonl"):
        assert lines(left / name, *TIMES) == lines(right / name, *TIMES)
