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

from asv_bench import json_lines, provenance
from asv_bench.json_lines import Record

POINT = ("measure", "backend", "memory_size", "data", "build", "search")


class Journal:
    """The records in `path`; with `fresh`, none of those there count as done."""

    def __init__(self, path: Path, *, fresh: bool) -> None:
        self._path = path
        self._code = provenance.code()
        known = () if fresh else json_lines.read(path)
        mine = [record for record in known if record.get("code") == str(self._code)]
        self._done = {_point(record): "reason" in record for record in mine}

    def has(self, point: Record) -> bool:
        """Whether a point was measured on this very code."""
        return self._done.get(_point(point)) is False

    def append(self, records: Iterable[Record]) -> None:
        """Add records that belong together, in one write; a known reason is not repeated."""
        added, origin = [], provenance.origin(self._code)
        for record in records:
            if "reason" in record and _point(record) in self._done:
                continue
            self._done[_point(record)] = "reason" in record
            added.append(record | origin)
        json_lines.append(self._path, added)


def _point(record: Record) -> str:
    return json.dumps([record.get(name) for name in POINT], sort_keys=True)
