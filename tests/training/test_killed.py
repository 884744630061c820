"""SIGKILL at any moment: the run goes on to the bits of one that was left alone."""

import random
import signal

import pytest

from sam.training import RunSettings, train
from tests.training.small_runs import (
    CURRICULUM,
    MODELS,
    assert_same_run,
    checkpoint,
    mapping,
    settings,
)

KILLS = 5
EITHER = [None, CURRICULUM]


@pytest.mark.parametrize(
    ("model", "curriculum", "minibatches"),
    [
        *[("sam", CURRICULUM, 150), ("kd_forest", None, 150), ("ntm", None, 120)],
        *[("lstm", CURRICULUM, 300)],
        *[
            pytest.param(model, curriculum, 1000, marks=pytest.mark.slow)
            for model in MODELS
            for curriculum in EITHER
        ],
    ],
)
def test_killed_at_five_random_moments(forked, tmp_path, model, curriculum, minibatches):
    run = mapping(model, minibatches, curriculum=curriculum)
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    status, printed = forked(train=[run, str(alone)], checkpoint_seconds=60)
    assert status == 0, printed
    whole = checkpoint(alone)
    moments, reached = random.Random(f"{model} {curriculum}"), []
    for _ in range(KILLS):
        after = moments.uniform(0, whole["seconds"] / 8)
        status, printed = forked(train=[run, str(killed)], folder=str(killed), kill_after=after)
        assert status == -signal.SIGKILL, printed
        reached.append(checkpoint(killed)["minibatch"])
    assert reached == sorted(reached)
    assert 0 < reached[-1] < whole["minibatch"]  # or it was never in the middle of anything
    status, printed = forked(train=[run, str(killed)])
    assert status == 0, printed
    assert_same_run(alone, killed)
    if curriculum:
        assert checkpoint(killed)["minibatches"]["progress"]["highest"] > 1


# torch.save cut in two; a whole file not yet on the disk; not yet renamed. The first files of a run
# are checkpoint.pt, metrics.jsonl and run.json.
@pytest.mark.parametrize("moment", ["write", "fsync", "replace"])
@pytest.mark.parametrize("call", [1, 2, 3, 9])
def test_killed_while_writing(forked, tmp_path, moment, call):
    run = mapping(minibatches=110)
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    train(RunSettings.of(run), alone)
    for _ in range(2):
        order = {"moment": moment, "call": call, "checkpoint_seconds": 0}
        status, printed = forked(train=[run, str(killed)], **order)
        assert status == -signal.SIGKILL, printed
        assert list(killed.glob("*.unfinished")) or moment == "fsync"
        if (killed / "checkpoint.pt").exists():
            checkpoint(killed)  # whole
    status, printed = forked(train=[run, str(killed)])
    assert status == 0, printed
    assert_same_run(alone, killed)


def test_lines_after_the_checkpoint_are_written_once(tmp_path):
    """Lines that a killed run still wrote, the last one cut short, are dropped and come again."""
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    whole = settings(minibatches=350, optimizer={})
    train(whole, alone)
    train(settings(minibatches=250, optimizer={}), killed)
    for name in ("metrics.jsonl", "evaluation.jsonl"):
        (killed / name).write_text((alone / name).read_text() + '{"kind": "tr')
    train(whole, killed, resume=True)
    assert_same_run(alone, killed)
