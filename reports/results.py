"""From one asv result file to one tidy table: a row per benchmark and parameter combination."""

from __future__ import annotations

import ast
import itertools
import math
import statistics
from typing import Any

import pandas as pd

from reports import metrics
from reports.files import Problem, Run

COLUMNS = {
    "machine": "string",
    "commit": "string",
    "date": "string",
    "benchmark": "string",
    "model": "string",
    "backend": "string",
    "data": "string",
    "memory": "string",
    "memory_size": "Int64",
    "sequence_length": "Int64",
    "parameters": "string",
    "quantity": "string",
    "unit": "string",
    "value": "float64",
    "q25": "float64",
    "q75": "float64",
    "samples": "Int64",
    "status": "string",
    "reason": "string",
}
STATUSES = ("measured", "skipped", "failed", "not run")

# asv stores NaN both for a skip in setup and for what a `--bench` pattern left out.
SKIPPED = (
    "skipped in setup: needs more memory or time than the profile allows "
    "(or left out by a --bench pattern)"
)
FAILED = "failed: an error or a timeout"
NOT_RUN = "not run: not in this result file"

Row = dict[str, Any]


def tidy(run: Run) -> tuple[pd.DataFrame, list[Problem]]:
    """The tidy table of `run`, with columns `COLUMNS`, and the benchmarks that made no sense.

    A value is seconds per step for `step_time`, else as asv holds it. `samples` counts the
    measurements behind the value, whose quartiles are `q25` and `q75`; both are empty for
    quantities measured once. `status` is one of `STATUSES`.
    """
    rows: list[Row] = []
    problems: list[Problem] = []
    for name in sorted(set(run.data["results"]) | set(_declared(run)) | set(metrics.BY_BENCHMARK)):
        try:
            rows.extend(_benchmark_rows(run, name))
        except _Malformed as error:
            problems.append(Problem(str(run.path), f"benchmark {name}: {error}"))
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    return frame, problems


class _Malformed(Exception):
    """Raised with the reason why one benchmark's row cannot be read."""


def _declared(run: Run) -> dict[str, dict[str, Any]]:
    """The entries of benchmarks.json that describe benchmarks."""
    return {name: entry for name, entry in run.declared.items() if isinstance(entry, dict)}


def _benchmark_rows(run: Run, name: str) -> list[Row]:
    entry = _declared(run).get(name, {})
    common = {
        "machine": run.machine,
        "commit": run.commit,
        "date": run.date.date().isoformat() if run.date else None,
        "benchmark": name,
        **_quantity(name, entry),
    }
    declared = _combinations(entry.get("params") or []) if entry else []
    ran = name in run.data["results"]
    if not ran and not declared:
        return [{**common, "status": "not run", "reason": NOT_RUN}]
    values = _values(run, name) if ran else {}
    # Also parameters that were added to the benchmark since this file was written.
    for key in declared:
        values.setdefault(key, {"status": "not run", "reason": NOT_RUN})
    rows = []
    for key, outcome in values.items():
        row = {**common, **_parameters(name, entry, key), **outcome}
        rows.append(_with_reason(run, _per_step(name, row), key))
    return rows


def _quantity(name: str, entry: dict[str, Any]) -> Row:
    """Quantity and unit: from the table of metrics, else from what asv says of the benchmark."""
    metric = metrics.BY_BENCHMARK.get(name)
    if metric:
        return {"quantity": metric.quantity, "unit": metric.unit}
    last = name.rpartition(".")[2]
    unit = entry.get("unit") or ("seconds" if last.startswith("time_") else "unit")
    return {"quantity": name, "unit": str(unit)}


def _combinations(params: list[list[str]]) -> list[tuple[str, ...]]:
    if not isinstance(params, list) or not all(isinstance(values, list) for values in params):
        raise _Malformed("its params are not lists")
    return [tuple(map(str, key)) for key in itertools.product(*params)]


def _values(run: Run, name: str) -> dict[tuple[str, ...], Row]:
    """Parameter combination -> value, quartiles, samples and status."""
    # asv cuts the nulls at a row's end, so columns past the end stand for null.
    row = dict(zip(run.data["result_columns"], run.data["results"][name], strict=False))
    keys = _combinations(row.get("params") or [])
    columns: dict[str, list[Any]] = {}
    for column in ("result", "stats_q_25", "stats_q_75", "stats_repeat", "samples"):
        values = row.get(column)
        if values is None:
            values = [None] * len(keys)
        elif not isinstance(values, list) or len(values) != len(keys):
            count = len(values) if isinstance(values, list) else "no list of"
            raise _Malformed(f"{count} {column} values for {len(keys)} parameter combinations")
        columns[column] = values
    return {key: _outcome(*parts) for key, *parts in zip(keys, *columns.values(), strict=True)}


def _outcome(value: object, q25: object, q75: object, repeat: object, samples: object) -> Row:
    if not _is_number(value):
        return {"status": "failed", "reason": FAILED}
    assert isinstance(value, int | float)
    if math.isnan(value):
        return {"status": "skipped", "reason": SKIPPED}
    if math.isinf(value):
        return {"status": "failed", "reason": "failed: the value is infinite"}
    row: Row = {"value": float(value), "status": "measured"}
    if isinstance(samples, list) and samples and all(map(_is_number, samples)):
        row["samples"] = len(samples)
        if len(samples) > 1:
            row["q25"], _, row["q75"] = statistics.quantiles(samples, n=4, method="inclusive")
    elif isinstance(repeat, int):
        row["samples"] = repeat
    if _is_number(q25) and _is_number(q75):
        row["q25"], row["q75"] = q25, q75
    return row


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _parameters(name: str, entry: dict[str, Any], key: tuple[str, ...]) -> Row:
    """The parameters by name; those that have no column of their own go into `parameters`."""
    metric = metrics.BY_BENCHMARK.get(name)
    names = entry.get("param_names")
    if not isinstance(names, list) or not names:
        names = list(metric.parameters) if metric else []
    if metric and len(names) != len(key):
        raise _Malformed(f"{len(key)} parameters, expected {len(names)}: {', '.join(names)}")
    row: Row = {"sequence_length": metric.sequence_length} if metric else {}
    others = []
    for number, text in enumerate(key):
        label = str(names[number]) if number < len(names) else f"parameter {number + 1}"
        value = _literal(text)
        if label == "model" or (metric and label in ("backend", "data", "memory")):
            row[label] = str(value)
        elif label in ("memory_size", "sequence_length") and type(value) is int and value > 0:
            row[label] = value
        elif metric:
            raise _Malformed(f"{label} is {text}, expected a positive whole number")
        else:
            others.append(f"{label}={value}")
    row["parameters"] = ", ".join(others) or None
    return row


def _literal(text: str) -> object:
    """asv stores parameters as `repr` strings."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def _per_step(name: str, row: Row) -> Row:
    metric = metrics.BY_BENCHMARK.get(name)
    if metric and metric.per_step and row["status"] == "measured":
        for column in ("value", "q25", "q75"):
            if column in row:
                row[column] = row[column] / row["sequence_length"]
    return row


def _with_reason(run: Run, row: Row, key: tuple[str, ...]) -> Row:
    """A skip's own reason, where the benchmarks noted one beside their results."""
    if row["status"] != "skipped":
        return row
    owner = row["benchmark"].split(".")[-2:][0]
    reason = run.reasons.get((owner, *map(_literal, key)))
    return {**row, "reason": f"skipped: {reason}"} if reason else row
