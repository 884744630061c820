"""What the commands share: settings from flags, each a key with a value."""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path
from typing import Any


def pair(text: str) -> tuple[str, Any]:
    """KEY=VALUE, the value as TOML reads it, or a bare word as a string."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected KEY=VALUE")
    return key, parsed(value)


def parsed(value: str) -> Any:
    """A number, true, false, a list or a quoted string as in TOML; anything else is a string."""
    try:
        return tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return value


def read_toml(path: Path) -> dict[str, Any]:
    """Raises ValueError, naming the file, if it is not TOML."""
    try:
        return tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: got {error}, expected a TOML file") from error


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`above` over `below`, tables one by one."""
    both = dict(below)
    for key, value in above.items():
        mine = both.get(key)
        both[key] = (
            merged(mine, value) if isinstance(mine, dict) and isinstance(value, dict) else value
        )
    return both


def add_pairs(parser: Any, flag: str, help: str) -> None:
    """A flag that takes KEY=VALUE and may be given several times."""
    parser.add_argument(
        flag, type=pair, action="append", default=[], metavar="KEY=VALUE", help=help
    )
