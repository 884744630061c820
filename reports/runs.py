"""Training runs as `python -m sam train` and `sweep` leave them, as tables."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from reports import limits, paper, run_files
from reports.run_files import Settings
from reports.text import visible
from reports.untrusted import Problem, Row, Unreadable, problem

# What runs of one name may differ in; all else has to be the same for a mean over them.
_OWN = {
    "seed",
    "episodes",
    "minutes",
    "evaluate",
    "sequences",
    "threads",
    "versions",
    "commit",
    "machine",
}
_WHICH = {"run": "string", "name": "string", "task": "string", "model": "string", "seed": "Int64"}
_MEASURED = ("loss", "cost", "errors")

RUN_COLUMNS = {
    **_WHICH,
    "beyond": "boolean",
    "episodes": "Int64",
    "minutes": "float64",
    "level": "Int64",
    "end": "string",
    "error": "string",
}
LINE_COLUMNS = {
    **_WHICH,
    "episodes": "Int64",
    **dict.fromkeys(_MEASURED, "float64"),
    "level": "Int64",
    **dict.fromkeys(("seconds", "data_seconds", "model_seconds"), "float64"),
}
EVALUATION_COLUMNS = {
    **_WHICH,
    "episodes": "Int64",
    "level": "Int64",
    "reads": "string",
    "split": "string",
    "sequences": "Int64",
    **dict.fromkeys((*_MEASURED, "scored", "chance"), "float64"),
    "errors_by_presentation": "object",
}


class NoRuns(Exception):
    """Raised when a folder holds no run that could be read."""


@dataclass(frozen=True)
class Runs:
    """The tables; of each run its path below the folder is `run`, `model` is "sam-exact" or "ntm".

    runs: a row per run. beyond: whether its curriculum goes on past the paper's task. level: the
    hardest one trained on. end: "budget", "diverged", "failed", "unfinished", or what the run said.
    lines: a row per line of metrics.jsonl, means since the line before; loss in nats per target,
    cost in bits per sequence, errors per sequence (wrong bits, or of `paper.ANSWER_TASKS` wrong
    answers); seconds since the start, data_seconds of them for drawing minibatches, model_seconds
    for forward and backward passes (NaN where not recorded).
    evaluations: a row per split ("fresh" of tasks of bits, else "validation" or "test"), level and
    `reads` ("kept", "zeroed"), on held-out sequences; scored is the most that errors could be,
    chance the cost of guessing, errors_by_presentation a list of shares or None. settings: what
    run.json holds, by run.
    """

    runs: pd.DataFrame
    lines: pd.DataFrame
    evaluations: pd.DataFrame
    settings: dict[str, Settings]

    @property
    def frames(self) -> tuple[pd.DataFrame, ...]:
        return self.runs, self.lines, self.evaluations

    def map(self, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Runs:
        """The tables with a change on each."""
        runs, lines, evaluations = map(change, self.frames)
        return Runs(runs, lines, evaluations, self.settings)


def load(folder: Path) -> tuple[Runs, list[Problem]]:
    """Every run below `folder`, and what of it cannot be read.

    Of runs with one name and seed the longest is taken. Raises `NoRuns` if there is none.
    """
    paths, problems = _folders(folder)
    tables = _Tables([], [], [])
    settings: dict[str, Settings] = {}
    for path in paths:
        try:
            own = run_files.settings(path / "run.json")
        except Unreadable as error:
            problems.append(problem(path / "run.json", str(error)))
            continue
        run = visible(path.relative_to(folder).as_posix())
        settings[run] = own
        problems += _read(path, run, own, tables)
    if not settings:
        raise NoRuns(_nothing(folder, problems))
    few, many = limits.keep_few(tables.runs, ("task",), limits.MOST_VALUES, folder)
    few, more = limits.keep_few(few, ("name",), limits.MOST_NAMES, folder)
    kept, refused = _chosen(few, settings)
    problems += [problem(folder / run, reason) for run, reason in refused.items()] + many + more
    return Runs(
        runs=_table(tables.runs, RUN_COLUMNS, kept),
        lines=_table(tables.lines, LINE_COLUMNS, kept),
        evaluations=_table(tables.evaluations, EVALUATION_COLUMNS, kept),
        settings={run: own for run, own in settings.items() if run in kept},
    ), problems


def _folders(top: Path) -> tuple[list[Path], list[Problem]]:
    """The folders of runs below `top`, and those that cannot be looked into."""
    problems: list[Problem] = []

    def closed(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            problems.append(problem(error.filename, f"cannot be listed ({error.strerror})"))

    found = [Path(path) for path, _, names in os.walk(top, onerror=closed) if "run.json" in names]
    return sorted(found), problems


def of_tasks(found: Runs, wanted: Callable[[str], bool]) -> Runs:
    """The part of the tables that is on runs of those tasks."""
    chosen = found.runs[found.runs.task.map(wanted).astype(bool)]
    kept = set(chosen.run)
    return Runs(
        runs=chosen,
        lines=found.lines[found.lines.run.isin(kept)],
        evaluations=found.evaluations[found.evaluations.run.isin(kept)],
        settings={run: own for run, own in found.settings.items() if run in kept},
    )


def bounds(task: str, settings: Settings) -> tuple[int | None, int | None]:
    """The easiest and hardest level of the task itself, without a curriculum; None if unknown."""
    known = paper.TASKS.get(task)
    if known is None:
        return None, None
    given = settings.get("task_settings") or {}
    levels = [given[name] for name in known.level_settings if given.get(name) is not None]
    hardest = int(levels[0]) if levels else known.hardest
    lowest = [name.replace("max", "min") for name in known.level_settings]
    least = [given[name] for name in lowest if given.get(name) is not None]
    return min(int(least[0]) if least else known.easiest, hardest), hardest


@dataclass(frozen=True)
class _Tables:
    """Rows as they are found."""

    runs: list[Row]
    lines: list[Row]
    evaluations: list[Row]


def _read(path: Path, run: str, settings: Settings, tables: _Tables) -> list[Problem]:
    """Add what one run's folder holds to the tables; what is wrong in it."""
    model, task = _model(settings), settings["task"]
    which = {
        "run": run,
        "name": settings.get("name") or f"{task}/{model}",
        "task": task,
        "model": model,
        "seed": settings["seed"],
    }
    lines, said, problems = run_files.metrics(path / "metrics.jsonl")
    evaluations, wrong = run_files.evaluations(path / "evaluation.jsonl")
    if not lines:
        problems.append(problem(path, "no line of training in metrics.jsonl yet"))
    failed, reason, odd = run_files.failure(path)
    end = failed or said or ("budget" if _is_done(settings, evaluations) else "unfinished")
    last: Row = lines[-1] if lines else {}
    tables.runs.append(
        which
        | {
            "beyond": _goes_beyond(settings),
            "episodes": last.get("episodes", 0),
            "minutes": last.get("seconds", 0.0) / 60,
            "level": last.get("level") or bounds(task, settings)[1],
            "end": end,
            "error": reason or None,
        }
    )
    tables.lines.extend(which | line for line in lines)
    latest, many = limits.keep_first(
        _last(evaluations), lambda row: 1, limits.MOST_EVALUATIONS, path / "evaluation.jsonl"
    )
    tables.evaluations.extend(which | record for record in latest)
    return [*problems, *wrong, *odd, *many]


