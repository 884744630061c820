"""Settings as plain data: what JSON, TOML and checkpoints hold alike."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import ann_backends
from sam import checks

DEEPEST = 16  # tables in tables; files may nest them without end
MOST = 100_000  # values in all


def check(name: str, value: Any) -> None:
    """Raises TypeError or ValueError, naming the place, for what is no plain data.

    That is numbers, strings, None, and lists and tables of them: finite, of at most 64 bits, and
    so few and flat that everything after this may look at all of them.
    """
    left, seen = [(name, value, 0)], 0
    while left:
        name, value, depth = left.pop()
        seen += 1
        if depth > DEEPEST:
            raise ValueError(f"{name[:200]}: got tables or lists more than {DEEPEST} deep")
        if seen > MOST:
            raise ValueError(f"{name[:200]}: got more than {MOST} values, expected settings")
        if _is_settings(value):
            value = _fields(value)
        if isinstance(value, Mapping):
            for key, each in value.items():
                if not isinstance(key, str):
                    raise TypeError(f"{name}: got {checks.shown(key)}, expected names of settings")
                left.append((f"{name}.{key}" if name else key, each, depth + 1))
        elif isinstance(value, (list, tuple)):
            left += [(name, each, depth + 1) for each in value]
        elif isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name}: got {value}, expected a finite number")
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ValueError(f"{name}: got {checks.shown(value)}, expected one of at most 64 bits")
        elif not isinstance(value, (str, int, float, type(None))):
            raise TypeError(
                f"{name}: got {checks.shown(value)}, expected a number, string, list or table"
            )


def plain(value: Any) -> Any:
    """A setting that `check` lets through, as dicts, lists, strings and numbers."""
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if _is_settings(value):
        chosen = {"name": value.name} if isinstance(value, ann_backends.Settings) else {}
        return chosen | plain(_fields(value))
    return value


def flat(mapping: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Tables within a mapping, unfolded: {"a": {"b": 1}} is {"a.b": 1}."""
    unfolded: dict[str, Any] = {}
    for name, value in mapping.items():
        unfolded |= (
            flat(value, f"{above}{name}.") if isinstance(value, Mapping) else {above + name: value}
        )
    return unfolded


def _is_settings(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
