"""What the command line says: to mistyped flags, odd numbers, files and an early Ctrl-C."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sam.commands import main
from sam.commands.options import parsed, read_toml
from sam.training import RunSettings
from sam.training.trainer import Trainer
from tests.training.small_runs import checkpoint, flags

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        ("train --epochs 5 --out x", "--epochs; did you mean --episodes?"),
        ("train --epochs 5", "--epochs; did you mean --episodes?"),
        ("train --epochs=5 --out x", "--epochs; did you mean --episodes?"),
        ("train --out x --lr 0.1", "--lr; did you mean --learning-rate?"),
        ("train --out x --bs 3", "--bs; did you mean --batch-size?"),
        ("train --out x --xyzzy 3", "--xyzzy\n"),
        ("train --out x --learningrate 0.1", "--learningrate; did you mean --learning-rate?"),
        ("train --out x --batchsize 3", "--batchsize; did you mean --batch-size?"),
        ("train --resume x --overide a=1", "--overide; did you mean --override?"),
        ("evaluate x --level 3 --sequence 4 --seeds 3", "--seeds; did you mean --seed?"),
        ("sweep --out x --tasks copy", "--tasks; did you mean --task?"),
    ],
)
def test_an_unknown_flag_is_answered_with_the_nearest_and_its_commands_usage(
    capsys, arguments, nearest
):
    with pytest.raises(SystemExit) as ended:
        main(arguments.split())
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert f"unrecognized argument: {nearest}" in error
    assert error.startswith(f"usage: python -m sam {arguments.split()[0]} ")


def test_flags_may_be_shortened_and_stray_words_are_named(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--out", "x", "--epis", "5", "stray"])
    assert "unrecognized arguments: stray" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("episodes", "batch_size", "said"),
    [
        (1, 16, "episodes: 1 is no multiple of batch_size=16, so 16 are trained on, in 1 mini"),
        (10, 4, "episodes: 10 is no multiple of batch_size=4, so 12 are trained on, in 3 mini"),
        (12, 4, None),
    ],
)
def test_a_budget_that_is_rounded_up_is_said(tmp_path, capsys, episodes, batch_size, said):
    more = ["--episodes", episodes, "--batch-size", batch_size]
    assert main(flags(tmp_path / "run", *more)) == 0
    printed = capsys.readouterr().out
    assert (said in printed) if said else ("multiple" not in printed)
    assert checkpoint(tmp_path / "run")["minibatch"] == -(-episodes // batch_size)


TABLE = 'model = "lstm"\ntask = "copy"\nepisodes = 16\n'


@pytest.mark.parametrize("start", [b"\xef\xbb\xbf", b""])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_files_of_windows_editors_are_read(tmp_path, start, end):
    path = tmp_path / "run.toml"
    path.write_bytes(start + TABLE.replace("\n", end).encode())
    assert read_toml(path) == {"model": "lstm", "task": "copy", "episodes": 16}


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 100_000,
        "a = " + "{b = " * 5000 + "1" + "}" * 5000,
        "[" + ".".join("a" * 5000) + "]\nb = 1",
        "a = " + "9" * 5000,
        "a = 0x" + "f" * 5000,
        "a = nan",
        "a = -inf",
        "a = 1e999",
        "a = 1979-05-27",
        "a = '\\ud800'\x00",
        "\ufeff\ufeffa = 1",
    ],
)
def test_toml_that_holds_no_settings_is_one_line(tmp_path, capsys, text):
    path = tmp_path / "run.toml"
    path.write_text(text)
    for command in (["train"], ["sweep"]):
        assert main([*command, "--config", str(path), "--out", str(tmp_path / "run")]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"python -m sam: {path}: ")
        assert error.count("\n") == 1
        assert len(error) < 1000
    assert not (tmp_path / "run").exists()


def test_utf_16_is_named(tmp_path, capsys):
    path = tmp_path / "run.toml"
    path.write_bytes(TABLE.encode("utf-16"))
    assert main(["train", "--config", str(path), "--out", str(tmp_path / "run")]) == 2
    assert "run.toml: got 'utf-8' codec can't decode" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("false", False),
        ("[1, 2]", [1, 2]),
        ("word", "word"),
        ("1\nb = 2", "1\nb = 2"),  # not two settings
        ("[" * 100_000, "[" * 100_000),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_the_value_of_a_flag_is_as_in_toml_or_a_word(text, value):
    assert parsed(text) == value


def test_no_bar_is_drawn_into_a_file(tmp_path, capsys):
    arguments = [each for each in flags(tmp_path / "run", "--episodes", 80) if each != "--quiet"]
    assert main(arguments) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("stream", [io.StringIO(), None])
def test_nor_where_there_is_no_terminal_at_all(tmp_path, monkeypatch, stream):
    monkeypatch.setattr(sys, "stderr", stream)
    arguments = [each for each in flags(tmp_path / "run", "--episodes", 80) if each != "--quiet"]
    assert main(arguments) == 0


@pytest.fixture
def _ctrl_c():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_ctrl_c")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_stopped_before_the_first_step_there_is_a_run_to_go_on_with(
    tmp_path, monkeypatch, capsys, name
):
    real = Trainer.__init__

    def stopped(trainer, run):
        os.kill(os.getpid(), signal.Signals[name])
        real(trainer, run)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "__init__", stopped)
        assert main(flags(tmp_path / "run", "--episodes", 80)) == 128 + signal.Signals[name]
    assert f"Stopped by {name} after 0 minibatches" in capsys.readouterr().out
    assert main(["train", "--resume", str(tmp_path / "run"), "--quiet", "--no-tensorboard"]) == 0
    assert checkpoint(tmp_path / "run")["minibatch"] == 20


@pytest.mark.usefixtures("_ctrl_c")
def test_stopped_while_its_settings_are_read_it_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(RunSettings, "of", lambda _: os.kill(os.getpid(), signal.SIGINT))
    assert main(flags(tmp_path / "run", "--episodes", 80)) == 130
    assert "python -m sam: interrupted" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_stopped_while_it_is_loaded_it_says_so():
    code = (
        "import sys, runpy\n"
        "class Stop:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'sam.commands': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Stop())\n"
        "runpy.run_module('sam', run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 130
    assert done.stderr == "python -m sam: interrupted before it began; nothing was written\n"


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 8 bytes")]
)
def test_sizes_beyond_the_memory_are_one_line(tmp_path, monkeypatch, capsys, error):
    def build(trainer, run):
        raise error

    monkeypatch.setattr(Trainer, "__init__", build)
    assert main(flags(tmp_path / "run", "--episodes", 80)) == 2
    assert "there is not enough memory" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1"])
@pytest.mark.parametrize("command", ["train", "sweep"])
def test_the_time_between_checkpoints_is_a_number(tmp_path, capsys, command, seconds):
    where = ["--out", str(tmp_path / "out"), f"--checkpoint-seconds={seconds}"]
    run = ["--model", "lstm", "--task", "copy", "--episodes", "16"]
    assert main([command, *run, *where]) == 2
    assert "checkpoint_seconds: got" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
