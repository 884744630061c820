"""Locks on files: the system drops them with the process that holds them, however it ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class FileLock:
    """A lock that one process has at a time, on any machine that shares the file system."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)

    def take(self) -> bool:
        """Whether it could be had; it is kept until `drop` or the end of the process."""
        return self._ask(fcntl.LOCK_EX)

    def drop(self) -> None:
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def is_held_elsewhere(self) -> bool:
        if not self._ask(fcntl.LOCK_SH):
            return True
        self.drop()
        return False

    def close(self) -> None:
        os.close(self._file)

    def _ask(self, kind: int) -> bool:
        try:
            fcntl.flock(self._file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
