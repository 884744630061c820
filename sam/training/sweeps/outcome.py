"""How a run ended, as outcome.json in its folder says."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from sam import checks
from sam.training import json_files
from sam.training.settings import RunSettings

FILE = "outcome.json"


class Outcome(NamedTuple):
    """How a run of a sweep ended.

    status: "trained" to the end of its budget and evaluated; "diverged" or "failed", which
    `message` explains; or "unfinished": not begun, stopped or killed with the sweep. seconds: of
    training. level: the highest that the curriculum reached. They are None where unknown.
    """

    status: str
    message: str = ""
    minibatch: int | None = None
    episodes: int | None = None
    level: int | None = None
    seconds: float | None = None

    @property
    def is_final(self) -> bool:
        """Whether running it again would give the same, as far as anyone can know."""
        return self.status in ("trained", "diverged")


KINDS: json_files.Fields = {
    **{"status": str, "message": str},
    **{"minibatch": int, "episodes": int, "level": int, "seconds": float},
}
UNFINISHED = Outcome("unfinished")


def write(folder: Path, settings: RunSettings, outcome: Outcome) -> None:
    """Say how the run of these settings ended."""
    contents = {**outcome._asdict(), "settings": settings.as_mapping()}
    json_files.write(folder / FILE, contents)


def read(folder: Path, settings: RunSettings) -> Outcome:
    """How it ended; UNFINISHED if it has not, or had another budget or evaluation.

    Raises ValueError if outcome.json was not written by `write`.
    """
    path = folder / FILE
    if not path.exists():
        return UNFINISHED
    contents = json_files.read(path)
    same = contents.pop("settings", None) == settings.as_mapping()
    for name, kind in KINDS.items():
        value = contents.get(name)
        if not json_files.fits(value, kind) and (kind is str or value is not None):
            came = checks.shown(value)
            raise ValueError(f"{path}: {name}: got {came}, expected how a run ended")
    own: dict[str, Any] = {name: contents.get(name) for name in KINDS}
    return Outcome(**own) if same else UNFINISHED


def forget(folder: Path) -> None:
    (folder / FILE).unlink(missing_ok=True)
