"""What was measured beside asv: JSON lines of indexes by themselves and of learning, as tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from reports.files import Problem

FILES = ("backends.jsonl", "learning.jsonl")
Record = dict[str, Any]

_PLACE = {
    "backend": "string",
    "memory_size": "Int64",
    "data": "string",
    "build": "string",
    "search": "string",
    "default": "boolean",
}
_COSTS = ("search_us", "search_q25_us", "search_q75_us", "update_us", "update_median_us")
_SOURCE = {"status": "string", "reason": "string", "commit": "string", "date": "string"}
POINT_COLUMNS = {
    "measure": "string",
    **_PLACE,
    **dict.fromkeys(("recall", "access_us", *_COSTS, "build_s", "bytes_per_row"), "float64"),
    "updated_rows": "Int64",
    "rebuilds": "Int64",
    **_SOURCE,
}
WEAR_COLUMNS = {
    **_PLACE,
    "times_overwritten": "float64",
    **dict.fromkeys(("recall_fresh", "recall_worn"), "float64"),
    **dict.fromkeys(("search_us_fresh", "search_us_worn"), "float64"),
    **_SOURCE,
}
OVER_TIME_COLUMNS = {
    **_PLACE,
    "task": "string",
    "stage": "string",
    "minibatches": "Int64",
    "part": "Int64",
    "parts": "Int64",
    "recall": "float64",
}
LEARNING_COLUMNS = {
    "backend": "string",
    "task": "string",
    "seed": "Int64",
    "minibatch": "Int64",
    "loss": "float64",
    "wrong_bits": "float64",
    "seconds": "float64",
    "commit": "string",
    "date": "string",
}


@dataclass(frozen=True)
class Records:
    """The tables; all are empty where nothing was measured.

    points: a row per build and search setting on rows of a kind ("frontier") or a trace ("trace"),
    and what was not measured with its reason. Times are microseconds (build: seconds), those of
    a search per call of 4 queries, of an update per row, of an access per 4 queries and 20 rows.
    wear: recall and search time after every row was overwritten, beside those of a fresh build.
    over_time: recall in each of the `parts` of a trace. learning: a row per point of a loss curve.
    """

    points: pd.DataFrame
    wear: pd.DataFrame
    over_time: pd.DataFrame
    learning: pd.DataFrame


def load(folder: Path, commit: str) -> tuple[Records, list[Problem]]:
    """The records in a machine's folder, and the lines that make no sense.

    Of each measure those of `commit` (and those that name none) are taken, or if there are none
    those of the commit that was measured last: `commit` and `date` say which.
    """
    found: list[Record] = []
    problems: list[Problem] = []
    for path in (folder / name for name in FILES):
        if path.exists():
            lines, wrong = _lines(path)
            found += lines
            problems += wrong
    by_measure = {
        name: _latest([record for record in found if record["measure"] == name], commit)
        for name in ("frontier", "wear", "trace", "learning")
    }
    points = [_flat(record) for name in ("frontier", "trace") for record in by_measure[name]]
    return Records(
        points=_table(points, POINT_COLUMNS),
        wear=_table([_flat(record) for record in by_measure["wear"]], WEAR_COLUMNS),
        over_time=_table(_parts(by_measure["trace"]), OVER_TIME_COLUMNS),
        learning=_table(_curves(by_measure["learning"]), LEARNING_COLUMNS),
    ), problems


def settings(build: str, search: str) -> str:
    """Both kinds of settings in words."""
    return ", ".join(filter(None, (build, search))) or "defaults"


def _lines(path: Path) -> tuple[list[Record], list[Problem]]:
    found, problems = [], []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            record = json.loads(line)
            wrong = _what_is_wrong(record)
        except ValueError:
            wrong = "not valid JSON, truncated or damaged"
        if wrong:
            problems.append(Problem(str(path), f"line {number}: {wrong}"))
        else:
            found.append({"commit": "", "date": ""} | record)
    return found, problems


_WORDS = ("backend", "commit", "date")
_NUMBERS = {
    "frontier": ("recall", "access_us", "search_us", "update_us"),
    "trace": ("recall", "access_us", "search_us", "update_us"),
    "wear": ("recall_fresh", "recall_worn", "search_us_fresh", "search_us_worn"),
    "learning": (),
}


def _what_is_wrong(record: object) -> str:
    if not isinstance(record, dict) or record.get("measure") not in _NUMBERS:
        return f"no record of {', '.join(_NUMBERS)}"
    words = {"commit": "", "date": ""} | record
    missing = [name for name in _WORDS if not isinstance(words.get(name), str)]
    if "reason" not in record:
        numbers = _NUMBERS[record["measure"]]
        missing += [name for name in numbers if not isinstance(record.get(name), int | float)]
        if record["measure"] == "learning":
            match record:
                case {"minibatches": list(x), "loss": list(y)} if len(x) == len(y):
                    pass
                case _:
                    missing.append("minibatches and loss of one length")
    return f"no {', '.join(missing)}" if missing else ""


def _latest(records: Sequence[Record], commit: str) -> list[Record]:
    """Of one commit; of several records for one point the last."""
    if not records:
        return []
    chosen = {commit, ""}
    if not any(record["commit"] in chosen for record in records):
        chosen = {max(records, key=lambda record: record["date"])["commit"]}
    keys = ("backend", "memory_size", "data", "build", "search", "task", "seed")
    last = {
        json.dumps([record.get(key) for key in keys], sort_keys=True): record
        for record in records
        if record["commit"] in chosen
    }
    return list(last.values())


def _flat(record: Record) -> Record:
    flat = {**record, "status": "not measured" if "reason" in record else "measured"}
    for name in ("build", "search"):
        values = record.get(name) or {}
        flat[name] = ", ".join(f"{key}={value}" for key, value in values.items())
    return flat


def _parts(records: Iterable[Record]) -> list[Record]:
    rows = []
    for record in records:
        info, recalls = record.get("info") or {}, record.get("recall_over_time") or []
        task, _, stage = record["data"].rpartition("-")
        origin = {"task": task, "stage": stage} | {
            name: info[name] for name in ("stage", "minibatches") if name in info
        }
        rows += [
            _flat(record) | origin | {"part": part, "parts": len(recalls), "recall": recall}
            for part, recall in enumerate(recalls)
        ]
    return rows


def _curves(records: Iterable[Record]) -> list[Record]:
    return [
        record | {"minibatch": minibatch, "loss": loss}
        for record in records
        for minibatch, loss in zip(record["minibatches"], record["loss"], strict=True)
    ]


def _table(rows: list[Record], columns: dict[str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(columns)).astype(columns)
