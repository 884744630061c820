"""JSON files, and files of JSON lines that several processes may add to."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from sam import checks, files

Record = dict[str, Any]
Fields = Mapping[str, type]
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)  # of a file system


def read(path: Path) -> Record:
    """The table that a JSON file holds; ValueError, naming the file, if it holds none."""
    return _table(files.read(path), str(path))


def write(path: Path, contents: Mapping[str, Any], indent: int | None = 1) -> None:
    """Replace a JSON file."""
    with files.replacing(path) as file:
        file.write((json.dumps(contents, indent=indent) + "\n").encode())


def append(path: Path, record: Mapping[str, Any]) -> None:
    """Add a line; a last one that was cut short is dropped before.

    Raises `files.NotWritten`, and leaves the whole lines as they were, if there is no room.
    """
    line = (json.dumps(record) + "\n").encode()
    with _alone(path) as file:
        end = _end_of_lines(file)
        file.truncate(end)
        if end and os.pread(file.fileno(), 1, end - 1) != b"\n":
            line = b"\n" + line  # all that was cut off
        try:
            while (written := os.fstat(file.fileno()).st_size - end) < len(line):
                file.write(line[written:])
        except OSError as error:
            file.truncate(end)
            if not end:
                path.unlink(missing_ok=True)
            raise files.not_written(path, error, len(line)) from error


def check_writable(path: Path, needed: int) -> None:
    """Raises OSError if lines of so many bytes cannot be added; what is there stays as it is."""
    existed = path.exists()
    with _alone(path):
        space = os.statvfs(path.parent)
        is_full = space.f_bavail * space.f_frsize < needed
        if not existed and not path.stat().st_size:
            path.unlink()
    if is_full:
        raise files.not_written(path, OSError(errno.ENOSPC, ""), needed)


def lines(path: Path, fields: Fields) -> Iterator[Record]:
    """The lines of a file, none if there is no file; a last one that was cut short is left out.

    fields: what each must have, by name, of which kind; int: at least 0, float: finite. Raises
    ValueError, naming file and line, for what is no such table.
    """
    if path.exists():
        with files.opened(path) as file:
            yield from (line.record(path, fields) for line in _lines(file))


def keep(
    path: Path, fields: Fields, wanted: Callable[[Record], bool], *, strict: bool = True
) -> None:
    """Drop the lines that are not wanted, and a last one that was cut short.

    Without a file there is an empty one then. strict: raise ValueError as `lines` does, with the
    file as it was; else lines that are no such tables stay as they are.
    """
    with _alone(path), files.opened(path) as file, files.replacing(path) as kept:
        for line in _lines(file):
            try:
                is_wanted = wanted(line.record(path, fields))
            except ValueError:
                if strict:
                    raise
                is_wanted = True
            if is_wanted:
                kept.write(line.text + b"\n")


class _Line(NamedTuple):
    number: int
    text: bytes

    def record(self, path: Path, fields: Fields) -> Record:
        place = f"{path}, line {self.number}"
        record = _table(self.text, place)
        for name, kind in fields.items():
            if not fits(record.get(name), kind):
                came = checks.shown(record.get(name))
                raise ValueError(f"{place}: {name}: got {came}, expected {KINDS[kind]}")
        return record


def _lines(file: BinaryIO) -> Iterator[_Line]:
    """Those that were written as a whole; of the last one maybe all but its end is there."""
    for number, text in enumerate(file, start=1):
        if text.endswith(b"\n") or _is_whole(text):
            yield _Line(number, text.removesuffix(b"\n"))


def _end_of_lines(file: BinaryIO) -> int:
    """Where a file ends without a last line that was cut short."""
    size = end = file.seek(0, os.SEEK_END)
    tail = b""
    while end > 0 and b"\n" not in tail:
        start = max(0, end - (1 << 16))
        file.seek(start)
        tail, end = file.read(end - start) + tail, start
    last = tail.rpartition(b"\n")[2]
    return size if _is_whole(last) else size - len(last)


def _is_whole(text: bytes) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[BinaryIO]:
    """The file, unbuffered, to read and to append; meanwhile no other process changes it so."""
    path = Path(os.path.realpath(path))
    while True:
        if path.exists() and not path.is_file():
            raise OSError(f"{path}: got no regular file, expected one to add lines to")
        with open(path, "a+b", buffering=0) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
            if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
                yield file
                return


def _table(text: bytes, place: str) -> Record:
    try:
        contents = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"{place}: got JSON that is nested too deep, expected a table") from error
    except ValueError as error:
        raise ValueError(f"{place}: got {error}, expected JSON") from error
    if not isinstance(contents, dict):
        raise ValueError(f"{place}: got {checks.shown(contents)}, expected a table")
    return contents


KINDS = {
    str: "a word",
    int: "an integer of at least 0",
    float: "a finite number",
    dict: "a table",
    object: "a value",
}


def fits(value: Any, kind: type) -> bool:
    """Whether a value is of a kind, as `lines` takes it."""
    if isinstance(value, bool) or value is None:
        return False
    if kind is float:
        return isinstance(value, (int, float)) and abs(value) < math.inf
    if kind is int:
        return isinstance(value, int) and value >= 0
    return isinstance(value, kind)
