"""How a call of `train` begins: anew, over, from a checkpoint or from another run's weights."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import torch

from sam import checks
from sam.training import checkpoint, json_files
from sam.training.checkpoint import CheckpointError
from sam.training.folder import TRAINING, RunFolder
from sam.training.metrics import Sums
from sam.training.settings import RunSettings
from sam.training.trainer import Trainer, check_same_run

# What a checkpoint's tensors and counts are made of cannot become another.
FIXED = ("model", "task", "seed", "batch_size", "optimizer.name")


class Begun(NamedTuple):
    """A run where its checkpoint says, or at its start.

    sums: since the last line of metrics.jsonl. history: what the run began with, and what was
    changed on the way, beside its settings. is_fresh: whether what is in the folder is to go.
    is_saved: whether the checkpoint there is just so.
    """

    trainer: Trainer
    sums: Sums
    history: list[dict[str, Any]]
    is_fresh: bool
    is_saved: bool = False

    def state(self, sums: Sums) -> dict[str, Any]:
        """What a checkpoint holds."""
        return self.trainer.state() | {"sums": sums._asdict(), "history": self.history}


def begin(
    settings: RunSettings,
    folder: RunFolder,
    *,
    resume: bool,
    restart: bool,
    init_from: str | Path | None,
    overrides: Collection[str],
) -> Begun:
    """See `loop.train`; nothing is written."""
    for name in overrides:
        if any(f"{each}.".startswith(f"{name}.") for each in FIXED):
            raise ValueError(
                f"overrides: got {name!r}, expected none of {', '.join(FIXED)}, on which what is "
                "in a checkpoint depends"
            )
    state = None if restart else _stored(folder, resume)
    if state is None and overrides:
        raise ValueError(
            f"overrides: got {', '.join(overrides)}, expected none for a run that begins"
        )
    if state is None:
        return _fresh(settings, init_from)
    if init_from is not None:
        raise ValueError(f"init_from: got {init_from}, expected none for a run that goes on")
    check_same_run(settings, state, overrides)
    trainer, history = Trainer(settings), state.get("history", [])
    try:
        trainer.load(state, overrides)
    except CheckpointError as error:
        raise CheckpointError(f"{folder.checkpoint}: {error}") from error
    changed = settings.changes(RunSettings.of(state["settings"]))
    if changed:
        old_and_new = {name: [old, new] for name, (new, old) in changed.items()}
        history = [*history, {"minibatch": trainer.minibatch, "override": old_and_new}]
    is_saved = state["settings"] == settings.as_mapping()
    return Begun(trainer, Sums(**state["sums"]), history, is_fresh=False, is_saved=is_saved)


def _stored(folder: RunFolder, resume: bool) -> dict[str, Any] | None:
    """The checkpoint to go on from, None where there is no run yet."""
    if folder.has_run and not resume:
        raise FileExistsError(
            f"{folder.path}: holds a run, expected an empty folder, or to resume or restart it"
        )
    lines = sum(1 for _ in json_files.lines(folder.metrics, TRAINING))  # it can be read as a whole
    if folder.checkpoint.exists():
        return folder.read_checkpoint()
    if folder.has_run or lines:
        raise CheckpointError(
            f"{folder.checkpoint}: got no such file in the folder of a run, expected the "
            "checkpoint to go on from; restart to begin anew, which drops what is left of the run"
        )
    return None


def _fresh(settings: RunSettings, init_from: str | Path | None) -> Begun:
    if init_from is None:
        return Begun(Trainer(settings), Sums(), [], is_fresh=True)
    path = Path(init_from)
    path = RunFolder(path).checkpoint if path.is_dir() else path
    other = checkpoint.read(path)
    weights, minibatch = other.get("model"), other.get("minibatch")
    if not isinstance(weights, dict) or not all(map(torch.is_tensor, weights.values())):
        raise CheckpointError(f"{path}: got no parameters of a model, expected those of a run")
    trainer = Trainer(settings)
    try:
        trainer.start_from(weights)
    except ValueError as error:
        raise ValueError(f"init_from: {path}: {error}") from error
    checks.integer(f"{path}: minibatch", minibatch, 0, 2**63)
    origin = {"minibatch": 0, "init_from": str(path.absolute()), "its_minibatch": minibatch}
    return Begun(trainer, Sums(), [origin], is_fresh=True)
