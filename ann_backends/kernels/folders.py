"""Where machine code is kept: numba's places, in its order."""

from __future__ import annotations

import functools
import os
import tempfile

from numba.core import config
from numba.core.caching import _CacheLocator
from numba.misc.appdirs import AppDirs


def candidates(source: str) -> tuple[str, ...]:
    """The folders where the kernels of a source file may be kept, the first choice first.

    They are NUMBA_CACHE_DIR, `__pycache__` beside the file, and the user's cache. What was not
    read from a file has none.
    """
    if source.startswith("<") or "ipykernel_" in source:
        return ()
    return _candidates(os.path.abspath(source), vars(config)["CACHE_DIR"])


@functools.cache
def _candidates(source: str, chosen: str) -> tuple[str, ...]:
    below = _CacheLocator.get_suitable_cache_subpath(source)
    user = AppDirs(appname="numba", appauthor=False).user_cache_dir
    folders = [os.path.join(os.path.abspath(chosen), below)] if chosen else []
    if os.path.isdir(os.path.dirname(source)):  # not in an archive, say
        folders.append(os.path.join(os.path.dirname(source), "__pycache__"))
    if os.path.isabs(user):  # "~/.cache" of a user without a home is below any folder
        folders.append(os.path.join(user, below))
    return tuple(folders)


@functools.cache
def refusal(folder: str) -> str:
    """Why a folder cannot be made or written to; "" if it can."""
    try:
        os.makedirs(folder, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def first_writable(folders: tuple[str, ...]) -> str | None:
    """Where kernels are kept; None where they cannot be."""
    return next((folder for folder in folders if not refusal(folder)), None)


def refusals(folders: tuple[str, ...]) -> str:
    """In words, why the folders before the first that can be written are not used."""
    refused = []
    for folder in folders:
        if not refusal(folder):
            break
        refused.append(f"{folder}: {refusal(folder)}")
    return "; ".join(refused)
