"""Lines of backends.jsonl and learning.jsonl: what each measure's record has to hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reports import limits, untrusted
from reports.text import LONGEST_NAME, shortened
from reports.untrusted import (
    AMOUNT,
    COUNT,
    FLAG,
    NAME,
    NUMBER,
    POSITIVE,
    SEED,
    SHARE,
    SIZE,
    TABLE,
    TEXT,
    Kind,
    Problem,
    Unreadable,
    list_of,
    typed,
)

Record = dict[str, Any]
COSTS = ("search_us", "search_q25_us", "search_q75_us", "update_us", "update_median_us")


def read(path: Path) -> tuple[list[Record], list[Problem]]:
    """The records in a file, and the lines that make no sense; there may be no file.

    Each has "measure", "commit" and "date", and of the fields below those that it gives, typed.
    One with a "reason" stands for what was not measured.
    """
    found, problems = untrusted.lines(path, _record)
    doubts = [doubt for record in found for doubt in record.pop("doubts")]
    return found, problems + untrusted.named(path, doubts)


def within_limits(records: list[Record], path: Path) -> tuple[list[Record], list[Problem]]:
    """Of one measure's records those that a report has room for, and what is left out."""
    problems: list[Problem] = []
    for names in (("backend", "build"), ("data", "memory_size"), ("task",)):
        records, more = limits.keep_few(records, names, limits.MOST_VALUES, path)
        problems += more
    for size, most in ((_points, limits.MOST_POINTS), (lambda record: 1, limits.MOST_ROWS)):
        records, more = limits.keep_first(records, size, most, path)
        problems += more
    return records, problems


def _points(record: Record) -> int:
    """How many points a record has in figures, beside its own."""
    return len(record.get("loss", ())) + len(record.get("recall_over_time", ()))


def _settings(value: Any) -> Record:
    """A table of settings that has room in a label."""
    found: Record = untrusted.TABLE.read(value)
    if len(in_words(found)) > LONGEST_NAME:
        raise ValueError(value)
    return found


def in_words(settings: Record) -> str:
    """Settings as `checks=32, trees=4`."""
    return ", ".join(f"{key}={shortened(value, LONGEST_NAME)}" for key, value in settings.items())


_SETTINGS = Kind(f"a table of settings of at most {LONGEST_NAME} characters", _settings)
_CALLS = ("search_us", "update_us")
_PLACE: dict[str, Kind] = {"backend": NAME, "memory_size": SIZE, "data": NAME}
_POINT: dict[str, Kind] = {
    **_PLACE,
    "recall": SHARE,
    "access_us": POSITIVE,
    **dict.fromkeys(_CALLS, AMOUNT),
}
MEASURES: dict[str, dict[str, Kind]] = {
    "frontier": _POINT,
    "trace": _POINT,
    "wear": {
        **_PLACE,
        **dict.fromkeys(("recall_fresh", "recall_worn"), SHARE),
        **dict.fromkeys(("search_us_fresh", "search_us_worn"), AMOUNT),
    },
    "learning": {
        **dict.fromkeys(("backend", "task"), NAME),
        "minibatches": list_of(COUNT, limits.MOST_POINTS),
        "loss": list_of(NUMBER, limits.MOST_POINTS),
    },
}
_OPTIONAL: dict[str, Kind] = {
    **dict.fromkeys(("commit", "date", "task"), NAME),
    **dict.fromkeys(("build", "search"), _SETTINGS),
    **_PLACE,
    "default": FLAG,
    **dict.fromkeys(COSTS, AMOUNT),
    **dict.fromkeys(("build_s", "bytes_per_row", "times_overwritten"), AMOUNT),
    **dict.fromkeys(("updated_rows", "rebuilds"), COUNT),
    "recall_over_time": list_of(SHARE, limits.MOST_POINTS),
    "info": TABLE,
    "seed": SEED,
    **dict.fromkeys(("wrong_bits", "seconds"), AMOUNT),
}
_ABSENT: dict[str, Kind] = {"backend": NAME, "reason": TEXT}
_NOTES: dict[str, Kind] = {"stage": NAME, "minibatches": COUNT}


def _record(line: Record) -> Record:
    """A line as a record of its measure. Raises `untrusted.Unreadable` if it makes no sense."""
    measure = line.get("measure")
    if not isinstance(measure, str) or measure not in MEASURES:
        raise Unreadable(f"no record of {', '.join(MEASURES)}")
    needed = _ABSENT if "reason" in line else MEASURES[measure]
    record = {
        "measure": measure,
        "commit": "",
        "date": "",
        "build": {},
        **typed(line, needed, _OPTIONAL),
    }
    if "loss" in record and len(record["minibatches"]) != len(record["loss"]):
        raise Unreadable("minibatches and loss are not of one length")
    return record | _origin(record.pop("info", {}))


def _origin(info: Record) -> Record:
    """What whoever recorded a trace noted of it; a note of another kind is only named."""
    origin: Record = {}
    doubts = []
    for name, kind in _NOTES.items():
        try:
            origin |= typed(info, {}, {name: kind})
        except Unreadable as error:
            doubts.append(f"info of a trace: {error}")
    return {"origin": origin, "doubts": doubts}
