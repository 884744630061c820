"""The files of a run.

run.json: its settings, with versions, commit and machine. metrics.jsonl: a line per LOG_EVERY
minibatches. checkpoint.pt: where to go on from. evaluation.jsonl: a line per evaluated level.
failure.json: why a run that diverged stopped.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any, Self

import numba
import numpy
import torch

import sam
from sam.training import checkpoint, metrics
from sam.training.files import replacing
from sam.training.settings import RunSettings

DESCRIPTION = ("versions", "commit", "machine")  # in run.json beside the settings
PARTS = ("settings", "model", "optimizer", "minibatches", "random", "minibatch", "seconds", "sums")


class RunFolder:
    """One run's folder, which need not exist yet."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.settings = self.path / "run.json"
        self.metrics = self.path / "metrics.jsonl"
        self.checkpoint = self.path / "checkpoint.pt"
        self.evaluation = self.path / "evaluation.jsonl"
        self.failure = self.path / "failure.json"

    @classmethod
    def holding_a_run(cls, path: str | Path) -> Self:
        """Raises FileNotFoundError if there is no run in it."""
        folder = cls(path)
        if not folder.settings.exists():
            raise FileNotFoundError(
                f"{path}: got a folder without run.json, expected one that `python -m sam train` "
                "has written"
            )
        return folder

    @property
    def has_run(self) -> bool:
        return self.settings.exists() or self.checkpoint.exists()

    def read_settings(self) -> RunSettings:
        """Raises ValueError if run.json does not hold settings."""
        try:
            contents = json.loads(self.settings.read_text())
        except ValueError as error:
            raise ValueError(f"{self.settings}: got {error}, expected JSON") from error
        if not isinstance(contents, dict):
            raise ValueError(f"{self.settings}: got {contents!r}, expected a table of settings")
        return RunSettings.of({name: contents[name] for name in contents.keys() - {*DESCRIPTION}})

    def begin(self, settings: RunSettings, minibatch: int) -> None:
        """Write what the run is, and drop from its metrics what comes after a minibatch."""
        self.path.mkdir(parents=True, exist_ok=True)
        described = {"versions": versions(), "commit": commit(), "machine": machine()}
        with replacing(self.settings) as file:
            file.write((json.dumps(settings.as_mapping() | described, indent=1) + "\n").encode())
        metrics.keep(
            self.metrics, lambda each: each["kind"] == "train" and each["minibatch"] <= minibatch
        )
        if self.evaluation.exists():
            metrics.keep(self.evaluation, lambda each: True)
        self.failure.unlink(missing_ok=True)

    def read_checkpoint(self) -> dict[str, Any]:
        """Raises CheckpointError if it cannot be read, or is not that of a run."""
        contents = checkpoint.read(self.checkpoint)
        missing = [name for name in PARTS if name not in contents]
        if missing:
            raise checkpoint.CheckpointError(
                f"{self.checkpoint}: got one without {', '.join(missing)}, expected that of a run"
            )
        return contents


def versions() -> dict[str, str]:
    return {
        "sam": sam.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "numba": numba.__version__,
    }


def commit() -> str | None:
    """That of the checkout which sam is imported from, with "+" if files differ; None elsewhere."""
    place = Path(sam.__file__).parent.parent
    if not (place / ".git").exists():
        return None
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty=+", "--match="],
            cwd=place,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip()


def machine() -> dict[str, Any]:
    return {"system": platform.platform(), "processor": _processor(), "cpus": os.cpu_count()}


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
