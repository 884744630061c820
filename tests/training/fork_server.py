"""A process that has all loaded, and forks one for each run that a test wants to interrupt.

An order is a line of JSON: `train` (settings and folder) or `main` (arguments), and how it ends:
`kill_after` seconds, or `signals`, a list of numbers, each after the `folder`'s checkpoint has been
written anew; or `moment`, a function of `os` or "write", at whose `call`-th call the run kills
itself. The answer is a line of JSON: the exit status as of `subprocess` and what it printed.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


class ForkServer:
    """The other end, in the test's process."""

    def __init__(self):
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )

    def __call__(self, **order):
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return answer["status"], answer["printed"]

    def close(self):
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


def _serve():
    with tempfile.TemporaryDirectory() as folder:
        _warm_up(Path(folder))
        for line in sys.stdin:
            order, printed = json.loads(line), Path(folder) / "printed"
            child = os.fork()
            if not child:
                _child(order, printed)
            status = _interrupted(child, order)
            answer = {"status": status, "printed": printed.read_text()}
            print(json.dumps(answer), flush=True)


def _warm_up(folder):
    from sam.training import train
    from tests.training import small_runs

    for model in small_runs.MODELS:
        train(small_runs.settings(model, minibatches=2), folder / model)


def _child(order, printed):
    """Never returns."""
    from sam.commands import main
    from sam.training import RunSettings, train

    status = 3
    with open(printed, "w", buffering=1) as file, contextlib.redirect_stdout(file):
        try:
            if "moment" in order:
                _kill_itself_at(order["moment"], order["call"])
            with contextlib.redirect_stderr(file):
                if "main" in order:
                    status = main(order["main"])
                else:
                    settings, folder = order["train"]
                    often = order.get("checkpoint_seconds", 0.01)  # most moments are within a write
                    train(RunSettings.of(settings), folder, resume=True, checkpoint_seconds=often)
                    status = 0
        except SystemExit as error:
            status = error.code
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=file)
        finally:
            os._exit(status)


def _kill_itself_at(moment, call):
    import torch

    owner, name = (torch, "save") if moment == "write" else (os, moment)
    real, calls = getattr(owner, name), iter(range(1, call + 1))

    def deadly(*arguments, **options):
        if next(calls) == call:
            if moment == "write":  # half of the file is there
                contents, file = arguments
                real(contents, file)
                file._file.truncate(file.size // 2)
                file._file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)

    setattr(owner, name, deadly)


def _interrupted(child, order):
    """Interrupt a run as ordered; returns its exit status."""
    for number in order.get("signals", [signal.SIGKILL] if "kill_after" in order else []):
        status = _until_a_checkpoint(child, Path(order["folder"]) / "checkpoint.pt")
        if status is not None:
            return status
        time.sleep(order.get("kill_after", 0))
        os.kill(child, number)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _until_a_checkpoint(child, path):
    """Returns once the file is written anew, None; or when the process has ended, its status."""
    before = path.stat().st_ino if path.exists() else None
    while not path.exists() or path.stat().st_ino == before:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    return None


if __name__ == "__main__":
    _serve()
