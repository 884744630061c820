"""How a run begins: over, with other settings than before, or with another run's weights."""

import json
import shutil

import pytest
import torch

from sam.commands import main
from sam.training import RunSettings, train
from sam.training.checkpoint import write
from sam.training.folder import RunFolder
from sam.training.trainer import Trainer
from tests.training.small_runs import (
    assert_same_run,
    assert_same_state,
    checkpoint,
    lines,
    mapping,
    settings,
)

QUIET = ("--quiet", "--no-tensorboard")
SGD = {"name": "sgd", "learning_rate": 0.01, "clip_norm": 1e6}
OLD = mapping(minibatches=120, optimizer=SGD)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    train(RunSettings.of(OLD), folder)
    return folder


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def resume(folder, *more):
    return main(["train", "--resume", str(folder), *QUIET, *map(str, more)])


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "run.lock"}


class TestWithoutItsCheckpoint:
    @pytest.mark.parametrize(
        "gone",
        [
            ["checkpoint.pt"],
            ["checkpoint.pt", "metrics.jsonl"],
            ["checkpoint.pt", "metrics.jsonl", "evaluation.jsonl"],
        ],
    )
    def test_a_run_is_not_begun_anew_unasked(self, run, capsys, gone):
        for name in gone:
            (run / name).unlink()
        before = contents(run)
        assert resume(run) == 2
        error = capsys.readouterr().err
        assert "checkpoint.pt: got no such file" in error
        assert "restart to begin anew" in error
        assert error.count("\n") == 1
        assert contents(run) == before

    def test_nor_one_that_is_empty(self, run, capsys):
        (run / "checkpoint.pt").write_bytes(b"")
        assert resume(run) == 2
        assert "checkpoint.pt: got a file that is cut short" in capsys.readouterr().err

    def test_nor_one_that_was_stopped_before_its_first_line(self, tmp_path, capsys):
        train(settings(minibatches=20), tmp_path)
        (tmp_path / "checkpoint.pt").unlink()
        assert (tmp_path / "metrics.jsonl").read_bytes() == b""
        assert resume(tmp_path) == 2
        assert "restart" in capsys.readouterr().err

    def test_without_run_json_its_settings_are_in_the_checkpoint(self, run, finished):
        (run / "run.json").unlink()
        assert resume(run) == 0
        assert_same_run(run, finished)
        assert RunFolder(run).read_settings().differing(RunSettings.of(OLD)) == []
        assert main(["evaluate", str(run), "--levels", "2", "--sequences", "4"]) == 0


