"""Putting a report in place: all of it or nothing, whatever the folder is."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

Say = Callable[[str], None]
Files = dict[str, bytes]

_PREFIX, _SUFFIX = ".report-", ".unfinished"  # of a scratch folder
# In a scratch folder: files being written; all of them, being put in place; what they replace.
_NEW, _READY, _OLD = "new", "ready", "old"
_BLOCK = 4096  # what a file takes at least


class NoRoom(OSError):
    """Raised when a report does not fit on its disk."""


def check(out: Path) -> None:
    """Raises OSError if no report can be written to `out`, before anything is computed."""
    place = Path(os.path.realpath(out))
    while not os.path.lexists(place):
        place = place.parent
    if not place.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "not a directory", str(place))
    effective = os.access in os.supports_effective_ids
    if not os.access(place, os.W_OK | os.X_OK, effective_ids=effective):
        raise PermissionError(errno.EACCES, "cannot be written to", str(place))


def put(files: Mapping[str, bytes], out: Path, last: str) -> Path:
    """Write `files`, by name, into `out`, the page `last` as the last one; returns its path.

    `out` may be a link or a mount point, and its parent may be read-only: the files are first
    written into a folder inside it. Other files in it are the user's. Raises OSError (`NoRoom`
    where they do not fit) and leaves what stands in `out` as it was.
    """
    check(out)
    target = Path(os.path.realpath(out))
    made = [path for path in (target, *target.parents) if not path.exists()]
    try:
        target.mkdir(parents=True, exist_ok=True)
        with _alone(target), _scratch(target) as scratch:
            _refuse_folders(files, target)
            _refuse_full_disk(files, target)
            ready = _write(files, scratch)
            _exchange(ready, target, scratch, [*sorted(files.keys() - {last}), last])
    except BaseException as error:
        for path in made:
            with contextlib.suppress(OSError):
                path.rmdir()
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _no_room(files, target) from error
        raise
    return out / last


@contextlib.contextmanager
def _alone(target: Path) -> Iterator[None]:
    """No other report is put into `target` meanwhile; one whose process was killed is finished."""
    folder = os.open(target, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # not every network file system has locks
            fcntl.flock(folder, fcntl.LOCK_EX)
            for left in filter(_is_ours, target.glob(f"{_PREFIX}*{_SUFFIX}")):
                # Pages last, as above.
                paths = sorted((left / _READY).glob("*"), key=lambda path: path.suffix == ".html")
                for path in paths:
                    os.replace(path, target / path.name)
                shutil.rmtree(left)
        yield
    finally:
        os.close(folder)


def _is_ours(folder: Path) -> bool:
    """Whether it is a scratch folder, by all that is in it."""
    return (
        folder.is_dir()
        and not folder.is_symlink()
        and {*os.listdir(folder)} <= {_NEW, _READY, _OLD}
    )


@contextlib.contextmanager
def _scratch(target: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(
        prefix=_PREFIX, suffix=_SUFFIX, dir=target, ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder)


def _refuse_folders(files: Mapping[str, bytes], target: Path) -> None:
    for name in files:
        path = target / name
        if path.is_dir() and not path.is_symlink():
            raise IsADirectoryError(errno.EISDIR, "a folder is in the way of a file", str(path))


def _refuse_full_disk(files: Mapping[str, bytes], target: Path) -> None:
    disk = shutil.disk_usage(target)
    if disk.total and disk.free < _needed(files):  # some file systems know no sizes
        raise _no_room(files, target)


def _needed(files: Mapping[str, bytes]) -> int:
    return sum(-(-len(content) // _BLOCK) * _BLOCK for content in files.values())


def _no_room(files: Mapping[str, bytes], target: Path) -> NoRoom:
    place = target
    while not place.exists():
        place = place.parent
    needed, free = _needed(files), shutil.disk_usage(place).free
    words = f"{target}: no space left on device: needs {needed:,} bytes, {free:,} are free"
    return NoRoom(words if free < needed else f"{words} (a quota, or no room for more files)")


def _write(files: Mapping[str, bytes], scratch: Path) -> Path:
    """The folder with all files, which has this name only once they are complete."""
    new, ready = scratch / _NEW, scratch / _READY
    new.mkdir()
    for name, content in files.items():
        (new / name).write_bytes(content)
    return new.rename(ready)


def _exchange(ready: Path, target: Path, scratch: Path, names: list[str]) -> None:
    """Move file by file; if one cannot be moved, all are as they were."""
    old = scratch / _OLD
    old.mkdir()
    fresh = [name for name in names if not os.path.lexists(target / name)]
    try:
        for name in names:
            _keep(target / name, old / name)
            os.replace(ready / name, target / name)
    except BaseException:
        shutil.rmtree(ready, ignore_errors=True)
        for name in names:
            with contextlib.suppress(OSError):  # a file that cannot be moved is where it was
                if os.path.lexists(old / name):
                    os.replace(old / name, target / name)
                elif name in fresh:
                    (target / name).unlink(missing_ok=True)
        raise


def _keep(path: Path, aside: Path) -> None:
    """A second name for a file, if there is one; where there are no hard links its only name."""
    if not os.path.lexists(path):
        return
    try:
        os.link(path, aside, follow_symlinks=False)
    except (OSError, NotImplementedError):
        os.rename(path, aside)