def _is_done(settings: Settings, evaluations: list[Row]) -> bool:
    """Whether the run was evaluated at the end of its budget, as far as its files tell."""
    if not evaluations:
        return False
    budget, at = settings.get("episodes"), evaluations[-1].get("episodes")
    if settings.get("minutes") or not isinstance(budget, int) or not isinstance(at, int):
        return True
    return at >= budget


def _model(settings: Settings) -> str:
    """Of models with an index its name follows that of the model, as in `models.LOOKS`."""
    model = str(settings["model"])
    if model not in ("sam", "sdnc"):
        return model
    return f"{model}-{run_files.index(settings)}"


def _goes_beyond(settings: Settings) -> bool:
    curriculum = settings.get("curriculum")
    if not curriculum:
        return False
    end, own = curriculum.get("end"), bounds(settings["task"], settings)[1]
    return end is None or own is None or end > own


def _last(evaluations: Iterable[Row]) -> list[Row]:
    """Of several evaluations of a split at one level the last: the run went on in between."""
    latest = {(each["split"], each["level"], each.get("reads")): each for each in evaluations}
    return list(latest.values())


def _chosen(rows: list[Row], settings: Mapping[str, Settings]) -> tuple[set[str], dict[str, str]]:
    """The runs to report on; why each of the others is left out."""
    kept: dict[tuple[str, int], str] = {}
    first: dict[str, str] = {}
    refused: dict[str, str] = {}
    for row in sorted(rows, key=lambda row: -row["episodes"]):
        run, name = row["run"], row["name"]
        differing = _differing(settings[first.setdefault(name, run)], settings[run])
        if differing:
            refused[run] = (
                f"left out: named {name!r} as {first[name]}, whose {', '.join(differing)} differ"
            )
        elif (name, row["seed"]) in kept:
            refused[run] = (
                f"left out: seed {row['seed']} of {name!r} again, shorter than "
                f"{kept[name, row['seed']]}"
            )
        else:
            kept[name, row["seed"]] = run
    return set(kept.values()), refused


def _differing(one: Settings, other: Settings) -> list[str]:
    names = sorted((one.keys() | other.keys()) - _OWN)
    return [name for name in names if one.get(name) != other.get(name)]


def _nothing(folder: Path, problems: list[Problem]) -> str:
    if problems:
        return f"{folder}: got no run that can be read: {'; '.join(map(str, problems))}"
    return (
        f"{folder}: got no run, expected folders with a run.json, as `python -m sam train` writes "
        "them"
    )


def _table(rows: list[Row], columns: dict[str, str], kept: set[str]) -> pd.DataFrame:
    rows = [row for row in rows if row["run"] in kept]
    return pd.DataFrame(rows, columns=list(columns)).astype(columns)
