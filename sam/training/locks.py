"""Locks on files: the system drops them with the process that holds them, however it ends."""

from __future__ import annotations

import contextlib
import datetime
import errno
import fcntl
import os
import re
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)  # of a file system
WAIT_SECONDS = 0.5  # for who looks only, or is just ending
POLL_SECONDS = 0.05


class FileLock:
    """A lock that one process has at a time, on any machine that shares the file system."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = self._opened()
        self._is_held = False

    def take(self) -> bool:
        """Whether it could be had; it is kept until `drop` or the end of the process."""
        while self._ask(fcntl.LOCK_EX):
            if self.is_in_place():
                self._is_held = True
                self._note(f"process {os.getpid()} on {socket.gethostname()}, since {_now()}")
                return True
            os.close(self._file)  # it has been removed, so another process may lock a new one
            self._file = self._opened()
        return False

    def take_within(self, seconds: float) -> bool:
        """Whether it could be had before so many seconds have gone by."""
        until = time.monotonic() + seconds
        while not self.take():
            if time.monotonic() > until:
                return False
            time.sleep(POLL_SECONDS)
        return True

    def holder(self) -> str:
        """Who has it, as far as the file says: process, machine and since when."""
        said = os.pread(self._file, 200, 0).decode(errors="replace").strip()
        return said if re.fullmatch(r"process \d+ on [\w.-]+, since [\d :-]+", said) else "another"

    def is_in_place(self) -> bool:
        """Whether the file that is locked still lies at its path, so that others meet the lock."""
        try:
            return os.path.samestat(os.fstat(self._file), os.stat(self.path))
        except FileNotFoundError:
            return False

    def check(self) -> None:
        """Raises FileNotFoundError if it is in place no more, and another may write there."""
        if not self.is_in_place():
            raise FileNotFoundError(
                f"{self.path.parent}: it, or {self.path.name} in it, was moved or removed while "
                "this process trained in it, which therefore stops; what was saved before is kept"
            )

    def drop(self) -> None:
        if self._is_held:
            self._note("")
            self._is_held = False
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def is_held_elsewhere(self) -> bool:
        if not self._ask(fcntl.LOCK_SH):
            return True
        fcntl.flock(self._file, fcntl.LOCK_UN)
        return False

    def close(self) -> None:
        if self._is_held:
            self.drop()
        os.close(self._file)

    def _opened(self) -> int:
        return os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)

    def _note(self, text: str) -> None:
        """Only a help for whoever finds it locked: a full disk does not matter."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, text.encode(), 0)

    def _ask(self, kind: int) -> bool:
        try:
            fcntl.flock(self._file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[FileLock]:
    """A run's folder, which need not exist yet, for this process; the lock on it.

    Raises BlockingIOError, naming the other process, if one trains in it. What was made for the
    lock goes again if nothing came to lie beside it. On a file system without locks it warns.
    """
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "run.lock"
    is_new = not path.exists()
    lock = FileLock(path)
    try:
        if not _taken(lock):
            raise BlockingIOError(f"{folder}: {lock.holder()} trains in it, expected to be alone")
        try:
            yield lock
        finally:
            if is_new and lock.is_in_place() and os.listdir(folder) == [path.name]:
                _remove(path, made)
    finally:
        lock.close()


def _taken(lock: FileLock) -> bool:
    try:
        return lock.take_within(WAIT_SECONDS)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        print(
            f"{lock.path}: this file system has no locks ({error.strerror}), so nothing keeps "
            "another process from training in the same folder",
            file=sys.stderr,
        )
        return True


def _remove(file: Path, folders: list[Path]) -> None:
    with contextlib.suppress(OSError):  # somebody else uses it by now
        file.unlink()
        for folder in folders:
            folder.rmdir()


def _now() -> str:
    return datetime.datetime.now().isoformat(sep=" ", timespec="seconds")
