"""Files that are written whole or not at all, and that outlast a power cut."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file for what `path` shall hold; whoever reads `path` sees all of it or none.

    What stands at `path` is replaced once the new file is on the disk; an exception, or the end of
    the process, before that leaves it as it was.
    """
    unfinished = path.with_name(path.name + ".unfinished")
    with open(unfinished, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)
    sync(path.parent)  # the new name, too


def sync(path: Path) -> None:
    """Returns when what was written to a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
