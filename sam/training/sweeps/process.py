"""A run's process: `python -m sam.training.sweeps.process`, its order as JSON on standard input."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from sam.training.locks import FileLock
from sam.training.loop import Result, train
from sam.training.settings import RunSettings
from sam.training.signals import StopWish, stop_wishes
from sam.training.sweeps import outcome
from sam.training.sweeps.attempt import Order
from sam.training.sweeps.outcome import Outcome

POLL_SECONDS = 0.2


def main() -> None:
    order = Order(**json.load(sys.stdin))
    settings, folder = RunSettings.of(order.settings), Path(order.folder)
    sweep, own = FileLock(Path(order.sweep_lock)), FileLock(folder / "run.lock")
    with stop_wishes() as wish:
        threading.Thread(target=_stop_with, args=(sweep, wish), daemon=True).start()
        # A process that an earlier sweep left behind may still be saving.
        if not own.take():
            print(f"Waiting for {own.holder()}, which trains in {folder}", flush=True)
        if not _wait_until(own.take, wish) or outcome.read(folder, settings).is_final:
            return
        try:
            ended = _outcome(
                train(
                    settings,
                    folder,
                    resume=True,
                    checkpoint_seconds=order.checkpoint_seconds,
                    wish=wish,
                    lock=own,
                )
            )
        except Exception as error:
            traceback.print_exc()
            ended = Outcome("failed", f"{type(error).__name__}: {error}")
        if ended is not None:
            outcome.write(folder, settings, ended)


def _outcome(result: Result) -> Outcome | None:
    """None of a run that was stopped."""
    status = {"budget": "trained", "diverged": "diverged"}.get(result.reason)
    if status is None:
        return None
    return Outcome(
        status, result.message, result.minibatch, result.episodes, result.level, result.seconds
    )


def _stop_with(sweep: FileLock, wish: StopWish) -> None:
    """Have the run saved and stopped when the sweep is stopped, or is no more."""
    while sweep.is_held_elsewhere():
        time.sleep(POLL_SECONDS)
    wish.number = wish.number or signal.SIGTERM


def _wait_until(done: Callable[[], bool], wish: StopWish) -> bool:
    """False if it was asked to stop before."""
    while not done():
        if wish.number:
            return False
        time.sleep(POLL_SECONDS)
    return True


if __name__ == "__main__":
    main()
