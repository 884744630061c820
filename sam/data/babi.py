"""The bAbI tasks (Weston et al. 2015), read from the release's text files."""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
import re
import tarfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sam import checks
from sam.data import source
from sam.data.source import DataError
from sam.data.stories import Encoded, Story, encode, parse

ARCHIVE = "tasks_1-20_v1-2.tar.gz"
URL = "https://dl.fbaipublicfiles.com/parlai/babi/babi.tar.gz"
KNOWN_HASH = "sha256:f7f0bee187efca0d81c3daac1b162cda4eb7f9505dee5ad6846eabbed3dbf92e"
ROOT = "tasks_1-20_v1-2"
TASKS = {
    1: "single supporting fact",
    2: "two supporting facts",
    3: "three supporting facts",
    4: "two argument relations",
    5: "three argument relations",
    6: "yes/no questions",
    7: "counting",
    8: "lists and sets",
    9: "simple negation",
    10: "indefinite knowledge",
    11: "basic coreference",
    12: "conjunction",
    13: "compound coreference",
    14: "time reasoning",
    15: "basic deduction",
    16: "basic induction",
    17: "positional reasoning",
    18: "size reasoning",
    19: "path finding",
    20: "agent's motivations",
}
VERSIONS = ("en", "en-10k")
VALIDATION_SHARE = 0.1
# The one file of en-10k that the archive may lack: its git blob id, and its parts that are known.
QA3_TRAIN = "en-10k/qa3_three-supporting-facts_train.txt"
QA3_TRAIN_BLOB = "9b2b35ca4357ea8ee44692c71ec71892edf51399"
QA3_PARTS = ("en/qa3_three-supporting-facts_train.txt", "en-valid-10k/qa3_valid.txt")
SUMS = "SHA256SUMS"
SPLIT_SEED = 20161027  # so that all runs hold out the same stories


class Splits(NamedTuple):
    """One task's stories, no two of them the same in text; no story is in two of the splits."""

    train: tuple[Encoded, ...]
    validation: tuple[Encoded, ...]
    test: tuple[Encoded, ...]


def load(
    version: str = "en-10k",
    tasks: Iterable[int] = tuple(TASKS),
    data_dir: str | Path | None = None,
) -> Mapping[int, Splits]:
    """The stories of each task, encoded over the vocabulary of all twenty.

    version: "en-10k", up to 10,000 training questions a task, or "en", 1,000. The release's
    training stories that are also in its test file (741 test stories of task 4) are left out of
    training, as are repeated ones; a tenth of the rest, drawn once and for all, is the validation
    split. The test split is the release's, repeated stories included. Where the archive lacks the
    training file of task 3 of en-10k, its known parts, 2,000 questions, stand for it.

    data_dir: a folder that holds the archive, by default the one of SAM_DATA_DIR; without either,
    it is downloaded into the user's cache. Raises DataError if it is not found, or not whole.
    """
    checks.one_of("version", version, VERSIONS)
    path = source.find("babi", ARCHIVE, data_dir, url=URL, known_hash=KNOWN_HASH)
    return _load(path, path.stat().st_mtime_ns, version, tuple(tasks))


def read(path: Path, version: str, task: int, split: str) -> list[Story]:
    """All stories of one file of the release, in its order; split: "train" or "test"."""
    return _stories(_unpack(path), path, version, task, split)


@functools.lru_cache(maxsize=4)
def _load(path: Path, changed: int, version: str, tasks: tuple[int, ...]) -> dict[int, Splits]:
    files = _unpack(path)
    return {
        task: _split(
            task,
            _stories(files, path, version, task, "train"),
            _stories(files, path, version, task, "test"),
        )
        for task in tasks
    }


def _split(task: int, train: list[Story], test: list[Story]) -> Splits:
    tested = set(test)
    unseen = [story for story in dict.fromkeys(train) if story not in tested]
    order = np.random.default_rng([SPLIT_SEED, task]).permutation(len(unseen))
    stories = [unseen[each] for each in order]
    held_out = round(VALIDATION_SHARE * len(stories))
    parts = (stories[held_out:], stories[:held_out], test)
    return Splits(*(tuple(encode(each, f"task {task}") for each in part) for part in parts))


def _unpack(path: Path) -> dict[str, bytes]:
    """The English files of the archive, by their names below its root."""
    try:
        with tarfile.open(path) as archive:
            return {
                member.name.removeprefix(f"{ROOT}/"): stream.read()
                for member in archive
                if re.fullmatch(rf"{ROOT}/({SUMS}|en(-valid)?(-10k)?/qa[\w-]+\.txt)", member.name)
                and (stream := archive.extractfile(member))
            }
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise DataError(
            f"{path}: got {error or 'a truncated file'}, expected the archive of bAbI; delete it "
            "and get it anew"
        ) from error


def _stories(
    files: Mapping[str, bytes], path: Path, version: str, task: int, split: str
) -> list[Story]:
    known = _known_sums(files)
    return [
        story
        for name in _names(files, path, version, task, split)
        for story in parse(_text(name, files[name], known, path), f"{path}: {name}")
    ]


def _names(
    files: Mapping[str, bytes], path: Path, version: str, task: int, split: str
) -> tuple[str, ...]:
    """The files that hold a task's split: one, but for task 3 of en-10k where that is missing."""
    pattern = re.compile(rf"{version}/qa{task}_[\w-]+_{split}\.txt")
    names = tuple(name for name in files if pattern.fullmatch(name))
    if names:
        return names
    if (version, task, split) == ("en-10k", 3, "train") and files.keys() >= set(QA3_PARTS):
        return QA3_PARTS
    raise DataError(
        f"{path}: got no {version}/qa{task}_*_{split}.txt, expected the release's file of that "
        "task; get the archive anew, or leave the task out"
    )


def _known_sums(files: Mapping[str, bytes]) -> dict[str, str]:
    """SHA-256 of each file by name: the release's, or those that an excerpt brings along."""
    own = files.get(SUMS)
    if own is None:
        return dict(
            line.split()
            for line in importlib.resources.files(__package__)
            .joinpath("babi_sha256.txt")
            .read_text()
            .splitlines()
        )
    lines = (line.split() for line in own.decode().splitlines())
    return {name.removeprefix(f"{ROOT}/"): digest for digest, name in lines}


def _text(name: str, content: bytes, known: Mapping[str, str], path: Path) -> str:
    """A file's text, once it is seen to be the release's."""
    if name == QA3_TRAIN and name not in known:
        found = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        expected = QA3_TRAIN_BLOB
    else:
        found, expected = hashlib.sha256(content).hexdigest(), known.get(name, "none of that name")
    if found != expected:
        raise DataError(
            f"{path}: {name}: got the checksum {found}, expected {expected}: it is not as it was "
            "released; get the archive anew"
        )
    return content.decode()
