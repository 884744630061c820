"""Two processes of torchrun, as one on the joined minibatch."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from sam.commands import main
from tests.training.each_step import seen
from tests.training.small_runs import (
    CURRICULUM,
    MODELS,
    assert_same_run,
    checkpoint,
    flags,
    lines,
    mapping,
)

ROOT = Path(__file__).parent.parent.parent
# --standalone: a port that is free.
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
MINIBATCHES = 30
# Of an approximate index the memories of a batch differ in their seeds, by their place in it.
EXACT = [model for model in MODELS if model != "kd_forest"]
RUNS = [
    mapping(model, batch_size=8, curriculum=curriculum)
    for model in EXACT
    for curriculum in (None, CURRICULUM | {"threshold": 0.75})
]


def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def of_two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    script = [str(ROOT / "tests/training/each_step.py"), json.dumps(RUNS), str(MINIBATCHES)]
    done = subprocess.run(
        [*TORCHRUN, *script, str(folder)],
        env=environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("number", range(len(RUNS)))
def test_two_processes_do_what_one_does_on_the_joined_minibatch(of_two, number):
    first, second = (each["runs"][number] for each in of_two)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    alone = seen(RUNS[number], MINIBATCHES)
    torch.testing.assert_close(first["steps"], alone["steps"], rtol=1e-5, atol=0)
    torch.testing.assert_close(first["model"], alone["model"], rtol=1e-4, atol=1e-5)
    if RUNS[number]["curriculum"]:
        assert alone["steps"][-1, -1] > 1


def test_a_minibatch_that_cannot_be_shared_out_is_refused(of_two):
    assert [each["odd"] for each in of_two] == [
        "batch_size: got 9, expected a multiple of world=2"
    ] * 2


@pytest.mark.slow
def test_sigterm_to_torchrun_saves_and_both_go_on(tmp_path):
    alone, stopped = tmp_path / "alone", tmp_path / "stopped"
    more = ["--episodes", 4 * 3000, "--checkpoint-seconds", 600]
    torchrun(flags(alone, *more))
    process = start(flags(stopped, *more))
    wait_for(lambda: lines(stopped / "metrics.jsonl"), process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=600)
    assert process.returncode != 0
    assert 100 <= checkpoint(stopped)["minibatch"] < 3000
    assert not (stopped / "evaluation.jsonl").exists()
    printed = torchrun(["train", "--resume", str(stopped), "--quiet", "--no-tensorboard"])
    assert_same_run(alone, stopped)
    assert printed.count("Trained: 3,000 minibatches") == 1

    single = tmp_path / "single"
    assert main(flags(single, *more)) == 0
    for two, one in zip(
        lines(alone / "metrics.jsonl"), lines(single / "metrics.jsonl"), strict=True
    ):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-3)


@pytest.mark.slow
def test_a_minibatch_that_cannot_be_shared_out_leaves_no_run(tmp_path):
    process = start(flags(tmp_path / "run", "--batch-size", 5, "--episodes", 100))
    _, error = process.communicate(timeout=600)
    assert process.returncode != 0
    assert "python -m sam: batch_size: got 5, expected a multiple of world=2" in error
    assert not (tmp_path / "run").exists()


def start(arguments):
    return subprocess.Popen(
        [*TORCHRUN, "-m", "sam", *arguments],
        env=environment(),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def torchrun(arguments):
    process = start(arguments)
    printed, error = process.communicate(timeout=600)
    assert process.returncode == 0, error
    return printed


def wait_for(condition, process):
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        try:
            if condition():
                return
        except FileNotFoundError:
            pass
        time.sleep(0.05)
    raise AssertionError("it took too long")
