"""A sweep's runs as one tidy table: a row per run, level it was evaluated at, and kind of reads."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sam.files import replacing
from sam.training import json_files
from sam.training.folder import TRAINING, RunFolder
from sam.training.plain import flat
from sam.training.settings import RunSettings
from sam.training.sweeps.outcome import Outcome

Row = dict[str, Any]

WHICH = ("name", "model", "task", "ann", "seed")
# train_*: means over the last line of metrics.jsonl. The last ones are those of an evaluation.
TRAINED = ("minibatches", "episodes", "train_level", "train_loss", "train_cost", "train_errors")
EVALUATION = ("level", "reads", "sequences", "loss", "cost", "errors", "chance")
EVALUATED: json_files.Fields = {
    **{"minibatch": int, "level": int, "reads": str, "sequences": int},
    **dict.fromkeys(("loss", "cost", "errors", "chance"), object),
}
TIMES = ("name", "seed", "status", "minibatches", "seconds")
# Not settings that a column of their own could tell more of.
APART = {
    "name",
    "model",
    "task",
    "seed",
    "model_settings.ann",
    "model_settings.ann.name",
    "evaluate",
}


class Run(NamedTuple):
    """A run of a sweep, with how it ended."""

    settings: RunSettings
    folder: Path
    outcome: Outcome


def write(folder: Path, runs: Sequence[Run]) -> None:
    """Write table.csv, the same for the same runs wherever they ran, and times.csv."""
    runs = sorted(runs, key=lambda run: (run.settings.name, run.settings.seed))
    differing = _differing([_cells(run.settings) for run in runs])
    columns = (*WHICH, *differing, "status", "message", *TRAINED, *EVALUATION)
    rows = [row for run in runs for row in _rows(run, differing)]
    _write_csv(folder / "table.csv", columns, rows)
    _write_csv(folder / "times.csv", TIMES, [_time(run) for run in runs])


def _rows(run: Run, differing: Sequence[str]) -> list[Row]:
    settings, outcome = run.settings, run.outcome
    ann = settings.as_mapping()["model_settings"].get("ann")
    files = RunFolder(run.folder)
    cells = _cells(settings)
    last: Row = next(reversed(list(json_files.lines(files.metrics, TRAINING))), {})
    own = {
        "name": settings.name,
        "model": settings.model,
        "task": settings.task,
        "ann": ann.get("name") if isinstance(ann, Mapping) else ann,
        "seed": settings.seed,
        **{name: cells.get(name) for name in differing},
        "status": outcome.status,
        "message": outcome.message,
        "minibatches": outcome.minibatch,
        "episodes": outcome.episodes,
        "train_level": outcome.level,
        **{f"train_{name}": last.get(name) for name in ("loss", "cost", "errors")},
    }
    evaluations = _evaluations(files.evaluation, outcome) if outcome.status == "trained" else []
    return [own | {name: each[name] for name in EVALUATION} for each in evaluations] or [own]


def _evaluations(path: Path, outcome: Outcome) -> list[Row]:
    """Those at the end of the budget, the last of each; not those of `python -m sam evaluate`."""
    found = {
        (each["level"], each["reads"]): each
        for each in json_files.lines(path, EVALUATED)
        if each["minibatch"] == outcome.minibatch and "model_settings" not in each
    }
    return [found[key] for key in sorted(found)]


def _time(run: Run) -> Row:
    return {
        "name": run.settings.name,
        "seed": run.settings.seed,
        "status": run.outcome.status,
        "minibatches": run.outcome.minibatch,
        "seconds": run.outcome.seconds,
    }


def _cells(settings: RunSettings) -> dict[str, Any]:
    """A run's settings, tables unfolded, as a row can hold them."""
    return {
        name: json.dumps(value) if isinstance(value, list) else value
        for name, value in flat(settings.as_mapping()).items()
    }


def _differing(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The settings that are not the same in all runs."""
    names = {name for run in runs for name in run} - APART
    return sorted(name for name in names if len({run.get(name) for run in runs}) > 1)


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with replacing(path) as file:
        file.write(text.getvalue().encode())
