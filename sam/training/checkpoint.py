"""Checkpoints: written whole or not at all, and read without running anything that is in them."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch

from sam.training.files import replacing

FORMAT, VERSION = "sparse-access-memory checkpoint", 1


class CheckpointError(ValueError):
    """A file that is no checkpoint, or not one that this version can go on from."""


def write(path: Path, contents: dict[str, Any]) -> None:
    """Write tensors, numbers, strings, and dicts and lists of them, in the place of `path`."""
    with replacing(path) as file:
        torch.save({"format": FORMAT, "version": VERSION, **contents}, file)


def read(path: Path) -> dict[str, Any]:
    """What `write` was given.

    Raises CheckpointError if the file is cut short or damaged, of another kind or version, or holds
    anything but data: loading never runs code from it. OSError if it cannot be opened.
    """
    with open(path, "rb") as file:
        contents = _load(path, file)
    if not isinstance(contents, dict) or contents.get("format") != FORMAT:
        raise CheckpointError(f"{path}: got another program's file, expected a checkpoint of sam")
    if contents.get("version") != VERSION:
        raise CheckpointError(
            f"{path}: got checkpoint version {contents.get('version')}, expected {VERSION}"
        )
    return {name: part for name, part in contents.items() if name not in ("format", "version")}


def _load(path: Path, file: BinaryIO) -> Any:
    try:
        # torch reads numbers without comparing them with the checksums that it wrote.
        damaged = zipfile.ZipFile(file).testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"{damaged} has changed since it was written")
        file.seek(0)
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: holds more than tensors and numbers, expected a checkpoint of "
            "`python -m sam train`; it was not loaded, as loading it could run code"
        ) from error
    except Exception as error:
        raise CheckpointError(
            f"{path}: got a file that is cut short, damaged or no checkpoint, expected one of "
            f"`python -m sam train` ({type(error).__name__})"
        ) from error
