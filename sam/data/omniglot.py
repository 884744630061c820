"""Omniglot: 1,623 hand-written characters of 50 alphabets, 20 drawings of each (Lake et al. 2015).

B. M. Lake, R. Salakhutdinov, J. B. Tenenbaum. Human-level concept learning through probabilistic
program induction. Science 350(6266), 1332-1338, 2015. The data are under the MIT licence.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
import io
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt

from sam import files
from sam.data import source
from sam.data.source import DataError

FILES = {
    "images_background.zip": "md5:68d2efa1b9178cc56df9314c21c6e718",
    "images_evaluation.zip": "md5:6b91aef0f799c5bb55b94e3f2daec811",
}
URL = "https://github.com/brendenlake/omniglot/raw/master/python/"
CHARACTERS = 1623
DRAWINGS = 20
DRAWN_SIZE = 105
SIZE = 20
# Of every file in order of its path: the path, a zero byte, the sha256 of the file.
WHOLE_SET = "5accf8ba2c5718fb0dfea7b66b35a4be8553a8d50f6e865b8157e919163a3f57"
# Santoro et al. 2016 train on 1,200 characters and test on 423; of the 1,200, 130 choose the run:
# with their rotations they are 520, enough for the 500 of Rae et al. 2016, section 4.5.
VALIDATION, TEST = 130, 423

_MEMBER = re.compile(
    r"(?P<set>\w+)/(?P<character>[^/]+/character\d\d)/\d{4}_(?P<drawing>\d\d)\.png"
)
_ADVICE = (
    f"get the files again, from {URL}, or leave data_dir and {source.DATA_DIR} unset and have them "
    f"downloaded ({source.INSTALL})"
)
_CACHE_FORMAT = 1
# What reading a zip or an npz raises that is not what it was when it was written.
_DAMAGED = (
    OSError,
    EOFError,
    KeyError,
    ValueError,
    RuntimeError,
    SyntaxError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
)


@dataclasses.dataclass(frozen=True)
class Characters:
    """Drawings of characters.

    images: uint8 [characters, 20, 20, 20], the drawings of each character, height, width; 0 is
    paper and 255 is ink. names: alphabet and character of each, such as "Greek/character01", in
    alphabetical order.
    """

    images: npt.NDArray[np.uint8]
    names: tuple[str, ...]

    @property
    def alphabets(self) -> tuple[str, ...]:
        """The alphabet of each character."""
        return tuple(name.partition("/")[0] for name in self.names)


def load(data_dir: str | Path | None = None) -> Characters:
    """All drawings, from images_background.zip and images_evaluation.zip as `source.find` does.

    The zips may be the published ones, others of the same files, or excerpts: fewer characters,
    all 20 drawings of each. 105 x 105 become 20 x 20 by averaging over areas: each pixel is the
    share of ink in its 5.25 x 5.25 of the drawing, parts of pixels counted as parts. They are
    read once in a process; what was decoded is kept in the user's cache for the next.

    Raises DataError, and says what to do, where a file is missing or damaged, a character lacks a
    drawing, an image is not 105 x 105, or all characters are there but not with the published
    content; ImportError where Pillow or pooch is not installed.
    """
    folder = source.given_folder(data_dir)
    return _load(folder and folder.resolve())


def split(names: Iterable[str]) -> dict[str, list[int]]:
    """Which characters, by their place in `names`, train, choose between runs, and test.

    "training", "validation" and "test": 1,070, 130 and 423 of the 1,623, always the same; of an
    excerpt the same shares, at least one each. Raises DataError for fewer than 3 characters.
    """
    names = list(names)
    if len(names) < 3:
        raise DataError(f"omniglot: got {len(names)} characters, expected at least 3 to split")
    # The order of hashes is a permutation that no library's random numbers can change.
    order = sorted(range(len(names)), key=lambda i: hashlib.sha256(names[i].encode()).digest())
    test, validation = (
        max(1, round(len(names) * part / CHARACTERS)) for part in (TEST, VALIDATION)
    )
    return {
        "test": order[:test],
        "validation": order[test : test + validation],
        "training": order[test + validation :],
    }


@functools.cache
def _load(folder: Path | None) -> Characters:
    paths = [
        source.find("omniglot", name, folder, url=URL + name, known_hash=known_hash)
        for name, known_hash in FILES.items()
    ]
    key = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            key.update(hashlib.file_digest(file, "sha256").digest())
    kept = source.cache_folder() / "omniglot" / f"{key.hexdigest()}-{_CACHE_FORMAT}.npz"
    characters = _kept(kept)
    if characters is None:
        characters = _decoded(paths)
        _keep(characters, kept)
    return characters


def _decoded(paths: list[Path]) -> Characters:
    """The drawings of zips, checked."""
    drawings: dict[str, dict[int, bytes]] = collections.defaultdict(dict)
    hashes: dict[str, bytes] = {}
    for path in paths:
        for member, content in _members(path):
            matched = _MEMBER.fullmatch(member)
            if matched is None or matched["set"] != path.stem:
                raise DataError(
                    f"{path}: got {member}, expected {path.stem}/<alphabet>/character<NN>/"
                    f"<CCCC>_<DD>.png; {_ADVICE}"
                )
            drawings[matched["character"]][int(matched["drawing"])] = content
            hashes[member] = hashlib.sha256(content).digest()
    for name, of_character in drawings.items():
        if sorted(of_character) != list(range(1, DRAWINGS + 1)):
            raise DataError(
                f"omniglot: got drawings {sorted(of_character)} of {name}, expected 1 to "
                f"{DRAWINGS}; {_ADVICE}"
            )
    if len(drawings) >= CHARACTERS:
        _check_digest(hashes)
    names = tuple(sorted(drawings))
    images = [
        _shrunk(np.stack([_ink(name, each, drawings[name][each]) for each in range(1, 21)]))
        for name in names
    ]
    return Characters(np.array(images, np.uint8).reshape(-1, DRAWINGS, SIZE, SIZE), names)


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Each PNG file of a zip, by its path there; zipfile compares its checksum."""
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                if member.endswith(".png"):
                    yield member, archive.read(member)
    except _DAMAGED as damaged:
        raise DataError(
            f"{path}: got a damaged file ({damaged}), expected a zip; {_ADVICE}"
        ) from damaged


