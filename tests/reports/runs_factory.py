"""Folders of training runs as `python -m sam train` writes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Record = dict[str, Any]
BATCH_SIZE, LOG_EVERY = 16, 100
SPACING = BATCH_SIZE * LOG_EVERY  # episodes between two lines


def settings(model: str, task: str, seed: int = 0, **changes: Any) -> Record:
    """run.json; `model` as the report names it, such as "sam-exact"."""
    kind, _, ann = model.partition("-")
    return {
        "model": kind,
        "task": task,
        "name": f"{task}/{model}",
        "model_settings": {"memory_size": 128, **({"ann": ann} if ann else {})},
        "task_settings": {},
        "optimizer": {"name": "adam", "learning_rate": 1e-3, "clip_norm": 10.0, "options": {}},
        "curriculum": None,
        "batch_size": BATCH_SIZE,
        "seed": seed,
        "episodes": 100_000,
        "minutes": None,
        "threads": 1,
        "evaluate": [],
        "sequences": 256,
        "versions": {"sam": "0.1.0", "python": "3.11.7", "torch": "2.13.0"},
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "machine": {"system": "Linux", "processor": "Toy CPU", "cpus": 2},
    } | changes


def line(number: int, cost: float, level: int | None = None, **changes: Any) -> Record:
    """The `number`-th line of metrics.jsonl, counting from 1."""
    return {
        "kind": "train",
        "minibatch": LOG_EVERY * number,
        "episodes": SPACING * number,
        "loss": cost / 100,
        "cost": cost,
        "errors": cost / 4,
        "level": level,
        "seconds": 0.5 * number,
    } | changes


def lines(costs: Sequence[float], levels: Sequence[int] | None = None) -> list[Record]:
    of = levels or [None] * len(costs)
    return [line(n, cost, level) for n, (cost, level) in enumerate(zip(costs, of, strict=True), 1)]


def evaluation(
    level: int, cost: float, reads: str = "kept", chance: float = 48.0, **changes: Any
) -> Record:
    return {
        "kind": "evaluation",
        "minibatch": 6250,
        "episodes": 100_000,
        "level": level,
        "reads": reads,
        "sequences": 256,
        "loss": cost / 100,
        "cost": cost,
        "errors": cost / 4,
        "chance": chance,
    } | changes


def evaluations(
    levels: Sequence[int], cost: Callable[[int], float], zeroed: Callable[[int], float] | None
) -> list[Record]:
    """A record per level, with the reads kept and, where there are any, zeroed."""
    kinds = [("kept", cost)] + ([("zeroed", zeroed)] if zeroed else [])
    return [evaluation(level, of(level), reads) for level in levels for reads, of in kinds]


def answers(
    level: int,
    error: float,
    split: str = "test",
    reads: str = "kept",
    scored: float = 4.0,
    **changes: Any,
) -> Record:
    """An evaluation of a task of answers; `error` is the share of them that are wrong."""
    record = evaluation(level, 8.0, reads, 16.0, errors=error * scored, scored=scored)
    return record | {"split": split} | changes


def write(
    folder: Path,
    run: Record,
    metrics: Sequence[Record],
    evaluated: Sequence[Record] = (),
    failure: str | None = None,
) -> Path:
    """One run's folder."""
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(run))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in metrics))
    if evaluated:
        text = "".join(json.dumps(each) + "\n" for each in evaluated)
        (folder / "evaluation.jsonl").write_text(text)
    if failure is not None:
        (folder / "failure.json").write_text(json.dumps({"error": failure, "minibatch": 7}))
    return folder
