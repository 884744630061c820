"""What the commands share: settings from flags, each a key with a value."""

from __future__ import annotations

import argparse
import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sam import checks, files
from sam.models import MODELS, settings_of
from sam.tasks import TASKS, Curriculum
from sam.training import OptimizerSettings, RunSettings, plain


def pair(text: str) -> tuple[str, Any]:
    """KEY=VALUE, the value as TOML reads it, or a bare word as a string."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected KEY=VALUE")
    return key, parsed(value)


def parsed(value: str) -> Any:
    """A number, true, false, a list or a quoted string as in TOML; anything else is a string."""
    try:
        table = tomllib.loads(f"value = {value}")
    except (ValueError, RecursionError):
        return value
    return table["value"] if len(table) == 1 else value


def read_toml(path: Path) -> dict[str, Any]:
    """Raises ValueError or TypeError, naming the file, if it is not TOML of settings.

    A byte-order mark, with which editors of Windows begin a file, is skipped.
    """
    try:
        table = tomllib.loads(files.read(path).decode("utf-8-sig"))
    except RecursionError as error:
        raise ValueError(f"{path}: got TOML that is nested too deep") from error
    except ValueError as error:
        raise ValueError(f"{path}: got {error}, expected a TOML file") from error
    try:
        plain.check("", table)
    except (ValueError, TypeError) as error:
        raise type(error)(f"{path}: {error}") from error
    return table


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`above` over `below`, tables one by one."""
    both = dict(below)
    for key, value in above.items():
        mine = both.get(key)
        both[key] = (
            merged(mine, value) if isinstance(mine, dict) and isinstance(value, dict) else value
        )
    return both


def nested(name: str, value: Any) -> dict[str, Any]:
    """{"a": {"b": value}} of "a.b"."""
    first, _, rest = name.partition(".")
    return {first: nested(rest, value) if rest else value}


def full_name(name: str, settings: Mapping[str, Any]) -> str:
    """A setting of a run with the table that it is in, such as "optimizer.learning_rate".

    name: that, or what stands behind the dot where only one table has it. Raises ValueError for
    one that is unknown, with the nearest, or is in several tables.
    """
    top = [field.name for field in dataclasses.fields(RunSettings)]
    if name.partition(".")[0] in top:
        return name
    task: Any = TASKS[settings["task"]]
    tables = {
        "optimizer": [field.name for field in dataclasses.fields(OptimizerSettings)],
        "curriculum": [field.name for field in dataclasses.fields(Curriculum)],
        "model_settings": settings_of(MODELS[settings["model"]]),
        "task_settings": [field.name for field in dataclasses.fields(task)],
    }
    found = [f"{table}.{name}" for table, names in tables.items() if name in names]
    if len(found) > 1:
        raise ValueError(f"override: got {name!r}, expected one of {', '.join(found)}")
    checks.one_of("override", name, [*top, *(each for names in tables.values() for each in names)])
    return found[0]


def add_pairs(parser: Any, flag: str, help: str) -> None:
    """A flag that takes KEY=VALUE and may be given several times."""
    parser.add_argument(
        flag, type=pair, action="append", default=[], metavar="KEY=VALUE", help=help
    )
