"""From one asv result file to one tidy table: a row per benchmark and parameter combination."""

from __future__ import annotations

import ast
import itertools
import math
import statistics
import warnings
from typing import Any

import pandas as pd

from reports import metrics, untrusted
from reports.files import Run
from reports.limits import MOST_ROWS, MOST_VALUES
from reports.text import LONGEST_NAME, LONGEST_TEXT, got, shortened, visible
from reports.untrusted import (
    LARGEST,
    MOST_COUNT,
    NAME,
    NUMBER,
    SIZE,
    Kind,
    Problem,
    Unreadable,
    list_of,
)

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
BEYOND = "failed: the value is"
NOT_RUN = "not run: not in this result file"

Row = dict[str, Any]


_PARAMETER_KINDS: dict[str, Kind] = {
    **dict.fromkeys(("model", "backend", "data", "memory"), NAME),
    **dict.fromkeys(("memory_size", "sequence_length"), SIZE),
}
_SAMPLES = list_of(NUMBER, 1_000_000)
_POINT = ["quantity", *_PARAMETER_KINDS]


def tidy(run: Run) -> tuple[pd.DataFrame, list[Problem]]:
    """The tidy table of `run`, with columns `COLUMNS`, and the benchmarks that made no sense.

    A value is seconds per step for `step_time`, a recall where what is missed is stored, else as
    asv holds it. `samples` counts the measurements behind the value, whose quartiles are `q25` and
    `q75`; both are empty for quantities measured once. `status` is one of `STATUSES`.
    """
    rows: dict[str, list[Row]] = {}
    wrong: list[str] = []
    entries, room = _declared(run), MOST_ROWS
    for name in _names(run, set(entries)):
        try:
            rows[name], doubts = _benchmark_rows(run, name, entries.get(name), room)
            room -= len(rows[name])
        except Unreadable as error:
            doubts = [str(error)]
        wrong += [f"benchmark {shortened(name, LONGEST_NAME)}: {doubt}" for doubt in doubts]
    every = [row for name in sorted(rows) for row in rows[name]]
    frame = pd.DataFrame(every, columns=list(COLUMNS)).astype(COLUMNS)
    again = frame.duplicated(_POINT) & frame.benchmark.map(metrics.of_benchmark).notna()
    wrong += [f"benchmark {name}: a point twice" for name in frame.benchmark[again].unique()]
    return frame[~again].reset_index(drop=True), untrusted.named(run.path, wrong, most=50)


def _names(run: Run, declared: set[str]) -> list[str]:
    """Benchmarks that ran, known ones, and declared ones; of two for one quantity what ran."""
    ran = set(run.data["results"])

    def others(names: set[str], known: set[str]) -> set[str]:
        """Those of `names` that measure nothing that one of `known` measures."""
        there = {metric.quantity for metric in map(metrics.of_benchmark, known) if metric}
        pairs = ((name, metrics.of_benchmark(name)) for name in names - known)
        return {name for name, metric in pairs if not metric or metric.quantity not in there}

    named = ran | others(declared, ran)
    every = named | others(set(metrics.BY_BENCHMARK), named)
    return sorted(every, key=lambda name: (name not in ran, not metrics.of_benchmark(name), name))


def _declared(run: Run) -> dict[str, dict[str, Any]]:
    """The entries of benchmarks.json that describe benchmarks."""
    return {name: entry for name, entry in run.declared.items() if isinstance(entry, dict)}


def _benchmark_rows(
    run: Run, name: str, declared: dict[str, Any] | None, room: int
) -> tuple[list[Row], list[str]]:
    """At most `room` rows of one benchmark, and what is odd in them.

    declared: its entry in benchmarks.json.
    """
    entry = declared or {}
    common = {
        "machine": run.machine,
        "commit": run.commit,
        "date": run.date.date().isoformat() if run.date else None,
        "benchmark": shortened(name, LONGEST_NAME),
        **_quantity(name, entry),
    }
    not_run: Row = {"status": "not run", "reason": NOT_RUN}
    ran = name in run.data["results"]
    values = _values(run, name, room) if ran else {}
    rows, doubts, beyond = [], [], []
    try:
        # Also parameters that were added to the benchmark since this file was written.
        known = _combinations(name, entry.get("params") or [], room - len(values)) if entry else []
        values |= {key: not_run for key in known if key not in values}
    except Unreadable as error:
        doubts.append(f"benchmarks.json: {error}")
    if not values and not ran:
        if room < 1:
            raise Unreadable(f"a table has {MOST_ROWS:,} rows")
        return [{**common, **not_run}], doubts
    for key, outcome in values.items():
        row = {**common, **_parameters(name, entry, key), **outcome}
        rows.append(_with_reason(run, _in_its_unit(name, row), key))
        if outcome.get("reason", "").startswith(BEYOND):
            beyond.append(f"{outcome['reason']} ({', '.join(key)})")
    more = [f"{len(beyond) - 1:,} more values like it"] if beyond[1:] else []
    return rows, [*doubts, *beyond[:1], *more]


def _quantity(name: str, entry: dict[str, Any]) -> Row:
    """Quantity and unit: from the table of metrics, else from what asv says of the benchmark."""
    metric = metrics.of_benchmark(name)
    if metric:
        return {"quantity": metric.quantity, "unit": metric.unit}
    last = name.rpartition(".")[2]
    unit = entry.get("unit") or ("seconds" if last.startswith("time_") else "unit")
    return {"quantity": shortened(name, LONGEST_NAME), "unit": shortened(unit, LONGEST_NAME)}


