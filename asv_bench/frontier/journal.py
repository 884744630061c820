"""The file of finished points: one JSON object a line, appended when a point is done.

A record says by itself what it is: "measure" (frontier, wear, trace), "backend", "memory_size",
"data" (a kind of rows, or a trace's name), the "build" and "search" settings, the figures with
their unit in the name, and under which code, when and on which versions they were measured. A
record with a "reason" stands for what was not measured. Of several for one point the last counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from asv_bench import run

Record = dict[str, Any]
POINT = ("measure", "backend", "memory_size", "data", "build", "search")


class Journal:
    """The records in `path`; with `fresh`, none of those there count as done."""

    def __init__(self, path: Path, *, fresh: bool) -> None:
        self._path = path
        commit, changes = run.git("rev-parse", "HEAD"), run.git("diff", "HEAD")
        self._common = {
            "threads": 1,
            "commit": commit,
            "uncommitted_changes": bool(changes),
            "code": run.code(commit, changes),
            "versions": run.versions(),
        }
        known = () if fresh else self._read()
        self._done = {_point(record): "reason" in record for record in known}

    def has(self, point: Record) -> bool:
        """Whether a point was measured on this very code."""
        return self._done.get(_point(point)) is False

    def append(self, records: Iterable[Record]) -> None:
        """Add records that belong together, in one write; a known reason is not repeated."""
        lines = []
        for record in records:
            if "reason" in record and _point(record) in self._done:
                continue
            self._done[_point(record)] = "reason" in record
            lines.append(json.dumps(record | self._common | {"date": run.now()}) + "\n")
        with open(self._path, "a+b") as file:
            if file.tell() and not _ends_a_line(file):
                file.write(b"\n")  # what was stopped while it wrote spoils its own line only
            file.write("".join(lines).encode())

    def _read(self) -> list[Record]:
        """Those of this code, without lines that were cut short."""
        if not self._path.exists():
            return []
        found = []
        for line in self._path.read_text().splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return [record for record in found if record.get("code") == self._common["code"]]


def _ends_a_line(file: Any) -> bool:
    file.seek(-1, 2)
    return file.read(1) == b"\n"


def _point(record: Record) -> str:
    return json.dumps([record.get(name) for name in POINT], sort_keys=True)
