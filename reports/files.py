"""Finding and reading asv's JSON files; every file that cannot be read is named with its reason."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reports import untrusted
from reports.text import LONGEST_NAME, got, shortened, visible
from reports.untrusted import (
    NAME,
    TEXT,
    Kind,
    Missing,
    Problem,
    Unreadable,
    list_of,
    problem,
    typed,
)

API_VERSION = 2
SIDE_FILES = ("machine.json", "benchmarks.json")
Reasons = dict[tuple[object, ...], str]
_NEEDED = ("commit_hash", "params", "result_columns", "results")


@dataclass(frozen=True)
class Run:
    """One asv result file (one machine, commit and environment) and what stands beside it.

    `environment` is the optional environment.jsonl of the machine's folder and `reasons` what its
    reasons-*.jsonl say of skipped points, by the benchmark's class and its parameters; both are
    empty when they are missing or speak of another commit. `declared` is benchmarks.json.
    """

    path: Path
    data: dict[str, Any]
    machine_info: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    declared: dict[str, Any] = field(default_factory=dict)
    reasons: Reasons = field(default_factory=dict)

    @property
    def machine(self) -> str:
        name = self.data["params"].get("machine") or self.machine_info.get("machine")
        return shortened(name or visible(self.path.parent.name), LONGEST_NAME)

    @property
    def commit(self) -> str:
        return str(self.data["commit_hash"])

    @property
    def env_name(self) -> str:
        return shortened(self.data.get("env_name") or "", LONGEST_NAME)

    @property
    def date(self) -> datetime | None:
        """The commit's date."""
        return _time(self.data.get("date"))

    @property
    def measured_at(self) -> datetime | None:
        """When the last benchmark of the file was started."""
        columns = self.data["result_columns"]
        if "started_at" not in columns:
            return None
        place = columns.index("started_at")
        times = [_time(row[place]) for row in self.data["results"].values() if len(row) > place]
        return max((time for time in times if time), default=None)


def _time(milliseconds: object) -> datetime | None:
    """asv writes JavaScript timestamps."""
    if isinstance(milliseconds, bool) or not isinstance(milliseconds, int | float):
        return None
    try:
        return datetime.fromtimestamp(milliseconds / 1000, tz=UTC)
    except (ValueError, OverflowError, OSError):
        return None


# A point's parameters are text, numbers or null, as they stand in a JSON list.
_PARAMETER = Kind("a text, a number or null", lambda value: _parameter(value))
_REASON: dict[str, Kind] = {"benchmark": NAME, "params": list_of(_PARAMETER, 32), "reason": TEXT}


def _parameter(value: Any) -> Any:
    if isinstance(value, dict | list):
        raise ValueError(value)
    return value


def load_reasons(path: Path) -> tuple[Reasons, list[Problem]]:
    """Lines of {"benchmark": class, "params": [...], "reason": text}, by class and parameters."""
    found, problems = untrusted.lines(path, lambda line: typed(line, _REASON, {}))
    return {(each["benchmark"], *each["params"]): each["reason"] for each in found}, problems


def _load_result(path: Path) -> dict[str, Any]:
    data = untrusted.load(path)
    missing = [key for key in _NEEDED if key not in data]
    if missing:
        version = data.get("version")
        if version == 1 and "results" in data:
            raise Unreadable("asv result of api_version 1, expected 2; `asv update` converts it")
        raise Unreadable(f"valid JSON, but not an asv result: no {', '.join(missing)}")
    if data.get("version") != API_VERSION:
        raise Unreadable(
            f"asv result of api_version {got(data.get('version'))}, expected {API_VERSION}; "
            "`asv update` converts older ones"
        )
    columns, results = data["result_columns"], data["results"]
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        raise Unreadable("not an asv result: result_columns is no list of names")
    if not {"result", "params"} <= set(columns):
        raise Unreadable("not an asv result: result_columns has no 'result' and 'params'")
    if not isinstance(results, dict) or not all(isinstance(row, list) for row in results.values()):
        raise Unreadable("not an asv result: results is not an object of rows")
    if not isinstance(data["params"], dict):
        raise Unreadable("not an asv result: params has the wrong type")
    return data | typed(data, {"commit_hash": NAME}, {})