class TestRestart:
    def test_it_drops_the_run_and_comes_to_the_same_bits(self, run, finished):
        for name in ("failure.json", "outcome.json"):
            (run / name).write_text("{}")
        (run / "notes.txt").write_text("mine")
        write(run / "checkpoint.pt", {"model": {}})  # whatever is there
        (run / "evaluation.jsonl").write_text('{"minibatch": 7, "model_settings": {}}\n')
        assert resume(run, "--restart") == 0
        assert_same_run(run, finished)
        assert not (run / "failure.json").exists()
        assert not (run / "outcome.json").exists()
        assert (run / "notes.txt").exists()

    def test_with_other_settings_in_the_same_folder(self, run):
        flags = ["--model", "lstm", "--task", "copy", "--episodes", "32", "--sequences", "4"]
        assert main(["train", "--out", str(run), *flags, *QUIET]) == 2
        assert main(["train", "--out", str(run), *flags, *QUIET, "--restart"]) == 0
        assert checkpoint(run)["minibatch"] == 2
        assert lines(run / "metrics.jsonl") == []

    def test_settings_that_make_no_sense_leave_the_old_run(self, run, capsys):
        before = contents(run)
        assert resume(run, "--restart", "--model-set", "hidden_size=0") == 2
        assert "hidden_size: got 0" in capsys.readouterr().err
        assert contents(run) == before

    @pytest.mark.parametrize("at", ["checkpoint.write", "RunFolder.forget", "RunFolder.describe"])
    def test_one_that_fails_leaves_the_old_run_or_the_new(self, run, finished, monkeypatch, at):
        before = contents(run)
        with monkeypatch.context() as patched:
            patched.setattr(f"sam.training.loop.{at}", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                train(RunSettings.of(OLD), run, restart=True)
        assert (contents(run) == before) == (at == "checkpoint.write")
        assert resume(run) == 0
        assert_same_run(run, finished)


class TestOverride:
    @pytest.mark.parametrize("name", ["learning_rate", "optimizer.learning_rate"])
    def test_another_learning_rate_from_now_on(self, run, name):
        assert resume(run, "--override", f"{name}=0.25", "--episodes", 4 * 121) == 0
        old, new = RunFolder(run).read_settings(), json.loads((run / "run.json").read_text())
        assert old.optimizer.learning_rate == 0.25
        assert new["history"] == [
            {"minibatch": 120, "override": {"optimizer.learning_rate": [0.01, 0.25]}}
        ]
        assert checkpoint(run)["minibatch"] == 121

    def test_a_step_is_as_much_longer_as_the_rate_is_larger(self, finished):
        """SGD's first step from one checkpoint: its gradient does not depend on the rate."""
        state, steps = RunFolder(finished).read_checkpoint(), []
        for rate in (0.01, 0.03):
            run = RunSettings.of(OLD | {"optimizer": SGD | {"learning_rate": rate}})
            trainer = Trainer(run)
            trainer.load(state, ["optimizer"])
            trainer.step()
            steps.append(
                torch.cat(
                    [
                        (new - state["model"][name]).flatten().double()
                        for name, new in trainer.model.state_dict().items()
                    ]
                )
            )
        assert steps[0].norm() > 0
        torch.testing.assert_close(steps[1], 3 * steps[0], rtol=1e-3, atol=1e-6)

    def test_the_optimizers_own_settings_count_too(self, run):
        assert resume(run, "--override", "options={weight_decay=0.5}", "--episodes", 484) == 0
        assert checkpoint(run)["optimizer"]["param_groups"][0]["weight_decay"] == 0.5

    def test_a_harder_task_and_what_was_changed_twice(self, run, capsys):
        assert resume(run, "--override", "max_length=6", "--override", "clip_norm=1") == 0
        assert resume(run, "--episodes", 4 * 130) == 0  # needs no flags any more
        assert resume(run, "--override", "learning_rate=0.02") == 0
        found = json.loads((run / "run.json").read_text())
        assert found["task_settings"]["max_length"] == 6
        assert [each["minibatch"] for each in found["history"]] == [120, 130]
        assert found["history"][0]["override"] == {
            "task_settings.max_length": [4, 6],
            "optimizer.clip_norm": [1e6, 1],
        }
        assert found["history"] == checkpoint(run)["history"]

    @pytest.mark.parametrize(
        ("override", "match"),
        [
            ("seed=4", "overrides: got 'seed', expected none of model, task, seed"),
            ("batch_size=8", "overrides: got 'batch_size'"),
            ("optimizer.name=adam", "overrides: got 'optimizer.name'"),
            ("optimizer={name='adam'}", "overrides: got 'optimizer'"),
            ("model=sam", "overrides: got 'model'"),
            ("learning_rte=1", "did you mean 'learning_rate'"),
            ("optimizer.learning_rte=1", "did you mean 'learning_rate'"),
            ("learning_rate=-1", "learning_rate: got -1"),
            ("learning_rate=nan", "learning_rate: got nan"),
            ("hidden_size=13", "parts that do not belong together"),
            ("bits=4", "parts that do not belong together"),
        ],
    )
    def test_what_cannot_become_another_is_named(self, run, capsys, override, match):
        before = contents(run)
        assert resume(run, "--override", override) == 2
        error = capsys.readouterr().err
        assert match in error
        assert error.count("\n") == 1
        assert contents(run) == before

    def test_it_is_for_a_run_that_goes_on(self, tmp_path, capsys):
        flags = ["--model", "lstm", "--task", "copy", "--episodes", "32", "--out"]
        arguments = ["train", *flags, str(tmp_path / "run"), "--override", "learning_rate=1"]
        assert main(arguments) == 2
        assert "--override: got one, expected none without --resume" in capsys.readouterr().err
        with pytest.raises(ValueError, match="expected none for a run that begins"):
            train(settings(), tmp_path / "run", resume=True, overrides=["evaluate"])
        assert not (tmp_path / "run").exists()

    def test_without_it_other_settings_are_refused_as_ever(self, run, capsys):
        assert resume(run, "--learning-rate", 0.25) == 2
        assert "got optimizer.learning_rate=0.25, expected" in capsys.readouterr().err


class TestInitFrom:
    @pytest.mark.parametrize("what", ["folder", "checkpoint"])
    def test_a_run_begins_with_anothers_weights(self, finished, tmp_path, what):
        place = finished if what == "folder" else finished / "checkpoint.pt"
        run = settings(minibatches=1, seed=4, optimizer=SGD | {"learning_rate": 1e-30})
        train(run, tmp_path / "run", init_from=place)
        state, other = checkpoint(tmp_path / "run"), checkpoint(finished)
        assert (state["minibatch"], other["minibatch"]) == (1, 120)
        for name, part in state["model"].items():
            assert torch.equal(part, other["model"][name])
        (origin,) = json.loads((tmp_path / "run" / "run.json").read_text())["history"]
        assert origin["init_from"] == str(finished / "checkpoint.pt")
        assert (origin["minibatch"], origin["its_minibatch"]) == (0, 120)

    def test_it_goes_on_without_the_other(self, finished, tmp_path):
        other = shutil.copytree(finished, tmp_path / "other")
        for name in ("alone", "stopped"):
            run = settings(minibatches=30 if name == "stopped" else 60, seed=4, optimizer={})
            train(run, tmp_path / name, init_from=other)
        shutil.rmtree(other)
        assert resume(tmp_path / "stopped", "--episodes", 240) == 0
        assert_same_state(checkpoint(tmp_path / "alone"), checkpoint(tmp_path / "stopped"))

    def test_a_model_with_a_larger_memory(self, tmp_path):
        memory = {"hidden_size": 12, "word_size": 6, "num_heads": 2, "k": 3}
        for name, size in (("small", 16), ("large", 64)):
            run = settings("sam", minibatches=5, model_settings={**memory, "memory_size": size})
            train(run, tmp_path / name, init_from=tmp_path / "small" if size == 64 else None)
        assert checkpoint(tmp_path / "large")["minibatch"] == 5

    @pytest.mark.parametrize(
        ("what", "match"),
        [
            ("sizes", "init_from: .*got parameters of another model.*size mismatch"),
            ("model", "init_from: .*got parameters of another model"),
            ("no run", "No such file"),
            ("garbage", "got a file that is cut short"),
            ("no model", "got no parameters of a model"),
            ("nan", "got NaN or infinite parameters"),
        ],
    )
    def test_what_does_not_fit_is_named_and_leaves_nothing(self, finished, tmp_path, what, match):
        place, new = tmp_path / "place.pt", tmp_path / "new"
        place.write_bytes(b"garbage")
        state, run = RunFolder(finished).read_checkpoint(), settings(minibatches=1)
        if what == "sizes":
            run = settings(minibatches=1, model_settings={"hidden_size": 13})
        elif what == "model":
            run = settings("ntm", minibatches=1)
        elif what == "no model":
            write(place, {name: part for name, part in state.items() if name != "model"})
        elif what == "nan":
            bad = {name: part * float("nan") for name, part in state["model"].items()}
            write(place, state | {"model": bad})
        elif what == "no run":
            place = tmp_path / "none"
        place = finished if what in ("sizes", "model") else place
        with pytest.raises((ValueError, OSError), match=match):
            train(run, new, init_from=place)
        assert not new.exists()

    def test_a_run_that_goes_on_has_its_own(self, run, finished, capsys):
        before = contents(run)
        assert resume(run, "--init-from", finished) == 2
        assert "init_from: got" in capsys.readouterr().err
        assert contents(run) == before
        assert resume(run, "--restart", "--init-from", finished) == 0
