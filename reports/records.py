"""What was measured beside asv: JSON lines of indexes by themselves and of learning, as tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from reports import record_lines
from reports.record_lines import COSTS, MEASURES, Record, in_words
from reports.untrusted import Problem

FILES = ("backends.jsonl", "learning.jsonl")

_PLACE = {
    "backend": "string",
    "memory_size": "Int64",
    "data": "string",
    "build": "string",
    "search": "string",
    "default": "boolean",
}
_SOURCE = {"status": "string", "reason": "string", "commit": "string", "date": "string"}
POINT_COLUMNS = {
    "measure": "string",
    **_PLACE,
    **dict.fromkeys(("recall", "access_us", *COSTS, "build_s", "bytes_per_row"), "float64"),
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

    @property
    def frames(self) -> tuple[pd.DataFrame, ...]:
        return self.points, self.wear, self.over_time, self.learning

    def map(self, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Records:
        """The tables with a change on each."""
        return Records(*map(change, self.frames))


def load(folder: Path, commit: str) -> tuple[Records, list[Problem]]:
    """The records in a machine's folder, and the lines that make no sense.

    Of each measure those of `commit` (and those that name none) are taken, or if there are none
    those of the commit that was measured last: `commit` and `date` say which.
    """
    found: list[Record] = []
    problems: list[Problem] = []
    for path in (folder / name for name in FILES):
        lines, wrong = record_lines.read(path)
        found += lines
        problems += wrong
    by_measure: dict[str, list[Record]] = {}
    for name in MEASURES:
        own = _latest([record for record in found if record["measure"] == name], commit)
        by_measure[name], left = record_lines.within_limits(own, folder)
        problems += left
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
        flat[name] = in_words(record.get(name) or {})
    return flat


def _parts(records: Iterable[Record]) -> list[Record]:
    rows = []
    for record in records:
        recalls = record.get("recall_over_time") or []
        task, _, stage = record.get("data", "").rpartition("-")
        origin = {"task": task, "stage": stage} | record.get("origin", {})
        rows += [
            _flat(record) | origin | {"part": part, "parts": len(recalls), "recall": recall}
            for part, recall in enumerate(recalls)
        ]
    return rows


def _curves(records: Iterable[Record]) -> list[Record]:
    return [
        record | {"minibatch": minibatch, "loss": loss}
        for record in records
        if "loss" in record
        for minibatch, loss in zip(record["minibatches"], record["loss"], strict=True)
    ]


def _table(rows: list[Record], columns: dict[str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(columns)).astype(columns)