def _check_digest(hashes: dict[str, bytes]) -> None:
    digest = hashlib.sha256()
    for member in sorted(hashes):
        digest.update(member.encode() + b"\0" + hashes[member])
    if digest.hexdigest() != WHOLE_SET:
        raise DataError(
            f"omniglot: got files of digest {digest.hexdigest()}, expected {WHOLE_SET} of the "
            f"published ones: some drawing was changed; {_ADVICE}"
        )


def _ink(name: str, drawing: int, content: bytes) -> npt.NDArray[np.bool_]:
    """Where a PNG file is black: bool [105, 105]."""
    try:
        with _pillow().open(io.BytesIO(content)) as image:
            if image.size != (DRAWN_SIZE, DRAWN_SIZE):
                raise DataError(
                    f"omniglot: got {image.width} x {image.height} pixels in drawing {drawing} of "
                    f"{name}, expected {DRAWN_SIZE} x {DRAWN_SIZE}; {_ADVICE}"
                )
            return ~np.asarray(image.convert("1"), dtype=np.bool_)
    except (OSError, SyntaxError, EOFError, zlib.error) as damaged:
        raise DataError(
            f"omniglot: got a damaged drawing {drawing} of {name} ({damaged}), expected a PNG "
            f"image; {_ADVICE}"
        ) from damaged


def _pillow() -> ModuleType:
    try:
        from PIL import Image
    except ImportError as missing:
        raise ImportError(
            f"Pillow, which reads Omniglot's images, is not installed: {source.INSTALL}"
        ) from missing
    return Image


def _shrunk(ink: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Shares of ink by area: [..., 105, 105] -> [..., 20, 20], 255 for all ink."""
    shares = _shares(SIZE, DRAWN_SIZE)
    return np.rint(255 * (shares @ ink.astype(np.float32) @ shares.T)).astype(np.uint8)


@functools.cache
def _shares(few: int, many: int) -> npt.NDArray[np.float32]:
    """What part of each of `few` equal lengths each of `many` equal lengths is: [few, many]."""
    edges = np.linspace(0, many, few + 1)[:, None]
    pixels = np.arange(many)
    overlaps = np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels)
    return (overlaps.clip(min=0) * few / many).astype(np.float32)


def _kept(path: Path) -> Characters | None:
    """What was kept there, or None where there is nothing, or nothing whole."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            images, names = arrays["images"], tuple(arrays["names"].tolist())
    except _DAMAGED:
        return None
    return Characters(images, names)


def _keep(characters: Characters, path: Path) -> None:
    """Written under another name, then moved: several processes may do so at once."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.replacing(path) as file:
            np.savez(file, images=characters.images, names=np.array(characters.names))
    except OSError as failed:
        warnings.warn(
            f"{path} could not be written ({failed}), so Omniglot is decoded again by every "
            "process, which takes some seconds",
            stacklevel=2,
        )
