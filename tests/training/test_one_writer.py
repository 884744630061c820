"""One run, one process that trains it: whoever comes second is told who is there."""

import contextlib
import errno
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading

import pytest

from sam.commands import main
from sam.training import json_files, locks, train
from sam.training.locks import FileLock
from sam.training.trainer import Trainer
from tests.training.small_runs import assert_same_run, checkpoint, lines, settings

QUIET = ("--quiet", "--no-tensorboard")
HOLDER = (
    "import fcntl, sys; file = open(sys.argv[1], 'a'); fcntl.flock(file, fcntl.LOCK_EX); "
    "print('held', flush=True); sys.stdin.read()"
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    train(settings(minibatches=120), folder)
    return folder


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


@pytest.fixture
def at_step(monkeypatch):
    """Lets something happen before a step of whatever trains first."""
    real = Trainer.step

    def arrange(number, happen):
        left = iter([False] * (number - 1) + [True])

        def step(trainer):
            if next(left, False):
                happen()
            return real(trainer)

        monkeypatch.setattr(Trainer, "step", step)

    return arrange


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "run.lock"}


def refused(folder, capsys, *more):
    capsys.readouterr()
    assert main(["train", "--resume", str(folder), *QUIET, *more]) == 2
    printed, error = capsys.readouterr()
    assert printed == ""
    assert error.count("\n") == 1
    return error


WAYS = {
    "the same path": lambda run: run,
    "another spelling": lambda run: run / ".." / "run",
    "relative": lambda run: os.path.relpath(run),
    "a link to it": lambda run: _link(run.parent / "link", run),
    "a link above it": lambda run: _link(run.parent / "above", run.parent) / "run",
    "moved meanwhile": lambda run: run.rename(run.parent / "moved"),
}


def _link(link, target):
    link.symlink_to(target)
    return link


@pytest.mark.parametrize("way", WAYS)
def test_a_folder_in_which_another_trains_is_left_alone(run, capsys, way):
    with locks.alone(run):
        other = WAYS[way](run)
        before = contents(run.parent / "moved" if way == "moved meanwhile" else run)
        error = refused(other, capsys, "--episodes", "960")
        assert f"process {os.getpid()} on {socket.gethostname()}, since 20" in error
        assert "trains in it" in error
        assert contents(run.parent / "moved" if way == "moved meanwhile" else run) == before


def test_two_trainings_in_one_folder_leave_the_lines_of_one(tmp_path, at_step, capsys):
    """As two shells would: the second comes while the first trains."""
    run, alone = tmp_path / "run", tmp_path / "alone"
    train(settings(minibatches=250), alone)
    errors = []
    at_step(150, lambda: errors.append(refused(run, capsys)))
    train(settings(minibatches=250), run)
    assert f"process {os.getpid()}" in errors[0]
    assert_same_run(run, alone)
    assert [each["minibatch"] for each in lines(run / "metrics.jsonl")] == [100, 200]


