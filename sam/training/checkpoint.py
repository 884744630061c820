"""Checkpoints: written whole or not at all, and read without running anything that is in them."""

from __future__ import annotations

import os
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch

from sam import checks, files

FORMAT, VERSION = "sparse-access-memory checkpoint", 1
MOST_PICKLE = 1 << 24  # bytes of all that is no tensor; the losses of a curriculum's window
DEEPEST = 32


class CheckpointError(ValueError):
    """A file that is no checkpoint, or not one that this version can go on from."""


def write(path: Path, contents: dict[str, Any]) -> None:
    """Write tensors, numbers, strings, and dicts and lists of them, in the place of `path`."""
    with files.replacing(path) as file:
        torch.save({"format": FORMAT, "version": VERSION, **contents}, file)


def read(path: Path) -> dict[str, Any]:
    """What `write` was given.

    Raises CheckpointError if the file is cut short or damaged, of another kind or version, or holds
    anything but data: loading never runs code from it. OSError if it cannot be opened.
    """
    with files.opened(path) as file:
        contents = _load(path, file)
    if not isinstance(contents, dict) or str(contents.get("format")) != FORMAT:
        raise CheckpointError(f"{path}: got another program's file, expected a checkpoint of sam")
    version = contents.get("version")
    if not isinstance(version, int) or version != VERSION:
        came = checks.shown(version)
        raise CheckpointError(f"{path}: got checkpoint version {came}, expected {VERSION}")
    return {name: part for name, part in contents.items() if name not in ("format", "version")}


def _load(path: Path, file: BinaryIO) -> Any:
    try:
        _check_archive(file)
        file.seek(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is wrong with it is said below
            contents = torch.load(file, map_location="cpu", weights_only=True)
        _check_contents(contents)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: holds more than tensors and numbers, expected a checkpoint of "
            "`python -m sam train`; it was not loaded, as loading it could run code"
        ) from error
    except MemoryError as error:
        size = os.fstat(file.fileno()).st_size
        raise CheckpointError(f"{path}: got {size:,} bytes, more than there is memory") from error
    except Exception as error:
        raise CheckpointError(
            f"{path}: got a file that is cut short, damaged or no checkpoint, expected one of "
            f"`python -m sam train` ({type(error).__name__})"
        ) from error
    return contents


def _check_archive(file: BinaryIO) -> None:
    """An archive as `torch.save` writes it: whole, and as long unpacked as it is packed."""
    archive = zipfile.ZipFile(file)
    parts = archive.infolist()
    if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
        raise zipfile.BadZipFile("its parts are compressed")
    if sum(part.file_size for part in parts) > os.fstat(file.fileno()).st_size:
        raise zipfile.BadZipFile("its parts are longer than it is")
    if any(part.file_size > MOST_PICKLE and part.filename.endswith(".pkl") for part in parts):
        raise zipfile.BadZipFile("it holds more than a run's numbers beside its tensors")
    # torch reads numbers without comparing them with the checksums that it wrote.
    damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"{damaged} has changed since it was written")


def _check_contents(contents: Any) -> None:
    """Dicts and lists, not nested without end, of numbers, strings and tensors.

    No part is met twice on the way down, and every tensor has all its numbers in memory, so that
    whoever copies the contents needs no more memory than the file took.
    """
    left, seen = [(contents, 0)], set[int]()
    while left:
        part, depth = left.pop()
        if isinstance(part, torch.Tensor):
            held = part.layout == torch.strided and part.device.type == "cpu"
            if not held or part.numel() * part.element_size() > part.untyped_storage().nbytes():
                raise ValueError("a tensor without its numbers")
        elif isinstance(part, (dict, list, tuple)):
            if id(part) in seen or depth > DEEPEST:
                raise ValueError("parts within themselves")
            if part:  # there is one empty tuple for all
                seen.add(id(part))
            values = part.values() if isinstance(part, dict) else part
            left += [(each, depth + 1) for each in values]
        elif not isinstance(part, (str, int, float, type(None))):
            raise TypeError(f"a part that is a {type(part).__name__}")
