"""What a run says of itself: JSON lines, TensorBoard, and a bar that moves."""

import re
import sys

import pytest

from sam.commands import main
from sam.training import board, json_files, train
from sam.training.trainer import Trainer
from tests.training.small_runs import CURRICULUM, flags, lines, settings


def test_lines_are_means_of_the_minibatches_since_the_last(tmp_path):
    run = settings(minibatches=250, curriculum=CURRICULUM)
    train(run, tmp_path)
    trainer, steps, levels = Trainer(run), [], []
    for _ in range(250):
        steps.append(trainer.step())
        levels.append(trainer.level)
    first, second = lines(tmp_path / "metrics.jsonl")
    assert (first["minibatch"], second["minibatch"]) == (100, 200)
    assert (first["episodes"], second["episodes"]) == (400, 800)
    assert (first["level"], second["level"]) == (levels[99], levels[199])
    assert 0 < first["seconds"] < second["seconds"]
    for line in (first, second):
        assert 0 < line["data_seconds"] < line["model_seconds"] < line["seconds"]
        assert line["data_seconds"] + line["model_seconds"] < line["seconds"]
    for name in ("loss", "cost", "errors"):
        mean = sum(getattr(step, name) for step in steps[100:200]) / 100
        assert second[name] == pytest.approx(mean, rel=1e-12)


def test_lines_that_are_cut_short_are_left_out_and_damaged_ones_named(tmp_path):
    path = tmp_path / "lines"
    assert list(json_files.lines(path, {})) == []
    json_files.append(path, {"a": 1})
    with open(path, "a") as file:
        file.write('{"a": ')
    assert list(json_files.lines(path, {})) == [{"a": 1}]
    json_files.keep(path, {}, lambda each: True)
    json_files.append(path, {"a": 2})
    assert list(json_files.lines(path, {})) == [{"a": 1}, {"a": 2}]
    path.write_text('{"a": 1}\n{"a"\n')
    with pytest.raises(ValueError, match=r"lines, line 2: got .*expected JSON"):
        list(json_files.lines(path, {}))


def _drawn(folder):
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    events = event_accumulator.EventAccumulator(str(folder))
    events.Reload()
    return {
        tag: [(each.step, each.value) for each in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


@pytest.mark.filterwarnings("ignore")  # its own, of NumPy and protobuf
def test_tensorboard_draws_what_the_lines_say_once(tmp_path):
    """Also where a run draws again what it drew before it was killed."""
    pytest.importorskip("tensorboard")
    run = settings(minibatches=520, curriculum=CURRICULUM)
    drawer = board.EventFile(tmp_path, 1)
    for minibatch in (100, 200, 300):  # of a run that never came to its first checkpoint
        drawer.add_scalar("loss", 77.0, minibatch)
    drawer.close()
    train(run, tmp_path, tensorboard=True)
    drawer = board.EventFile(tmp_path, 521)
    drawer.add_scalar("loss", 88.0, 600)  # of one killed after its last checkpoint
    drawer.close()
    train(run, tmp_path, tensorboard=True, resume=True)
    drawn, records = _drawn(tmp_path), lines(tmp_path / "metrics.jsonl")
    assert set(drawn) == {"loss", "cost", "errors", "level"}
    for name, points in drawn.items():
        assert [step for step, _ in points] == [each["minibatch"] for each in records]
        values = [each[name] for each in records]
        assert [value for _, value in points] == pytest.approx(values, rel=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_a_checkpoint_keeps_what_was_drawn_before_it(forked, tmp_path):
    """TensorBoard writes now and then; a killed run must not lose what it will not draw again."""
    pytest.importorskip("tensorboard")
    arguments = [each for each in flags(tmp_path, "--minutes", 5) if each != "--no-tensorboard"]
    order = {"main": [*arguments, "--checkpoint-seconds", "0.2"], "folder": str(tmp_path)}
    status, printed = forked(**order, kill_after=1.0)
    assert status == -9, printed
    resume = ["train", "--resume", str(tmp_path), "--quiet", "--minutes", "0.00001"]
    assert main(resume) == 0
    records = lines(tmp_path / "metrics.jsonl")
    assert records
    assert [step for step, _ in _drawn(tmp_path)["loss"]] == [each["minibatch"] for each in records]


@pytest.mark.parametrize("package", ["tensorboard.compat.proto.event_pb2", "tqdm"])
def test_without_it_there_is_a_hint(tmp_path, monkeypatch, capsys, package):
    monkeypatch.setattr("sam.commands.train.is_terminal", lambda: True)
    monkeypatch.setitem(sys.modules, package, None)
    arguments = flags(tmp_path / "run", "--episodes", 40)
    unwanted = "--no-tensorboard" if "tensorboard" in package else "--quiet"
    assert main([each for each in arguments if each != unwanted]) == 0
    printed = capsys.readouterr().out
    assert "is not installed" in printed
    assert "pip install 'sparse-access-memory[train]'" in printed


@pytest.mark.parametrize("budget", [["--episodes", "212"], ["--minutes", "0.005"]])
def test_the_bar_shows_loss_and_rates_and_comes_to_its_end(tmp_path, capsys, monkeypatch, budget):
    pytest.importorskip("tqdm")
    monkeypatch.setattr("sam.commands.train.is_terminal", lambda: True)
    arguments = [each for each in flags(tmp_path / "run", *budget) if each != "--quiet"]
    assert main(arguments) == 0
    printed = capsys.readouterr().err.split("\r")[-1]
    assert "lstm on copy" in printed
    assert re.search(r"loss 0\.\d{4}, [\d,]+ steps/s", printed)
    assert re.search(r"[\d.]+(minibatch/s|s/minibatch)", printed)
    if "--episodes" in budget:
        assert "53/53" in printed