def test_a_new_run_is_locked_before_it_has_files(tmp_path, capsys):
    with locks.alone(tmp_path / "run"):
        arguments = ["--model", "lstm", "--task", "copy", "--episodes", "16"]
        assert main(["train", *arguments, "--out", str(tmp_path / "run"), *QUIET]) == 2
        assert "trains in it" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_killed_process_leaves_no_lock(run):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(run / "run.lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError, match="another trains in it"):
            train(settings(minibatches=120), run, resume=True)
        other.send_signal(signal.SIGKILL)
        other.wait()
    (run / "run.lock").write_text("process 1 on nowhere, since 2000-01-01 00:00:00")
    assert train(settings(minibatches=120), run, resume=True).reason == "budget"


def test_garbage_in_the_lock_is_not_shown(run, capsys):
    with locks.alone(run):
        (run / "run.lock").write_bytes(b"\x00\x1b[2J\n" * 1000)
        assert "run: another trains in it" in refused(run, capsys)


@pytest.mark.parametrize("what", ["the lock is removed", "the folder is moved", "it is replaced"])
def test_who_has_lost_the_folder_stops_and_writes_nothing_more(tmp_path, at_step, what):
    run, new = tmp_path / "run", tmp_path / "new"

    def lose():
        if what == "the lock is removed":
            (run / "run.lock").unlink()
        else:
            run.rename(new)
        if what == "it is replaced":
            run.mkdir()

    at_step(150, lose)
    with pytest.raises(FileNotFoundError, match="was moved or removed while this process trained"):
        train(settings(minibatches=250), run)
    assert not (run / "evaluation.jsonl").exists()
    if what == "it is replaced":
        assert list(run.iterdir()) == []
    kept = run if what == "the lock is removed" else new
    assert checkpoint(kept)["minibatch"] == 0
    train(settings(minibatches=250), kept, resume=True)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_it_trains_with_a_warning(run, tmp_path, monkeypatch, capsys, number):
    real = fcntl.flock

    def flock(file, kind):
        if kind != fcntl.LOCK_UN:
            raise OSError(number, os.strerror(number))
        real(file, kind)

    monkeypatch.setattr(fcntl, "flock", flock)
    assert train(settings(minibatches=120), run, resume=True).reason == "budget"
    assert "run.lock: this file system has no locks" in capsys.readouterr().err


def test_bad_input_leaves_no_lock_and_no_folder(tmp_path):
    deep = tmp_path / "a" / "b"
    with pytest.raises(ValueError, match="k: got 17"):
        train(settings("sam", model_settings={"memory_size": 16, "k": 17}), deep)
    assert list(tmp_path.iterdir()) == []
    deep.mkdir(parents=True)
    (deep / "mine").write_text("notes")
    with pytest.raises(ValueError, match="k: got 17"):
        train(settings("sam", model_settings={"memory_size": 16, "k": 17}), deep)
    assert (deep / "mine").exists()


def test_a_lock_that_was_removed_is_made_anew(tmp_path):
    """Who waits for one that is gone would else hold what nobody else meets."""
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert first.take()
    (tmp_path / "lock").unlink()
    first.close()
    assert second.take()
    assert second.is_in_place()
    third = FileLock(tmp_path / "lock")
    assert not third.take()
    assert third.holder().startswith(f"process {os.getpid()} on ")
    for each in (second, third):
        each.close()


def test_lines_that_several_add_at_once_are_all_there(tmp_path):
    """Also while others replace the file, and with a line that was cut short in between."""
    path, stop = tmp_path / "lines", threading.Event()

    def add(name):
        for number in range(100):
            json_files.append(path, {"by": name, "number": number, "more": "x" * 500})

    def rewrite():
        while not stop.is_set():
            json_files.keep(path, {"by": str, "number": int}, lambda each: True)

    adding = [threading.Thread(target=add, args=(name,)) for name in "abc"]
    rewriting = threading.Thread(target=rewrite)
    for thread in (rewriting, *adding):
        thread.start()
    for thread in adding:
        thread.join()
    stop.set()
    rewriting.join()
    found = [(each["by"], each["number"]) for each in lines(path)]
    assert sorted(found) == [(name, number) for name in "abc" for number in range(100)]


CUT = [
    (b'{"a": 1}\n{"kind": "ev', [{"a": 1}]),
    (b'{"kind": "ev', []),
    (b'{"a": 1}\n\xff\x00', [{"a": 1}]),
    (b'{"a": 1}\n{"b": "' + b"x" * 200_000, [{"a": 1}]),
    (b'{"a": 1}', [{"a": 1}]),  # all but its end: an editor's, or nothing was lost
    (b'{"a": 1}\n', [{"a": 1}]),
    (b"", []),
    (b'{"a": 1}\n17', [{"a": 1}]),
]


@pytest.mark.parametrize(("text", "whole"), CUT, ids=range(len(CUT)))
def test_a_line_that_was_cut_short_is_mended_by_whoever_writes_next(tmp_path, text, whole):
    path = tmp_path / "lines"
    path.write_bytes(text)
    assert list(json_files.lines(path, {})) == whole
    json_files.append(path, {"c": 3})
    assert lines(path) == [*whole, {"c": 3}]
    path.write_bytes(text)
    json_files.keep(path, {}, lambda each: True)
    assert lines(path) == whole


def test_a_cut_line_of_an_evaluation_is_mended(run, capsys):
    """A full disk leaves it; evaluating again must not make the run impossible to resume."""
    whole = lines(run / "evaluation.jsonl")
    with open(run / "evaluation.jsonl", "a") as file:
        file.write('{"kind": "eval')
    assert main(["evaluate", str(run), "--levels", "2", "--sequences", "8"]) == 0
    assert main(["train", "--resume", str(run), *QUIET]) == 0
    left = lines(run / "evaluation.jsonl")
    assert [each["level"] for each in left] == [2, 2, 5]  # the first as `evaluate` added it
    assert [each for each in left if "model_settings" not in each] == whole


def test_a_damaged_line_of_an_evaluation_stops_no_training(run):
    with open(run / "evaluation.jsonl", "a") as file:
        file.write('{"kind": "eval{"kind": "evaluation"}\n')
    assert main(["train", "--resume", str(run), *QUIET]) == 0
    assert '{"kind": "eval{' in (run / "evaluation.jsonl").read_text()


def test_evaluating_is_checked_to_be_of_use_first(run, monkeypatch, capsys):
    def never(*arguments, **options):
        raise AssertionError("it was computed in vain")

    monkeypatch.setattr("sam.commands.evaluate.evaluation.evaluate_all", never)
    (run / "evaluation.jsonl").unlink()
    (run / "evaluation.jsonl").mkdir()
    capsys.readouterr()
    assert main(["evaluate", str(run)]) == 2
    assert "evaluation.jsonl" in capsys.readouterr().err


def test_checking_that_lines_can_be_added_leaves_no_trace(tmp_path):
    path = tmp_path / "lines"
    json_files.check_writable(path, 1000)
    assert not path.exists()
    path.write_text("{}\n")
    json_files.check_writable(path, 1000)
    assert path.read_text() == "{}\n"
    with pytest.raises(OSError, match=r"lines: No space left on device: 1,000,0.* are needed"):
        json_files.check_writable(path, 10**18)
    with contextlib.suppress(OSError):
        json_files.check_writable(tmp_path / "none" / "lines", 1)
    assert list(tmp_path.iterdir()) == [path]
