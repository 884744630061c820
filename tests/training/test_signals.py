"""Ctrl-C and SIGTERM: the run is saved and stops; a second one ends it at once."""

import contextlib
import os
import signal
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import pytest

from sam.commands import main
from sam.training.signals import StopWish, stop_wishes
from tests.training.small_runs import assert_same_run, checkpoint, flags

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def _ctrl_c_as_in_a_terminal():
    """A shell's background job is started with Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_saves_and_the_run_goes_on_to_the_same_bits(forked, tmp_path, name):
    alone, stopped = tmp_path / "alone", tmp_path / "stopped"
    for folder in (alone, stopped):
        more = ["--episodes", 4 * 600, "--checkpoint-seconds", 0.01 if folder == stopped else 60]
        arguments = flags(folder, *more)
        if folder == alone:
            assert main(arguments) == 0
            continue
        number = signal.Signals[name].value
        status, printed = forked(main=arguments, folder=str(folder), signals=[number])
        assert status == 128 + number, printed
        at = checkpoint(stopped)["minibatch"]
        assert 0 <= at < 600
        assert f"Stopped by {name} after {at:,} minibatches" in printed
        assert f"--resume {stopped}" in printed
        assert not (stopped / "evaluation.jsonl").exists()
    assert main(["train", "--resume", str(stopped), "--quiet", "--no-tensorboard"]) == 0
    assert_same_run(alone, stopped)


def test_a_real_process_stops_by_ctrl_c_and_prints_no_traceback(tmp_path):
    """All as a user has it, with the progress bar, and twice in the end."""
    folder = tmp_path / "run"
    arguments = [each for each in flags(folder, "--minutes", 5) if each != "--quiet"]
    terminal, end = os.openpty()
    termios.tcsetwinsize(end, (24, 80))
    process = subprocess.Popen(
        [sys.executable, "-m", "sam", *arguments, "--checkpoint-seconds", "0.1"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=end,
        text=True,
    )
    os.close(end)
    deadline = time.monotonic() + 120
    metrics = folder / "metrics.jsonl"
    while not (metrics.exists() and metrics.stat().st_size):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    error = _all_of(terminal)
    assert process.returncode == 130
    assert "Stopping as soon as" in error
    assert "Stopped by SIGINT" in printed
    assert "Traceback" not in error
    assert "loss" in error  # of the bar


def _all_of(terminal):
    """What was shown in a terminal that nobody has open any more."""
    shown = b""
    with contextlib.suppress(OSError):  # its end
        while part := os.read(terminal, 4096):
            shown += part
    os.close(terminal)
    return shown.decode()


def test_the_first_is_a_wish_and_the_second_is_obeyed_at_once():
    with stop_wishes() as wish:
        os.kill(os.getpid(), signal.SIGTERM)
        assert wish.number == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(SystemExit) as ended:
            os.kill(os.getpid(), signal.SIGTERM)
        assert ended.value.code == 143
    with pytest.raises(KeyboardInterrupt):  # as before
        os.kill(os.getpid(), signal.SIGINT)


def test_a_second_ctrl_c_ends_the_command_with_its_status(tmp_path, monkeypatch):
    def step(trainer):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("went on")

    monkeypatch.setattr("sam.training.loop.Trainer.step", step)
    assert main(flags(tmp_path / "run", "--episodes", 40)) == 130
    assert checkpoint(tmp_path / "run")["minibatch"] == 0


def test_ctrl_c_while_evaluating_ends_at_once_and_resuming_evaluates(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(
            "sam.training.loop.evaluate_trainer", lambda _: os.kill(os.getpid(), signal.SIGINT)
        )
        assert main(flags(folder, "--episodes", 40)) == 130
    assert not (folder / "evaluation.jsonl").exists()
    assert main(["train", "--resume", str(folder), "--quiet", "--no-tensorboard"]) == 0
    assert (folder / "evaluation.jsonl").exists()


def test_outside_the_main_thread_nothing_is_noted():
    wishes = []

    def note():
        with stop_wishes() as wish:
            wishes.append(wish)

    thread = threading.Thread(target=note)
    thread.start()
    thread.join()
    assert isinstance(wishes[0], StopWish)
    assert wishes[0].number == 0
