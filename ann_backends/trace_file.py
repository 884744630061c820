"""The file that keeps a trace: an .npz archive of arrays and one header of JSON."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import shutil
import threading
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

# A member of the archive takes at most so many times its compressed size: what deflate can do.
MOST_DEFLATED = 1032
HEADER = "header"


def write(path: str | os.PathLike[str], header: Any, arrays: Mapping[str, np.ndarray]) -> None:
    """Write the file, compressed; what stood at `path` is replaced at the end, at once.

    Raises OSError with path, needed and free bytes where it cannot be written; what stood there is
    as it was then, and nothing is left beside it.
    """
    path = Path(path)
    members = _members(header, arrays)
    temporary = path.with_name(f".{os.getpid()}-{threading.get_ident()}.unfinished")
    try:
        with open(temporary, "wb") as file:
            np.savez_compressed(file, **members)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except Exception as error:
        failure = _os_error(error)
        if failure is None:
            raise
        needed = sum(array.nbytes for array in members.values())
        message = f"{os.strerror(failure.errno or errno.EIO)}: a trace of up to {needed} bytes"
        with contextlib.suppress(OSError):
            message += f", {shutil.disk_usage(path.parent).free} bytes are free"
        raise OSError(failure.errno or errno.EIO, message, str(path)) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_to(file: BinaryIO, header: Any, arrays: Mapping[str, np.ndarray]) -> None:
    """Write what `write` writes to a file that is open for it."""
    np.savez_compressed(file, **_members(header, arrays))


def _members(header: Any, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return {HEADER: np.array(json.dumps(header)), **arrays}


def read(file: BinaryIO, names: tuple[str, ...]) -> tuple[Any, dict[str, np.ndarray]]:
    """The header and the arrays of `names` of an open file, whatever bytes it holds.

    Time and memory are bounded by the size of the file. What is no such archive, or claims more
    than it holds, raises some exception that says so.
    """
    if not zipfile.is_zipfile(file):
        raise ValueError("got no zip archive or a truncated one")
    # What warns is not what `write` writes.
    with warnings.catch_warnings(), zipfile.ZipFile(file) as archive:
        warnings.simplefilter("error")
        size = os.fstat(file.fileno()).st_size
        members = {name: _member(archive, name, size) for name in (HEADER, *names)}
        needed = sum(_checked_bytes(archive, name, member) for name, member in members.items())
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        try:
            if needed > there:
                raise MemoryError
            arrays = {name: _array(archive, member) for name, member in members.items()}
        except MemoryError as error:
            raise ValueError(
                f"got arrays of {needed} bytes, expected what fits; this machine has {there}"
            ) from error
    header = arrays.pop(HEADER)
    if header.shape != () or header.dtype.kind != "U":
        raise ValueError(f"{HEADER}: got {header.dtype} {list(header.shape)}, expected one string")
    return json.loads(header.item()), arrays


def _member(archive: zipfile.ZipFile, name: str, file_size: int) -> zipfile.ZipInfo:
    """The member of an array, once what the archive says of its sizes can be true."""
    try:
        member = archive.getinfo(f"{name}.npy")
    except KeyError:
        raise ValueError(f"{name} is not a file in the archive") from None
    ratio = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: MOST_DEFLATED}.get(member.compress_type)
    if ratio is None or member.flag_bits & 1:
        raise ValueError(f"{name}: got a way to pack or to encrypt it that no trace uses")
    if member.file_size > ratio * min(member.compress_size, file_size):
        raise ValueError(
            f"{name}: got {member.file_size} bytes out of {member.compress_size} packed ones "
            f"in a file of {file_size}, which cannot be"
        )
    return member


def _checked_bytes(archive: zipfile.ZipFile, name: str, member: zipfile.ZipInfo) -> int:
    """What an array takes, from its header alone, once the member is known to hold as much."""
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        elif version == (2, 0):
            shape, _, dtype = np.lib.format.read_array_header_2_0(file)
        else:
            raise ValueError(f"{name}: got version {version} of .npy, expected (1, 0) or (2, 0)")
        held = member.file_size - file.tell()
    if dtype.hasobject:
        raise ValueError(f"{name}: got Python objects, expected numbers")
    needed = math.prod(shape) * dtype.itemsize
    if needed != held or min(shape, default=0) < 0:
        raise ValueError(
            f"{name}: got {dtype} {list(shape)}, which takes {needed} bytes, "
            f"but the file holds {held}"
        )
    return needed


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _os_error(error: BaseException | None) -> OSError | None:
    """The first OSError that led to `error`: closing the archive after it fails once more."""
    found = None
    while error is not None:
        found = error if isinstance(error, OSError) else found
        error = error.__context__
    return found