def find_runs(source: Path) -> tuple[list[Run], list[Problem]]:
    """Every asv result file under `source`, an asv results directory or one result file.

    Looks where asv writes: `source/<machine>/*.json`, and `source/*.json` for one machine's folder.
    """
    if source.is_file():
        paths = [source]
    elif source.is_dir():
        paths = sorted({*source.glob("*.json"), *source.glob("*/*.json")})
        paths = [path for path in paths if not (path.name in SIDE_FILES or os.path.isdir(path))]
    else:
        return [], [problem(source, "no such file or directory")]
    runs: list[Run] = []
    problems: list[Problem] = []
    for folder in source.iterdir() if source.is_dir() else ():
        try:
            os.listdir(folder)
        except PermissionError as error:
            problems.append(problem(folder, f"cannot be listed ({error.strerror})"))
        except OSError:
            continue  # no folder
    side_files = _SideFiles(problems)
    for path in paths:
        try:
            data = _load_result(path)
        except Unreadable as error:
            problems.append(problem(path, str(error)))
        else:
            runs.append(side_files.complete(path, data))
    return runs, problems


class _SideFiles:
    """Reads what stands beside result files, each file once, noting problems."""

    def __init__(self, problems: list[Problem]) -> None:
        self._problems = problems
        self._seen: dict[Path, dict[str, Any]] = {}
        self._reasons: dict[Path, Reasons] = {}

    def _optional(self, path: Path) -> dict[str, Any]:
        if path not in self._seen:
            self._seen[path] = {}
            try:
                self._seen[path] = untrusted.load(path)
            except Missing:
                pass
            except Unreadable as error:
                self._problems.append(problem(path, str(error)))
        return self._seen[path]

    def complete(self, path: Path, data: dict[str, Any]) -> Run:
        """The run of result file `path` with what its neighbours say."""
        folder = path.resolve().parent
        environment = self._optional(folder / "environment.jsonl")
        said = shortened(environment.get("commit") or data["commit_hash"])
        reasons = self._reasons_in(folder)
        # An environment.jsonl of another commit must not lend this run its versions.
        if not (data["commit_hash"].startswith(said) or said.startswith(data["commit_hash"])):
            environment, reasons = {}, {}
        declared = self._optional(folder.parent / "benchmarks.json") or self._optional(
            folder / "benchmarks.json"
        )
        machine = self._optional(folder / "machine.json")
        return Run(path, data, machine, environment, declared, reasons)

    def _reasons_in(self, folder: Path) -> Reasons:
        """All lines of the folder's reasons-*.jsonl; of several for one point the last holds."""
        if folder not in self._reasons:
            self._reasons[folder] = {}
            for path in sorted(folder.glob("reasons-*.jsonl")):
                reasons, problems = load_reasons(path)
                self._reasons[folder] |= reasons
                self._problems += problems
        return self._reasons[folder]


class NoSuchRun(Exception):
    """Raised when no result file is what was asked for; the message lists those there are."""


def choose(runs: list[Run], machine: str = "", commit: str = "", env: str = "") -> Run:
    """The latest run (by commit date, then by when it was measured) of what was asked for.

    `commit` is a prefix of the hash, `env` any part of the environment's name; "" stands for any.
    """
    fitting = [
        run
        for run in runs
        if machine in ("", run.machine) and run.commit.startswith(commit) and env in run.env_name
    ]
    if not fitting:
        known = "; ".join(f"{run.machine} {run.commit[:8]} {run.env_name}" for run in runs)
        raise NoSuchRun(
            f"no result for machine {machine or '(any)'}, commit {commit or '(any)'}, "
            f"environment {env or '(any)'}; there are: {known}"
        )
    start = datetime.fromtimestamp(0, tz=UTC)
    return max(fitting, key=lambda run: (run.date or start, run.measured_at or start))
