"""The files of a run.

run.json: its settings, with versions, commit and machine. metrics.jsonl: a line per LOG_EVERY
minibatches. checkpoint.pt: where to go on from. evaluation.jsonl: a line per evaluated level.
failure.json: why a run that diverged stopped. outcome.json: how a run of a sweep ended. run.lock:
who trains in it.

A run has its first checkpoint before it has run.json, so that run.json alone means that the
checkpoint was removed.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from sam import checks
from sam.training import checkpoint, json_files, machine
from sam.training.checkpoint import CheckpointError
from sam.training.metrics import Sums
from sam.training.settings import RunSettings

DESCRIPTION = ("versions", "commit", "machine", "history")  # in run.json beside the settings
# What a checkpoint has at least.
PARTS: json_files.Fields = {
    **dict.fromkeys(("settings", "model", "optimizer", "minibatches"), dict),
    **{"random": Tensor, "minibatch": int, "seconds": float, "sums": dict},
}
TRAINING: json_files.Fields = {"kind": str, "minibatch": int}  # what a line of metrics.jsonl has
EVALUATION: json_files.Fields = {"minibatch": int}


class RunFolder:
    """One run's folder, which need not exist yet."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.settings = self.path / "run.json"
        self.metrics = self.path / "metrics.jsonl"
        self.checkpoint = self.path / "checkpoint.pt"
        self.evaluation = self.path / "evaluation.jsonl"
        self.failure = self.path / "failure.json"
        self.outcome = self.path / "outcome.json"

    @classmethod
    def holding_a_run(cls, path: str | Path) -> Self:
        """Raises FileNotFoundError if there is no run in it."""
        folder = cls(path)
        if not folder.has_run:
            raise FileNotFoundError(
                f"{path}: got a folder without run.json, expected one that `python -m sam train` "
                "has written"
            )
        return folder

    @property
    def has_run(self) -> bool:
        return self.settings.exists() or self.checkpoint.exists()

    def read_settings(self) -> RunSettings:
        """Those of run.json or, without it, of the checkpoint.

        Raises ValueError or TypeError, naming the file, if it does not hold settings.
        """
        place = self.settings
        if place.exists():
            contents = json_files.read(place)
        else:
            place, contents = self.checkpoint, self.read_checkpoint()["settings"]
        own = {name: contents[name] for name in contents.keys() - {*DESCRIPTION}}
        return _settings_of(own, place)

    def begin(self, minibatch: int) -> None:
        """Drop what is there of minibatches that come after one, or was never finished."""
        for path in self.path.glob("*.unfinished"):
            path.unlink(missing_ok=True)
        json_files.keep(
            self.metrics,
            TRAINING,
            lambda each: each["kind"] == "train" and each["minibatch"] <= minibatch,
        )
        if self.evaluation.exists():
            json_files.keep(
                self.evaluation,
                EVALUATION,
                lambda each: each["minibatch"] <= minibatch,
                strict=False,
            )
        self.failure.unlink(missing_ok=True)

    def describe(self, settings: RunSettings, history: Collection[Any]) -> None:
        """Write what the run is, and where."""
        described: dict[str, Any] = machine.description()
        if history:
            described["history"] = list(history)
        json_files.write(self.settings, settings.as_mapping() | described)

    def forget(self) -> None:
        """Remove what came of an earlier run, beside what a new one replaces at once."""
        for path in (self.metrics, self.evaluation, self.failure, self.outcome):
            path.unlink(missing_ok=True)

    def read_checkpoint(self) -> dict[str, Any]:
        """Raises CheckpointError if it cannot be read, or is not that of a run."""
        contents = checkpoint.read(self.checkpoint)
        missing = [name for name in PARTS if name not in contents]
        if missing:
            raise CheckpointError(
                f"{self.checkpoint}: got one without {', '.join(missing)}, expected that of a run"
            )
        for name, kind in PARTS.items():
            if not json_files.fits(contents[name], kind):
                raise CheckpointError(
                    f"{self.checkpoint}: {name}: got {checks.shown(contents[name])}, expected "
                    f"{json_files.KINDS.get(kind, kind.__name__)}"
                )
        _check_sums(contents["sums"], self.checkpoint)
        if not isinstance(contents.get("history", []), list):
            raise CheckpointError(f"{self.checkpoint}: history: got no list, expected one")
        try:
            _settings_of(contents["settings"], self.checkpoint)
        except (ValueError, TypeError) as error:
            raise CheckpointError(str(error)) from error
        return contents


def _settings_of(table: dict[str, Any], place: Path) -> RunSettings:
    try:
        return RunSettings.of(table)
    except (ValueError, TypeError) as error:
        raise type(error)(f"{place}: {error}") from error


def _check_sums(sums: dict[str, Any], place: Path) -> None:
    for name in Sums._fields:
        kind = int if name == "minibatches" else float
        if sums.keys() != set(Sums._fields) or not json_files.fits(sums[name], kind):
            raise CheckpointError(
                f"{place}: sums: got {checks.shown(sums)}, expected {', '.join(Sums._fields)}"
            )
