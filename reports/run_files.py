"""The files of one training run, and what of them cannot be read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reports import paper, untrusted
from reports.text import LONGEST_NAME, shortened
from reports.untrusted import (
    AMOUNT,
    COUNT,
    NAME,
    NUMBER,
    SEED,
    SIZE,
    TABLE,
    Kind,
    Missing,
    Problem,
    Row,
    Unreadable,
    count,
    list_of,
    problem,
    typed,
)

Settings = dict[str, Any]
MOST_SETTINGS = 1_000
MOST_SEQUENCES = 10**9  # so that their product with what is scored is a whole number too
MOST_PRESENTATIONS = 1_000


def _ann(value: Any) -> str:
    """The name of an index, alone or in a table of its settings."""
    name: str = NAME.read(value.get("name") if isinstance(value, Mapping) else value)
    return name


_RUN: dict[str, Kind] = {"model": NAME, "task": NAME, "seed": SEED}
_RUN_OPTIONAL: dict[str, Kind] = {
    "name": NAME,
    "episodes": COUNT,
    "minutes": AMOUNT,
    **dict.fromkeys(("model_settings", "task_settings", "optimizer", "curriculum"), TABLE),
}
_IN: dict[str, dict[str, Kind]] = {
    "model_settings": {"ann": Kind("the name of an index, or a table with it", _ann)},
    "curriculum": {"start": COUNT, "end": COUNT},
    "task_settings": dict.fromkeys(
        {
            "max_characters",
            *(
                name.replace("max", bound)
                for task in paper.TASKS.values()
                for name in task.level_settings
                for bound in ("max", "min")
            ),
        },
        SIZE,
    ),
}

_MEANS: dict[str, Kind] = {"loss": NUMBER, "cost": NUMBER, "errors": AMOUNT}
_TRAIN: dict[str, Kind] = {"episodes": SIZE, **_MEANS}
_TRAIN_OPTIONAL: dict[str, Kind] = {
    "minibatch": COUNT,
    "level": SIZE,
    **dict.fromkeys(("seconds", "data_seconds", "model_seconds"), AMOUNT),
}
_EVALUATION: dict[str, Kind] = {"level": SIZE, **_MEANS}
_EVALUATION_OPTIONAL: dict[str, Kind] = {
    "episodes": COUNT,
    "split": NAME,
    "reads": NAME,
    "sequences": count(0, MOST_SEQUENCES),
    "chance": AMOUNT,
    "scored": Kind(
        f"a number above 0, at most {MOST_SEQUENCES:g}",
        lambda value: untrusted.within(value, untrusted.SMALLEST, MOST_SEQUENCES),
    ),
    "errors_by_presentation": list_of(NUMBER, MOST_PRESENTATIONS),
}


def settings(path: Path) -> Settings:
    """What run.json holds. Raises `Unreadable` with the reason if that is no run."""
    found = untrusted.load(path)
    known = typed(found, _RUN, _RUN_OPTIONAL)
    for name, kinds in _IN.items():
        try:
            typed(found.get(name) or {}, {}, kinds)
        except Unreadable as error:
            raise Unreadable(f"{name}.{error}") from error
    if _size(found) > MOST_SETTINGS:
        raise Unreadable(f"got {_size(found):,} settings, expected at most {MOST_SETTINGS:,}")
    return found | {"seed": known["seed"]}


def _size(settings: Mapping[str, Any]) -> int:
    nested = (value for value in settings.values() if isinstance(value, dict))
    return len(settings) + sum(map(_size, nested))


def index(settings: Settings) -> str:
    """The name of a model's index; exact search where nothing is said."""
    return _ann((settings.get("model_settings") or {}).get("ann") or "exact")


def metrics(path: Path) -> tuple[list[Row], str, list[Problem]]:
    """The lines of training in metrics.jsonl, how the run ended as it says ("" if not), problems.

    The last line may be cut short, as a killed run leaves it.
    """
    last, said = 0, ""

    def read(line: Row) -> Row | None:
        nonlocal last, said
        if line.get("kind") == "end":
            said = shortened(line.get("reason"), LONGEST_NAME)
        if line.get("kind") != "train":
            return None
        row = typed(line, _TRAIN, _TRAIN_OPTIONAL)
        if row["episodes"] <= last:
            raise Unreadable(f"episodes: got {row['episodes']} after {last}, expected more")
        last = row["episodes"]
        return row

    found, problems = untrusted.lines(path, read, cut_short=True)
    return found, said, problems


def evaluations(path: Path) -> tuple[list[Row], list[Problem]]:
    """The lines of evaluation.jsonl; the last one may be cut short."""
    return untrusted.lines(path, _evaluation, cut_short=True)


def _evaluation(line: Row) -> Row | None:
    if line.get("kind") not in ("train", "evaluation"):
        return None
    # Tasks of bits draw fresh sequences; the first versions of the trainer did not say so.
    split = line.get("split") or "fresh"
    answers = {"scored": _EVALUATION_OPTIONAL["scored"]} if split != "fresh" else {}
    row = typed(line, _EVALUATION | answers, _EVALUATION_OPTIONAL)
    if row.get("scored", row["errors"]) < row["errors"]:
        raise Unreadable(f"errors: got {row['errors']:g}, expected at most {row['scored']:g}")
    return {"split": "fresh", **row}


def failure(folder: Path) -> tuple[str, str, list[Problem]]:
    """How a run that failed ended, "diverged" or "failed", and why; both "" if it did not."""
    failed, problems = _read(folder / "failure.json")
    if failed is not None:
        reason = failed.get("error") or "its failure.json cannot be read"
        return "diverged", shortened(reason), problems
    outcome, problems = _read(folder / "outcome.json")  # as a sweep writes it
    status = (outcome or {}).get("status")
    if outcome and status in ("diverged", "failed"):
        return status, shortened(outcome.get("message") or "no reason given"), problems
    return "", "", problems


def _read(path: Path) -> tuple[Row | None, list[Problem]]:
    """What a file of JSON holds, None if it is not there; nothing of one that is damaged."""
    try:
        return untrusted.load(path), []
    except Missing:
        return None, []
    except Unreadable as error:
        return {}, [problem(path, str(error))]
