"""The files of one training run, and what of them cannot be read."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from reports.files import Problem

Settings = dict[str, Any]
Row = dict[str, Any]
_OPTIONAL = ("seconds", "data_seconds", "model_seconds")  # not in every version's lines


def settings(path: Path) -> Settings:
    """What run.json holds. Raises ValueError with the reason if that is no run."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError("not valid JSON, truncated or damaged") from error
    if not isinstance(found, dict):
        raise ValueError(f"got {type(found).__name__}, expected a table of settings")
    for name, kind in (("model", str), ("task", str), ("seed", int)):
        if not isinstance(found.get(name), kind):
            raise ValueError(f"{name}: got {found.get(name)!r}, expected {kind.__name__}")
    for name in ("model_settings", "task_settings", "optimizer", "curriculum"):
        if not isinstance(found.get(name) or {}, dict):
            raise ValueError(f"{name}: got {found[name]!r}, expected a table of settings")
    return found


def records(path: Path, needed: Iterable[str]) -> tuple[list[Row], list[Problem]]:
    """The lines of a file; the last one may be cut short, as a killed run leaves it."""
    if not path.exists():
        return [], []
    found, problems = [], []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except ValueError:
            if number < len(lines):
                problems.append(Problem(str(path), f"line {number}: not valid JSON, damaged"))
            continue
        wrong = _what_is_wrong(record, needed)
        if wrong:
            problems.append(Problem(str(path), f"line {number}: {wrong}"))
        else:
            found.append(record)
    return found, problems


def _what_is_wrong(record: Any, needed: Iterable[str]) -> str:
    if not isinstance(record, dict):
        return f"got {type(record).__name__}, expected a table"
    if record.get("kind") not in ("train", "evaluation"):
        return ""
    for name in needed:
        if not _is_number(record.get(name)):
            return f"{name}: got {record.get(name)!r}, expected a finite number"
    for name in _OPTIONAL:
        if name in record and not _is_number(record[name]):
            return f"{name}: got {record[name]!r}, expected a finite number"
    if record["kind"] == "evaluation":
        return _what_is_wrong_with_answers(record)
    return ""


def _what_is_wrong_with_answers(record: Row) -> str:
    """What an evaluation says beside its means: of which split, of how many answers."""
    # Tasks of bits draw fresh sequences; the first versions of the trainer did not say so.
    if not isinstance(record.setdefault("split", "fresh"), str):
        return f"split: got {record['split']!r}, expected the name of a split"
    scored: Any = record.get("scored")
    if record["split"] != "fresh" and not (_is_number(scored) and scored > 0):
        return f"scored: got {scored!r}, expected a number above 0"
    shares = record.get("errors_by_presentation")
    if shares is not None and not (isinstance(shares, list) and all(map(_is_number, shares))):
        return f"errors_by_presentation: got {shares!r}, expected a list of finite numbers"
    return ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def failure(folder: Path) -> tuple[str, str]:
    """How a run that failed ended, "diverged" or "failed", and why; both "" if it did not."""
    if (folder / "failure.json").exists():
        reason = _read(folder / "failure.json").get("error")
        return "diverged", str(reason or "its failure.json cannot be read")
    outcome = _read(folder / "outcome.json")  # as a sweep writes it
    if outcome.get("status") in ("diverged", "failed"):
        return outcome["status"], str(outcome.get("message") or "no reason given")
    return "", ""


def _read(path: Path) -> Row:
    """What a file of JSON holds; nothing if it is not there or damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
