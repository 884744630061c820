"""Which runs a sweep has, and where they lie."""

from __future__ import annotations

import collections
import fnmatch
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

from sam.training.folder import RunFolder
from sam.training.settings import RunSettings


def folders(runs: Sequence[RunSettings], out: Path) -> list[Path]:
    """OUT/<name>/seed-<seed> of each; ValueError if one cannot be this run's."""
    if not runs:
        raise ValueError("settings: got no run, expected some")
    counts = collections.Counter((run.name, run.seed) for run in runs)
    for (name, seed), count in counts.items():
        _check_name(name)
        if count > 1:
            raise ValueError(
                f"name: got {count} runs of {name!r} with seed {seed}, expected names that differ"
            )
    found = [out / run.name / f"seed-{run.seed}" for run in runs]
    for run, folder in zip(runs, found, strict=True):
        _check_free(run, folder)
    return found


def _check_name(name: str) -> None:
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts:
        raise ValueError(f"name: got {name!r}, expected a path below the sweep's folder")


def _check_free(run: RunSettings, folder: Path) -> None:
    files = RunFolder(folder)
    if not files.settings.exists():
        return
    other = files.read_settings()
    if changed := run.differing(other):
        mine, theirs = run.as_mapping(), other.as_mapping()
        raise ValueError(
            f"{folder}: got {', '.join(f'{name}={mine[name]!r}' for name in changed)}, expected "
            f"{', '.join(f'{name}={theirs[name]!r}' for name in changed)} as in the run there"
        )


def chosen(runs: Sequence[RunSettings], only: Collection[str]) -> set[str]:
    """The names that one of `only` is, or is a pattern of; all if it is empty."""
    names = {run.name for run in runs}
    if not only:
        return names
    matches = {each: set(fnmatch.filter(names, each)) for each in only}
    for each, found in matches.items():
        if not found:
            raise ValueError(f"only: got {each!r}, expected of {', '.join(sorted(names))}")
    return set().union(*matches.values())
