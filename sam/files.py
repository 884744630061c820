"""Files that are written whole or not at all, that outlast a power cut, and are read in bounds."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import resource
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

MOST_BYTES = 1 << 28  # of a file that is read as a whole; what `sam` writes so has some kilobytes


class NotWritten(OSError):
    """A file that could not be written: which, why, and how much room it needs and has."""

    def __str__(self) -> str:
        return str(self.strerror)


def not_written(path: Path, error: OSError, needed: int) -> NotWritten:
    """What to raise when `needed` bytes could not be written to `path`; one line."""
    text = f"{path}: {os.strerror(error.errno) if error.errno else error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        space = os.statvfs(path.parent)
        text += f": {needed:,} bytes are needed, {space.f_bavail * space.f_frsize:,} are free"
    elif error.errno == errno.EFBIG:
        most, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        text += f": {needed:,} bytes are needed, {most:,} are allowed"
    return NotWritten(error.errno, text + ("; the old file is kept" if path.exists() else ""))


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file for what `path` shall hold; whoever reads `path` sees all of it or none.

    What stands at `path`, or where the link there leads to, is replaced once the new file is on
    the disk. An exception, or the end of the process, before that leaves it as it was; a part of
    the new file stays only if the process is killed. The file can only be written to, in order.

    Raises NotWritten, at the end of the block, if there is no room or it cannot be written.
    """
    path = Path(os.path.realpath(path))
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.unfinished")
    stream = _Stream(unfinished)
    try:
        yield stream  # type: ignore[misc]
        with stream.noting_errors():
            stream.finish()
            os.replace(unfinished, path)
            sync(path.parent)  # the new name, too
    finally:
        stream.drop()
    if stream.error is not None:
        raise not_written(path, stream.error, stream.size) from stream.error


class _Stream(io.BufferedIOBase):
    """A file that takes note of the first error, and then goes on counting what it is given.

    So whoever writes to it ends as usual (archives would fail a second time while they are being
    closed), and all that is needed is known.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.size = 0
        self.error: OSError | None = None
        self._path = path
        self._file: BinaryIO | None = None
        with self.noting_errors():
            self._file = open(path, "wb")  # noqa: SIM115

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        self.size += size
        if self._file is not None and self.error is None:
            with self.noting_errors():
                self._file.write(data)
        return size

    def finish(self) -> None:
        """Returns when all is on the disk; raises the error that has been noted."""
        if self.error is not None or self._file is None:
            raise self.error or ValueError("not open")
        self._file.flush()
        os.fsync(self._file.fileno())

    def drop(self) -> None:
        """Close the file, and remove it where it still has its first name."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # it has been noted, or is not wanted any more
                self._file.close()
            self._path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def noting_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.error = self.error or error


def sync(path: Path) -> None:
    """Returns when what was written to a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def opened(path: Path) -> BinaryIO:
    """A file to read. Raises OSError for what is none, such as a folder or a pipe."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(f"{path}: got no regular file, expected one to read")
    return open(path, "rb")


def read(path: Path) -> bytes:
    """All that a small file holds. Raises OSError, and ValueError for more than 256 MiB."""
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MOST_BYTES:
            raise ValueError(f"{path}: got {size:,} bytes, expected at most {MOST_BYTES:,}")
        return file.read(MOST_BYTES)
