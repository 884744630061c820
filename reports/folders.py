"""Replacing a report's files only when all of the new ones are there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

Say = Callable[[str], None]


def beside(out: Path) -> tempfile.TemporaryDirectory[str]:
    """A folder on the same file system as `out`, so that moving is atomic."""
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"{out} is not a directory")
    out.parent.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(prefix=".report-", dir=out.parent)


def move(folder: Path, out: Path, last: str) -> Path:
    """Move file by file (other files in `out` are the user's), the page `last`; returns that."""
    out.mkdir(exist_ok=True)
    for path in sorted(folder.iterdir(), key=lambda path: path.name == last):
        os.replace(path, out / path.name)
    return out / last
