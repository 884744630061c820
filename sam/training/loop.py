"""A run from its start, or its last checkpoint, to the end of its budget."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

import torch

from sam import checks
from sam.files import sync
from sam.training import board as boards
from sam.training import checkpoint, json_files, locks, parallel, progress
from sam.training.begin import Begun, begin
from sam.training.evaluation import evaluate_trainer
from sam.training.folder import EVALUATION, RunFolder
from sam.training.locks import FileLock
from sam.training.metrics import Sums
from sam.training.settings import RunSettings
from sam.training.signals import StopWish, stop_wishes
from sam.training.trainer import Diverged, Trainer

LOG_EVERY = 100  # minibatches that a line of metrics.jsonl is the mean of
STOPPING = "Stopping as soon as this step is done and saved; once more to stop at once\n"
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
    restart: bool = False,
    init_from: str | Path | None = None,
    overrides: Collection[str] = (),
    checkpoint_seconds: float = 60.0,
    tensorboard: bool = False,
    show_progress: bool = False,
    wish: StopWish | None = None,
    lock: FileLock | None = None,
) -> Result:
    """Train as `settings` say, in a folder of the run's own (`folder.RunFolder`).

    A checkpoint is written at the start, every `checkpoint_seconds`, when Ctrl-C or SIGTERM stop
    the run, and at its end, after which the model is evaluated. A loss or gradient that explodes
    ends the run, and the last checkpoint stays. No other process can train in the folder meanwhile.

    resume: go on from the folder's checkpoint if it holds a run, to the same bits as a run that was
    never stopped; the budget may have grown. overrides: names of further settings that may be
    others than those of the checkpoint, such as "optimizer.learning_rate"; run.json's `history`
    says since when. restart: begin anew, and drop the run that is in the folder. init_from:
    another run's folder, or a checkpoint, whose parameters a run begins with.
    wish: looked at before each minibatch, instead of waiting for signals. lock: the folder's, if
    it is held already.

    Raises FileExistsError if the folder holds a run and neither `resume` nor `restart` is true,
    ValueError if it holds one of other settings, CheckpointError if its checkpoint cannot be read,
    or is gone, BlockingIOError if another process trains in it, `files.NotWritten` if there is no
    room on the disk.
    """
    checks.number("checkpoint_seconds", checkpoint_seconds, "[0, inf)")
    files = RunFolder(folder)
    torch.set_num_threads(settings.threads)
    with contextlib.ExitStack() as stack:
        stack.enter_context(parallel.processes())
        leads = parallel.rank() == 0
        if leads and lock is None:
            lock = stack.enter_context(locks.alone(files.path))
        with stop_wishes(STOPPING) if wish is None else contextlib.nullcontext(wish) as asked:
            begun = begin(
                settings,
                files,
                resume=resume,
                restart=restart,
                init_from=init_from,
                overrides=overrides,
            )
            parallel.wait()  # all have read before one writes
            writer = _Writer(files, begun, lock) if leads else None
            result = _trained(begun, writer, asked, checkpoint_seconds, tensorboard, show_progress)
        if result.reason == "budget" and writer:
            writer.evaluate()
        return result


def _trained(
    begun: Begun,
    writer: _Writer | None,
    asked: StopWish,
    checkpoint_seconds: float,
    tensorboard: bool,
    show_progress: bool,
) -> Result:
    trainer, sums = begun.trainer, begun.sums
    save: Callable[[Sums], None] = writer.save if writer else lambda sums: None
    board: boards.Board = boards.NoBoard()
    if writer:
        is_drawn = tensorboard and boards.is_installed()
        writer.begin()
        if is_drawn:
            board = boards.EventFile(writer.files.path, trainer.minibatch + 1)
    shown = progress.show(trainer) if show_progress and writer else progress.Silent()
    try:
        saved = time.monotonic()
        while not (stop := parallel.agreed(asked.number or int(trainer.spent >= 1))):
            step = trainer.step()
            sums = sums.plus(step)
            shown.update(trainer, step)
            if sums.minibatches == LOG_EVERY:
                if writer:
                    writer.log(sums, board)
                sums = Sums()
            if time.monotonic() - saved > checkpoint_seconds:
                save(sums)
                saved = time.monotonic()
        trainer.check_finite()
        save(sums)
    except Diverged as error:
        if writer:
            writer.fail(error)
        return _result("diverged", trainer, str(error))
    finally:
        shown.close()
        board.close()
    return _result("budget" if stop == BUDGET else signal.Signals(stop).name, trainer)


def _result(reason: str, trainer: Trainer, message: str = "") -> Result:
    return Result(
        reason, trainer.minibatch, trainer.episodes, trainer.seconds, trainer.level, message
    )


class _Writer(NamedTuple):
    """Writes what a run comes to, as long as its folder is this process's."""

    files: RunFolder
    begun: Begun
    lock: FileLock | None

    def begin(self) -> None:
        if not self.begun.is_saved:
            self.save(self.begun.sums)  # first, as a full disk then leaves all as it was
        self.files.describe(self.begun.trainer.settings, self.begun.history)
        if self.begun.is_fresh:
            self.files.forget()
        self.files.begin(self.begun.trainer.minibatch)

    def save(self, sums: Sums) -> None:
        self._check()
        if self.begun.trainer.is_finite:  # else the next step says so
            if self.files.metrics.exists():
                sync(self.files.metrics)  # a checkpoint never knows of lines that a power cut took
            checkpoint.write(self.files.checkpoint, self.begun.state(sums))

    def log(self, sums: Sums, board: boards.Board) -> None:
        self._check()
        trainer, means = self.begun.trainer, sums.means()
        record = {
            "kind": "train",
            "minibatch": trainer.minibatch,
            "episodes": trainer.episodes,
            **means,
            "level": trainer.level,
            "seconds": round(trainer.seconds, 3),
            "data_seconds": round(trainer.data_seconds, 3),
            "model_seconds": round(trainer.model_seconds, 3),
        }
        json_files.append(self.files.metrics, record)
        for name, value in means.items():
            board.add_scalar(name, value, trainer.minibatch)
        if trainer.level is not None:
            board.add_scalar("level", trainer.level, trainer.minibatch)

    def fail(self, error: Diverged) -> None:
        self._check()
        failure = {"error": str(error), "minibatch": error.minibatch}
        json_files.write(self.files.failure, failure, indent=None)

    def evaluate(self) -> None:
        """Add the records of the end of a run, in the place of those of an earlier call, if any."""
        trainer = self.begun.trainer
        records = list(evaluate_trainer(trainer))
        self._check()
        json_files.keep(
            self.files.evaluation,
            EVALUATION,
            # `python -m sam evaluate` says which settings it has changed; those lines stay.
            lambda each: "model_settings" in each or each["minibatch"] != trainer.minibatch,
            strict=False,
        )
        for record in records:
            json_files.append(self.files.evaluation, record)

    def _check(self) -> None:
        if self.lock is not None:
            self.lock.check()
