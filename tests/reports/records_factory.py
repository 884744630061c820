"""Lines of backends.jsonl and learning.jsonl as the measuring commands write them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.reports import reports_factory as factory

Record = dict[str, Any]


def point(backend: str, recall: float, access_us: float, **changes: Any) -> Record:
    """A search setting of a build on clustered rows; an access is its search and 20 updates."""
    search_us = access_us - 60.0
    return {
        "measure": "frontier",
        "backend": backend,
        "memory_size": 65536,
        "data": "clustered",
        "build": {},
        "search": {},
        "default": True,
        "recall": recall,
        "access_us": access_us,
        "search_us": search_us,
        "search_q25_us": search_us * 0.9,
        "search_q75_us": search_us * 1.1,
        "update_us": 3.0,
        "update_median_us": 2.5,
        "updated_rows": 196608,
        "rebuilds": 3,
        "build_s": 0.5,
        "bytes_per_row": 73.0,
        **source(),
    } | changes


def wear(backend: str, fresh: float, worn: float, **changes: Any) -> Record:
    return {
        "measure": "wear",
        "backend": backend,
        "memory_size": 65536,
        "data": "clustered",
        "build": {},
        "search": {},
        "default": True,
        "times_overwritten": 3.0,
        "recall_fresh": fresh,
        "recall_worn": worn,
        "search_us_fresh": 100.0,
        "search_us_worn": 110.0,
        **source(),
    } | changes


def trace(backend: str, name: str, recalls: list[float], **changes: Any) -> Record:
    task, _, stage = name.partition("-")
    mean = sum(recalls) / len(recalls)
    return (
        point(backend, mean, 100.0)
        | {
            "measure": "trace",
            "memory_size": 4096,
            "data": name,
            "info": {"task": task, "stage": stage, "minibatches": 500},
            "recall_over_time": recalls,
        }
        | changes
    )


def learning(backend: str, loss: list[float], **changes: Any) -> Record:
    return {
        "measure": "learning",
        "backend": backend,
        "task": "copy",
        "minibatches": [100 * number for number in range(1, len(loss) + 1)],
        "loss": loss,
        "wrong_bits": 0.004,
        "seconds": 16.0,
        "seed": 0,
        **source(),
    } | changes


def source(commit: str = factory.COMMIT, date: str = "2026-11-21T10:00:00+00:00") -> Record:
    return {"commit": commit, "uncommitted_changes": False, "threads": 1, "date": date}


def write(folder: Path, records: Iterable[Record], name: str = "backends.jsonl") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path
