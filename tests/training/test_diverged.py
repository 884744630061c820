"""Losses and gradients that explode: the run stops with the minibatch, the checkpoint stays."""

import math

import pytest
import torch

from sam import tasks
from sam.commands import main
from sam.training import train
from sam.training.trainer import Diverged, Trainer, clip_gradients
from tests.training.small_runs import MODELS, checkpoint, flags, lines, settings


def _poisoned(monkeypatch, minibatch, number):
    """Let the loss of copy be multiplied by `number` at a minibatch, counted from 1."""
    real, calls = tasks.Copy.loss, []

    def loss(task, outputs, episode):
        calls.append(1)
        return real(task, outputs, episode) * (number if len(calls) == minibatch else 1)

    monkeypatch.setattr(tasks.Copy, "loss", loss)


def _assert_finite(state):
    assert all(each.isfinite().all() for each in state["model"].values())


@pytest.mark.parametrize("number", [math.nan, math.inf, 1e6])
def test_a_loss_that_explodes_stops_with_the_minibatch(tmp_path, monkeypatch, number, capsys):
    _poisoned(monkeypatch, 37, number)
    folder = tmp_path / "run"
    assert main(flags(folder, "--episodes", 400, "--checkpoint-seconds", 0)) == 1
    printed = capsys.readouterr().out
    assert "training stopped at minibatch 37" in printed
    assert str(folder) in printed
    (failure,) = lines(folder / "failure.json")
    assert failure["minibatch"] == 37
    assert "minibatch 37" in failure["error"]
    assert checkpoint(folder)["minibatch"] == 36
    _assert_finite(checkpoint(folder))
    assert not (folder / "evaluation.jsonl").exists()


def test_resuming_a_run_that_failed_once_forgets_the_failure(tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        _poisoned(patched, 37, math.nan)
        assert train(settings(minibatches=60), tmp_path / "run").reason == "diverged"
    result = train(settings(minibatches=60), tmp_path / "run", resume=True)
    assert result.reason == "budget"
    assert not (tmp_path / "run" / "failure.json").exists()


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("rate", [1e4, 1e38])
def test_a_huge_learning_rate_stops_every_model(tmp_path, model, rate):
    wild = {"name": "sgd", "learning_rate": rate, "clip_norm": 1e30}
    run = settings(model, minibatches=300, optimizer=wild)
    result = train(run, tmp_path / "run", checkpoint_seconds=0)
    assert result.reason == "diverged"
    (failure,) = lines(tmp_path / "run" / "failure.json")
    state = checkpoint(tmp_path / "run")
    assert state["minibatch"] < failure["minibatch"] <= 300
    _assert_finite(state)


@pytest.mark.parametrize(("minibatches", "noticed"), [(1, 1), (5, 2)])
def test_infinite_parameters_are_a_failure_and_not_saved(tmp_path, minibatches, noticed):
    """Also those of the last step, which no other stumbles over."""
    wild = {"name": "sgd", "learning_rate": 1e38, "options": {"weight_decay": 1e10}}
    run = settings(minibatches=minibatches, optimizer=wild)
    result = train(run, tmp_path / "run", checkpoint_seconds=0)
    assert result.reason == "diverged"
    assert f"minibatch {noticed}:" in result.message
    assert checkpoint(tmp_path / "run")["minibatch"] == 0
    _assert_finite(checkpoint(tmp_path / "run"))


def test_parameters_and_optimizer_are_as_before(monkeypatch):
    trainer = Trainer(settings())
    for _ in range(5):
        trainer.step()
    before = [each.detach().clone() for each in trainer.model.parameters()]
    moments = [part.clone() for each in trainer.optimizer.state.values() for part in each.values()]
    _poisoned(monkeypatch, 1, math.nan)
    with pytest.raises(Diverged, match="minibatch 6: loss nan"):
        trainer.step()
    assert trainer.minibatch == 5
    for parameter, old in zip(trainer.model.parameters(), before, strict=True):
        assert torch.equal(parameter, old)
    after = [part for each in trainer.optimizer.state.values() for part in each.values()]
    assert all(torch.equal(one, other) for one, other in zip(after, moments, strict=True))


@pytest.mark.parametrize("most", [1e-3, 0.5, 1e6])
def test_gradients_are_clipped_as_by_torch(most):
    ours, theirs = ([torch.nn.Parameter(torch.zeros(3, n)) for n in (1, 4)] for _ in range(2))
    for one, other in zip(ours, theirs, strict=True):
        one.grad = torch.randn_like(one)
        other.grad = one.grad.clone()
    norm = clip_gradients(ours, most)
    expected = torch.nn.utils.clip_grad_norm_(theirs, most)
    assert norm == pytest.approx(float(expected), rel=1e-6)
    for one, other in zip(ours, theirs, strict=True):
        # torch divides by the norm plus 1e-6
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-5, atol=0)
