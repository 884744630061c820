"""A sweep: the runs that are not done yet are handed to an engine, and their ends tabulated."""

from __future__ import annotations

import contextlib
import datetime
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from sam import checks
from sam.files import NotWritten
from sam.training.locks import FileLock
from sam.training.settings import RunSettings
from sam.training.signals import StopWish, stop_wishes
from sam.training.sweeps import engines, outcome, plan, table
from sam.training.sweeps.attempt import Order, attempt
from sam.training.sweeps.engines import Place
from sam.training.sweeps.table import Run

POLL_SECONDS = 0.2
HERE = Place()
RETRIES = 3
LOCK_SECONDS = 5.0  # in which processes that an earlier sweep left behind see that it is gone

Say = Callable[[str], None]


class Sweep(NamedTuple):
    """How a call of `sweep` ended.

    runs: those it was asked for, in order. stopped_by: the name of the signal that did, or "".
    """

    runs: list[Run]
    stopped_by: str


def sweep(
    settings: Sequence[RunSettings],
    out: str | Path,
    *,
    place: Place = HERE,
    only: Collection[str] = (),
    checkpoint_seconds: float = 60.0,
    say: Say = lambda line: None,
) -> Sweep:
    """Train many runs, several at a time, each in its folder OUT/<name>/seed-<seed>.

    Runs that an earlier call trained, or that diverged in it, are left as they are; the others go
    on from their checkpoints. One that fails leaves the others alone. OUT/table.csv has a row per
    run, level it was evaluated at and kind of reads, the same to the bit wherever they ran;
    OUT/times.csv has how long they took.

    place: where, and how many at a time; by default in processes of this machine. The machines of
    a cluster must have this package and share OUT, with file locks. only: the names of the runs to
    go on with, or patterns such as "copy/*". say: is told what goes on, line by line.

    Ctrl-C and SIGTERM have all runs save and stop. Raises ValueError for runs that cannot have
    folders of their own in OUT or have other settings there, BlockingIOError if another sweep is
    at work in OUT, ImportError, with what to install, if the engine is missing.
    """
    checks.number("checkpoint_seconds", checkpoint_seconds, "[0, inf)")
    out = Path(out).absolute()
    engines.check(place)
    folders, chosen = plan.folders(settings, out), plan.chosen(settings, only)

    def tabulate() -> list[Run]:
        pairs = zip(settings, folders, strict=True)
        runs = [Run(each, folder, outcome.read(folder, each)) for each, folder in pairs]
        table.write(out, runs)
        return runs

    out.mkdir(parents=True, exist_ok=True)
    with _locked(out / "sweep.lock") as lock:
        for path in out.glob("*.unfinished"):  # of a sweep that was killed
            path.unlink()
        pending = [
            run for run in tabulate() if run.settings.name in chosen and not run.outcome.is_final
        ]
        say(f"{len(settings)} runs in {out}, of which {len(pending)} are to be trained")
        for run in pending:
            run.folder.mkdir(parents=True, exist_ok=True)
            outcome.forget(run.folder)
        stopped_by = ""
        if pending:
            with (
                engines.started(place, _threads(pending)) as map_all,
                stop_wishes() as wish,
                _watched(pending, lock, wish, tabulate, say),
            ):

                def orders() -> Iterator[Order]:
                    for run in pending:
                        if not wish.number and not _has_ended(run):
                            yield _order(run, lock, checkpoint_seconds)

                _persistently(lambda: map_all(attempt, orders()), say)
            if not wish.number and not all(map(_has_ended, pending)):
                say(f"Runs are left: the machines of a cluster must share {out}, with file locks")
            stopped_by = signal.Signals(wish.number).name if wish.number else ""
        return Sweep([run for run in tabulate() if run.settings.name in chosen], stopped_by)


def _persistently(dispatch: Callable[[], None], say: Say) -> None:
    """Dispatch anew what is left when a cluster loses a worker, on which joblib gives up."""
    for left in reversed(range(RETRIES + 1)):
        try:
            return dispatch()
        except Exception as error:
            if not left or isinstance(error, NotWritten):  # a full disk stays full
                raise
            say(f"{type(error).__name__}: lost a worker; what is left is handed out again")


def _has_ended(run: Run) -> bool:
    return outcome.read(run.folder, run.settings) != outcome.UNFINISHED


def _threads(runs: Sequence[Run]) -> int:
    return max(run.settings.threads for run in runs)


def _order(run: Run, lock: FileLock, checkpoint_seconds: float) -> Order:
    return Order(run.settings.as_mapping(), str(run.folder), str(lock.path), checkpoint_seconds)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[FileLock]:
    """Hold the sweep's lock, without which its runs stop."""
    lock = FileLock(path)
    try:
        if not lock.take_within(LOCK_SECONDS):
            raise BlockingIOError(f"{path.parent}: another sweep is at work in it, {lock.holder()}")
        yield lock
    finally:
        lock.close()


@contextlib.contextmanager
def _watched(
    pending: Sequence[Run],
    lock: FileLock,
    wish: StopWish,
    tabulate: Callable[[], list[Run]],
    say: Say,
) -> Iterator[None]:
    """Meanwhile, tell of the runs that end, and pass the wish to stop on to all of them."""
    done, started = threading.Event(), time.monotonic()
    left = {run.folder: run.settings for run in pending}

    def tell() -> None:
        ended = {folder: outcome.read(folder, left[folder]) for folder in left}
        ended = {folder: each for folder, each in ended.items() if each != outcome.UNFINISHED}
        for folder, each in ended.items():
            run = Run(left.pop(folder), folder, each)
            gone = datetime.timedelta(seconds=round(time.monotonic() - started))
            say(f"[{len(pending) - len(left)}/{len(pending)}, {gone}] {_line(run)}")
        if ended:
            tabulate()

    def watch() -> None:
        try:
            while not done.wait(POLL_SECONDS) and not wish.number:
                tell()
        finally:
            lock.drop()
        if wish.number:
            say("Stopping, as soon as the runs under way are saved; once more to stop at once")
        done.wait()
        tell()

    with ThreadPoolExecutor(1) as pool:
        watcher = pool.submit(watch)
        try:
            yield
        finally:
            done.set()
        watcher.result()


def _line(run: Run) -> str:
    settings, ended = run.settings, run.outcome
    line = f"{settings.name} seed {settings.seed}: {ended.status}"
    if ended.episodes is not None:
        line += f", {ended.episodes:,} episodes in {ended.seconds:.0f} s"
    return line + (f": {ended.message}" if ended.message else "")