def _combinations(name: str, params: Any, room: int) -> list[tuple[str, ...]]:
    """All combinations of the parameters' values, counted before they are listed."""
    if not isinstance(params, list) or not all(isinstance(values, list) for values in params):
        raise Unreadable("its params are not lists")
    count = math.prod(map(len, params))
    if count > room:
        raise Unreadable(f"{_count(count)} parameter combinations; a table has {MOST_ROWS:,} rows")
    longest = max(map(len, params), default=0)
    if metrics.of_benchmark(name) and longest > MOST_VALUES:
        raise Unreadable(f"{longest:,} values of one parameter, at most {MOST_VALUES} are drawn")
    texts = [list(dict.fromkeys(map(shortened, values))) for values in params]
    if list(map(len, texts)) != list(map(len, params)):
        raise Unreadable("a parameter has one value twice")
    return list(itertools.product(*texts))


def _count(count: int) -> str:
    return f"{count:,}" if count < MOST_COUNT else f"more than {MOST_COUNT:,}"


def _values(run: Run, name: str, room: int) -> dict[tuple[str, ...], Row]:
    """Parameter combination -> value, quartiles, samples and status."""
    # asv cuts the nulls at a row's end, so columns past the end stand for null.
    row = dict(zip(run.data["result_columns"], run.data["results"][name], strict=False))
    keys = _combinations(name, row.get("params") or [], room)
    columns: dict[str, list[Any]] = {}
    for column in ("result", "stats_q_25", "stats_q_75", "stats_repeat", "samples"):
        values = row.get(column)
        if values is None:
            values = [None] * len(keys)
        elif not isinstance(values, list) or len(values) != len(keys):
            count = len(values) if isinstance(values, list) else "no list of"
            raise Unreadable(f"{count} {column} values for {len(keys)} parameter combinations")
        columns[column] = values
    return {key: _outcome(*parts) for key, *parts in zip(keys, *columns.values(), strict=True)}


def _outcome(value: object, q25: object, q75: object, repeat: object, samples: object) -> Row:
    if isinstance(value, float) and math.isnan(value):
        return {"status": "skipped", "reason": SKIPPED}
    if isinstance(value, bool) or not isinstance(value, int | float):
        return {"status": "failed", "reason": FAILED}
    measured = _read(value, NUMBER)
    if measured is None:
        what = "infinite" if math.isinf(value) else f"{value:g}, beyond {LARGEST:g}"
        return {"status": "failed", "reason": f"{BEYOND} {what}"}
    row: Row = {"value": measured, "status": "measured"}
    numbers = _read(samples, _SAMPLES)
    if numbers:
        row["samples"] = len(numbers)
        if len(numbers) > 1:
            row["q25"], _, row["q75"] = statistics.quantiles(numbers, n=4, method="inclusive")
    elif (count := _read(repeat, SIZE)) is not None:
        row["samples"] = count
    low, high = _read(q25, NUMBER), _read(q75, NUMBER)
    if low is not None and high is not None:
        row["q25"], row["q75"] = low, high
    return row


def _read(value: Any, kind: Kind) -> Any:
    """A value that is left out where it is not of its kind."""
    try:
        return kind.read(value)
    except ValueError:
        return None


def _parameters(name: str, entry: dict[str, Any], key: tuple[str, ...]) -> Row:
    """The parameters by name; those that have no column of their own go into `parameters`."""
    metric = metrics.of_benchmark(name)
    names = entry.get("param_names")
    if not isinstance(names, list) or not names:
        names = list(metric.parameters) if metric else []
    names = [shortened(each, LONGEST_NAME) for each in names]
    if metric and len(names) != len(key):
        raise Unreadable(f"{len(key)} parameters, expected {len(names)}: {', '.join(names)}")
    row: Row = {"sequence_length": metric.sequence_length} if metric else {}
    others = []
    for number, text in enumerate(key):
        label = names[number] if number < len(names) else f"parameter {number + 1}"
        value = literal(text)
        kind = _PARAMETER_KINDS.get(label)
        if kind is NAME and (metric or label == "model"):
            value = shortened(value, LONGEST_NAME + 1)
        known = (
            _read(value, kind) if kind and (metric or kind is SIZE or label == "model") else None
        )
        if known is not None:
            row[label] = known
        elif metric:
            expected = kind.words if kind else f"one of {', '.join(_PARAMETER_KINDS)}"
            raise Unreadable(f"{label} is {got(value)}, expected {expected}")
        else:
            others.append(f"{label}={value}")
    row["parameters"] = shortened(", ".join(others), LONGEST_TEXT) or None
    return row


def literal(text: str) -> Any:
    """What a parameter's `repr`, as asv stores it, stands for: text, a number, or the `repr`."""
    if len(text) > LONGEST_NAME:
        return text
    try:
        with warnings.catch_warnings(action="ignore"):
            value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    if isinstance(value, str):
        return visible(value)
    return value if isinstance(value, int | float | None) else text


def _in_its_unit(name: str, row: Row) -> Row:
    """Values as `tidy` has them: of one step, or the recall where what is missed is stored."""
    metric = metrics.of_benchmark(name)
    if not metric or row["status"] != "measured":
        return row
    if metric.missed:
        found = {"value": "value", "q25": "q75", "q75": "q25"}
        # 1 - 0.07 is 0.9299999999999999.
        return row | {new: round(1 - row[old], 12) for new, old in found.items() if old in row}
    if metric.per_step:
        columns = [column for column in ("value", "q25", "q75") if column in row]
        return row | {column: row[column] / row["sequence_length"] for column in columns}
    return row


def _with_reason(run: Run, row: Row, key: tuple[str, ...]) -> Row:
    """A skip's own reason, where the benchmarks noted one beside their results."""
    if row["status"] != "skipped":
        return row
    owner = row["benchmark"].split(".")[-2:][0]
    reason = run.reasons.get((owner, *map(literal, key)))
    return {**row, "reason": f"skipped: {reason}"} if reason else row
