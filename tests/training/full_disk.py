"""What becomes of a run on a disk of half a megabyte that is full: prints a line of JSON per case.

Arguments: a folder on that disk, and one elsewhere. Each case is a command with the room that it
is left; the line has its status, what it printed on standard error, and what it left behind.
"""

import contextlib
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch

import sam
from sam.commands import main
from sam.training import evaluation, json_files
from sam.training.trainer import Trainer
from tests.training.small_runs import flags

PAGE = 4096
QUIET = ("--quiet", "--no-tensorboard")


def fill(disk, room):
    """Take all of the disk but `room` bytes."""
    free = os.statvfs(disk)
    with open(disk / "filler", "wb") as file:
        os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - room)


def files_in(folder):
    """Name to digest; the lock only says who was there last."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("run.lock", "filler")
    }


def case(name, disk, room, action, before=None):
    if before is not None:
        shutil.copytree(before, disk / "run")
    fill(disk, room)
    stood, error = files_in(disk), io.StringIO()
    with contextlib.redirect_stderr(error), contextlib.redirect_stdout(io.StringIO()):
        status = action()
    left = files_in(disk)
    told = {"name": name, "room": room, "status": status, "error": error.getvalue()}
    told["changed"] = sorted(each for each in stood | left if stood.get(each) != left.get(each))
    told["is_readable"] = before is None or _is_readable(disk / "run")
    print(json.dumps(told), flush=True)
    for path in disk.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _is_readable(folder):
    sam.training.folder.RunFolder(folder).read_checkpoint()
    sam.training.folder.RunFolder(folder).read_settings()
    return True


def record(path):
    model = sam.SAM(3, 2, memory_size=64, word_size=8, num_heads=2, hidden_size=8)
    try:
        with sam.record_trace(model, path):
            model(torch.randn(50, 4, 3))
    except OSError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def add_line(path):
    try:
        json_files.append(path, {"kind": "train", "minibatch": 1, "more": "x" * 3 * PAGE})
    except OSError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def filled_at(step, disk, run):
    """A new run, at a step of which the disk is filled by somebody else."""
    real, steps = Trainer.step, iter(range(1, 1000))

    def filling(trainer):
        if next(steps) == step:
            (disk / "filler").unlink()
            fill(disk, 0)
        return real(trainer)

    Trainer.step = filling
    try:
        return main(flags(run, "--episodes", 440))
    finally:
        Trainer.step = real


def run_all(disk, elsewhere):
    whole, run = elsewhere / "whole", disk / "run"
    assert main(flags(whole, "--episodes", 440, "--evaluate", 2)) == 0
    resume = ["train", "--resume", str(run), "--episodes", "880", *QUIET]
    for pages in (0, 1, 2, 4):
        case("new", disk, pages * PAGE, lambda: main(flags(run, "--episodes", 440)))
    for pages in range(12):
        case("resume", disk, pages * PAGE, lambda: main(resume), before=whole)
    for step in (50, 105):
        case("midway", disk, 30 * PAGE, lambda step=step: filled_at(step, disk, run))
    evaluate = ["evaluate", str(run), "--sequences", "4"]
    case("evaluate", disk, 0, lambda: main(evaluate), before=whole)
    trace = disk / "a trace.npz"
    case("trace", disk, PAGE, lambda: record(trace))
    case("line", disk, PAGE, lambda: add_line(run / "metrics.jsonl"), before=whole)
    sweep = ["sweep", "--model", "lstm", "--task", "copy", "--episodes", "16", "--out", str(run)]
    case("sweep", disk, 2 * PAGE, lambda: main(sweep))
    board = [each for each in resume if each != "--no-tensorboard"]
    case("board", disk, 0, lambda: main(board), before=whole)


def run_read_only(disk, elsewhere):
    """Where nothing can be written at all, nothing is computed either."""
    shutil.copytree(elsewhere / "whole", disk / "run")
    (disk / "run" / "run.lock").unlink()
    (disk / "run" / "evaluation.jsonl").unlink()
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    evaluation.evaluate_all = Trainer.step = None  # whoever computes fails
    run = str(disk / "run")
    for command in (["evaluate"], ["train", *QUIET, "--episodes", "880", "--resume"]):
        error = io.StringIO()
        with contextlib.redirect_stderr(error), contextlib.redirect_stdout(io.StringIO()):
            status = main([*command, run])
        print(json.dumps({"name": "read-only", "status": status, "error": error.getvalue()}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    run_all(*map(Path, sys.argv[1:]))
    run_read_only(*map(Path, sys.argv[1:]))
