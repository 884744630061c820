"""How a run ended, as outcome.json in its folder says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from sam.training.files import replacing
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


UNFINISHED = Outcome("unfinished")


def write(folder: Path, settings: RunSettings, outcome: Outcome) -> None:
    """Say how the run of these settings ended."""
    contents = {**outcome._asdict(), "settings": settings.as_mapping()}
    with replacing(folder / FILE) as file:
        file.write((json.dumps(contents, indent=1) + "\n").encode())


def read(folder: Path, settings: RunSettings) -> Outcome:
    """How it ended; UNFINISHED if it has not, or had another budget or evaluation.

    Raises ValueError if outcome.json was not written by `write`.
    """
    path = folder / FILE
    try:
        contents = json.loads(path.read_text())
        same = contents.pop("settings") == settings.as_mapping()
        return Outcome(**contents) if same else UNFINISHED
    except FileNotFoundError:
        return UNFINISHED
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path}: got {error!r}, expected how a run ended") from error


def forget(folder: Path) -> None:
    (folder / FILE).unlink(missing_ok=True)
