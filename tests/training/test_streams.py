"""What a run comes to does not depend on where its words go."""

import os
import signal
import subprocess
import sys
import time

import pytest

from sam.commands import main
from tests.training.small_runs import flags, lines

PYTHON = [sys.executable, "-m", "sam"]
EVALUATE = ("evaluate", "run", "--levels", "1", "2", "3", "--sequences", "8")


@pytest.fixture
def trained(tmp_path):
    assert main(flags(tmp_path / "run", "--episodes", 8)) == 0
    return tmp_path


def run(folder, *arguments, shell="", **environment):
    """Its exit status and what it said; shell: where its streams lead."""
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {shell}', "sh", *PYTHON, *arguments],
        cwd=folder,
        env=os.environ | environment | {"PYTHONPATH": os.getcwd()},
        capture_output=True,
        timeout=60,
    )


@pytest.mark.parametrize("shell", [">/dev/full", ">&-", ">&- 2>&- <&-"])
def test_an_evaluation_is_kept_wherever_it_is_printed(trained, shell):
    before = lines(trained / "run" / "evaluation.jsonl")
    assert run(trained, *EVALUATE, shell=shell).returncode == 0
    after = lines(trained / "run" / "evaluation.jsonl")
    assert len(after) == len(before) + 3


def test_an_evaluation_goes_on_when_nobody_reads_it_any_more(trained):
    before = lines(trained / "run" / "evaluation.jsonl")
    read, written = os.pipe()
    os.close(read)
    ended = subprocess.run(
        [*PYTHON, *EVALUATE],
        cwd=trained,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
        stdout=written,
        stderr=subprocess.PIPE,
        timeout=60,
    )
    os.close(written)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert len(lines(trained / "run" / "evaluation.jsonl")) == len(before) + 3


@pytest.mark.parametrize("name", [b"b\xffd", "größe".encode(), "😀".encode()])
@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii:strict"])
def test_a_folder_may_have_a_name_that_cannot_be_printed(tmp_path, name, encoding):
    arguments = flags(os.fsdecode(name), "--episodes", 8)
    ended = run(tmp_path, *arguments, PYTHONIOENCODING=encoding)
    assert ended.returncode == 0
    assert ended.stdout.startswith(b"Trained: 2 minibatches")
    assert (tmp_path / os.fsdecode(name) / "evaluation.jsonl").exists()


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_lines_are_added_to_files_alone(trained, kind, capsys):
    """And that is looked at first: nothing is computed in vain."""
    path = trained / "run" / "evaluation.jsonl"
    path.unlink()
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "device":
            path.symlink_to("/dev/null")
    capsys.readouterr()
    assert main(["evaluate", str(trained / "run"), "--levels", "1"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "got no regular file, expected one to add lines to" in said.err


def test_with_standard_error_closed_no_file_gets_the_words_meant_for_it(tmp_path):
    """The number of the closed stream is that of the first file that is opened."""
    program = (
        "import os, signal\n"
        "from sam.training.signals import StopWish\n"
        "number = os.open('file', os.O_RDWR | os.O_CREAT)\n"
        "wish = StopWish('Stopping')\n"
        "wish.note(signal.SIGINT, None)\n"
        "assert wish.number == signal.SIGINT\n"
        "os.dup2(number, 2)\n"
        "StopWish('Stopping').note(signal.SIGINT, None)\n"
    )
    subprocess.run(
        ["sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, "-c", program],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
        check=True,
        timeout=60,
    )
    assert (tmp_path / "file").read_bytes() == b""


def test_a_run_whose_standard_error_is_closed_stops_and_goes_on(tmp_path):
    arguments = flags("run", "--episodes", 10**7)
    process = subprocess.Popen(
        ["sh", "-c", 'exec "$@" >&- 2>&- <&-', "sh", *PYTHON, *arguments],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    )
    metrics = tmp_path / "run" / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.read_bytes()):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM
    assert all(each["kind"] == "train" for each in lines(metrics))
    assert (tmp_path / "run" / "run.lock").read_bytes() == b""
    ended = main(["train", "--resume", str(tmp_path / "run"), "--episodes", "4", "--quiet"])
    assert ended == 0


def test_ctrl_c_while_python_ends_is_no_traceback(trained):
    program = (
        "import atexit, os, runpy, signal, sys\n"
        "atexit.register(lambda: (os.kill(os.getpid(), signal.SIGINT), sum(range(1000))))\n"
        "sys.argv = ['sam', 'train', '--resume', 'run', '--quiet', '--no-tensorboard']\n"
        "runpy.run_module('sam', run_name='__main__')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=trained,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
        capture_output=True,
        timeout=60,
    )
    assert ended.returncode == -signal.SIGINT
    assert ended.stdout.startswith(b"Trained: 2 minibatches")
    assert ended.stderr == b""
