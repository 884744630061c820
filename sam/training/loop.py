"""A run from its start, or its last checkpoint, to the end of its budget."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from pathlib import Path
from typing import NamedTuple

import torch

from sam.training import checkpoint, metrics, parallel, progress
from sam.training.checkpoint import CheckpointError
from sam.training.evaluation import evaluate_trainer
from sam.training.files import sync
from sam.training.folder import RunFolder
from sam.training.settings import RunSettings
from sam.training.signals import StopWish, stop_wishes
from sam.training.trainer import Diverged, Trainer

LOG_EVERY = 100  # minibatches that a line of metrics.jsonl is the mean of
BUDGET = 1  # beside the numbers of the signals that stop a run, which are larger


class Result(NamedTuple):
    """How a call of `train` ended.

    reason: "budget", "diverged", "SIGINT" or "SIGTERM". seconds: of training, all calls together.
    level: the highest that the curriculum reached, None without one. message: why it diverged.
    """

    reason: str
    minibatch: int
    episodes: int
    seconds: float
    level: int | None
    message: str = ""


def train(
    settings: RunSettings,
    folder: str | Path,
    *,
    resume: bool = False,
    checkpoint_seconds: float = 60.0,
    tensorboard: bool = False,
    show_progress: bool = False,
    wish: StopWish | None = None,
) -> Result:
    """Train as `settings` say, in a folder of the run's own (`folder.RunFolder`).

    A checkpoint is written at the start, every `checkpoint_seconds`, when Ctrl-C or SIGTERM stop
    the run, and at its end, after which the model is evaluated. resume: go on from the folder's
    checkpoint if there is one, to the same bits as a run that was never stopped; the budget may
    have grown. A loss or gradient that explodes ends the run, and the last checkpoint stays.
    wish: looked at before each minibatch, instead of waiting for signals.

    Raises FileExistsError if the folder holds a run and `resume` is false, ValueError if it holds
    one of other settings, CheckpointError if its checkpoint cannot be read, or is gone.
    """
    if not checkpoint_seconds >= 0:
        raise ValueError(f"checkpoint_seconds: got {checkpoint_seconds}, expected at least 0")
    files = RunFolder(folder)
    if files.has_run and not resume:
        raise FileExistsError(f"{folder}: holds a run, expected an empty folder, or to resume it")
    torch.set_num_threads(settings.threads)
    with parallel.processes():
        trainer, sums = _begun(settings, files)
        parallel.wait()  # all have read before one writes
        leads = parallel.rank() == 0
        if leads:
            files.begin(settings, trainer.minibatch)
        board: metrics.Board = metrics.NoBoard()
        if tensorboard and leads:
            board = metrics.board(files.path, trainer.minibatch)
        shown = progress.show(trainer) if show_progress and leads else progress.Silent()

        def save() -> float:
            if leads and trainer.is_finite:  # else the next step says so
                board.flush()
                sync(files.metrics)  # a checkpoint never knows of lines that a power cut took
                checkpoint.write(files.checkpoint, trainer.state() | {"sums": sums._asdict()})
            return time.monotonic()

        try:
            with stop_wishes() if wish is None else contextlib.nullcontext(wish) as asked:
                saved = save()
                while not (stop := parallel.agreed(asked.number or int(trainer.spent >= 1))):
                    step = trainer.step()
                    sums = sums.plus(step)
                    shown.update(trainer, step)
                    if sums.minibatches == LOG_EVERY:
                        if leads:
                            _log(files, trainer, sums, board)
                        sums = metrics.Sums()
                    if time.monotonic() - saved > checkpoint_seconds:
                        saved = save()
                trainer.check_finite()
                save()
        except Diverged as error:
            if leads:
                failure = {"error": str(error), "minibatch": error.minibatch}
                files.failure.write_text(json.dumps(failure) + "\n")
            return _result("diverged", trainer, str(error))
        finally:
            shown.close()
            board.close()
        if stop != BUDGET:
            return _result(signal.Signals(stop).name, trainer)
        if leads:
            _evaluate(files, trainer)
        return _result("budget", trainer)


def _begun(settings: RunSettings, files: RunFolder) -> tuple[Trainer, metrics.Sums]:
    """A run where its checkpoint says, or at its start, and the sums since the last line."""
    trainer = Trainer(settings)
    if files.checkpoint.exists():
        state = files.read_checkpoint()
        trainer.load(state)
        return trainer, metrics.Sums(**state["sums"])
    if any(metrics.read(files.metrics)):
        raise CheckpointError(
            f"{files.checkpoint}: got no such file beside lines of a training, expected the "
            "checkpoint to go on from"
        )
    return trainer, metrics.Sums()


def _result(reason: str, trainer: Trainer, message: str = "") -> Result:
    return Result(
        reason, trainer.minibatch, trainer.episodes, trainer.seconds, trainer.level, message
    )


def _log(files: RunFolder, trainer: Trainer, sums: metrics.Sums, board: metrics.Board) -> None:
    means = sums.means()
    metrics.append(
        files.metrics,
        {
            "kind": "train",
            "minibatch": trainer.minibatch,
            "episodes": trainer.episodes,
            **means,
            "level": trainer.level,
            "seconds": round(trainer.seconds, 3),
            "data_seconds": round(trainer.data_seconds, 3),
            "model_seconds": round(trainer.model_seconds, 3),
        },
    )
    for name, value in means.items():
        board.add_scalar(name, value, trainer.minibatch)
    if trainer.level is not None:
        board.add_scalar("level", trainer.level, trainer.minibatch)


def _evaluate(files: RunFolder, trainer: Trainer) -> None:
    """Add the records of the end of a run, in the place of those of an earlier call, if any."""
    records = list(evaluate_trainer(trainer))
    # `python -m sam evaluate` says which settings of the model it has changed; those lines stay.
    metrics.keep(
        files.evaluation,
        lambda each: "model_settings" in each or each["minibatch"] != trainer.minibatch,
    )
    for record in records:
        metrics.append(files.evaluation, record)
