"""Where a data set's files come from: a folder that is given, or a checked download."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType

INSTALL = "pip install 'sparse-access-memory[data]'"
DATA_DIR = "SAM_DATA_DIR"


class DataError(ValueError):
    """Data that is missing, truncated or not what it should be; the message says what to do."""


def find(
    dataset: str,
    filename: str,
    data_dir: str | Path | None = None,
    *,
    url: str,
    known_hash: str,
) -> Path:
    """The path of a data set's file.

    It is looked for in data_dir; without one, in the folder that the environment variable
    SAM_DATA_DIR names; without that it is downloaded from `url`, once, into the user's cache. In
    a given folder it lies at <folder>/<dataset>/<filename> or at <folder>/<filename>, as it is:
    nothing is written there, and its content is for the loader to check.

    known_hash: what a download must match, such as "md5:..." or "sha256:...".

    Raises DataError where the file is not in the folder that was given, or where it could not be
    downloaded; ImportError where pooch, which downloads, is not installed.
    """
    folder = given_folder(data_dir)
    if folder is None:
        return _download(dataset, filename, url, known_hash)
    places = [folder / dataset / filename, folder / filename]
    for place in places:
        if place.is_file():
            return place
    raise DataError(
        f"{dataset}: got no file {places[0]} and no {places[1]}, expected one of them; "
        f"{_ways(dataset, filename, url)}"
    )


def given_folder(data_dir: str | Path | None) -> Path | None:
    """The folder that data_dir, or else SAM_DATA_DIR, names; None where neither does."""
    name, folder = "data_dir", data_dir
    if folder is None:
        name, folder = DATA_DIR, os.environ.get(DATA_DIR) or None
    if folder is None:
        return None
    if not isinstance(folder, str | Path):
        raise TypeError(f"{name}: got {folder!r}, expected the path of a folder")
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise DataError(f"{name}: got {str(folder)!r}, expected an existing folder")
    return folder


def cache_folder() -> Path:
    """This project's folder in the user's cache; it need not exist yet."""
    return Path(_pooch().os_cache("sparse-access-memory"))


def _pooch() -> ModuleType:
    try:
        import pooch
    except ImportError as missing:
        raise ImportError(
            f"pooch, which downloads data and knows the user's cache, is not installed: {INSTALL}"
        ) from missing
    return pooch


def _download(dataset: str, filename: str, url: str, known_hash: str) -> Path:
    pooch, folder = _pooch(), cache_folder() / dataset
    try:
        # Downloaded under another name, compared with its hash, then moved into place.
        path = pooch.retrieve(
            url,
            known_hash,
            fname=filename,
            path=folder,
            progressbar=importlib.util.find_spec("tqdm") is not None,
        )
    except (OSError, ValueError) as failed:  # the network's errors are OSErrors, a hash's is not
        raise DataError(
            f"{dataset}: got no {filename} from {url} for {folder} ({failed}), expected a "
            f"download of hash {known_hash}; {_ways(dataset, filename, url)}"
        ) from failed
    return Path(path)


def _ways(dataset: str, filename: str, url: str) -> str:
    return (
        f"put {filename} (from {url}) at <folder>/{dataset}/{filename} and name the folder with "
        f"data_dir or with {DATA_DIR}, or leave both unset where the network is reachable, and it "
        f"is downloaded ({INSTALL})"
    )
