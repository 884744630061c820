"""Checkpoint files: whole, data alone, and of the run that goes on from them."""

import io
import os
import pickle
import random
import shutil
import zipfile

import pytest
import torch

from sam.commands import main
from sam.training import train
from sam.training.checkpoint import FORMAT, CheckpointError, read, write
from sam.training.folder import RunFolder
from tests.training.small_runs import flags, settings


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    train(settings(minibatches=120), folder)
    return folder


@pytest.fixture
def run(finished, tmp_path):
    return RunFolder(shutil.copytree(finished, tmp_path / "run"))


class RunsCode:
    def __init__(self, witness):
        self.witness = witness

    def __reduce__(self):
        return os.mkdir, (str(self.witness),)


def _files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _assert_refused(run, match, capsys):
    """By the reader, by both commands with one line, and all files stay as they were."""
    before = _files(run.path)
    with pytest.raises((CheckpointError, ValueError), match=match):
        train(settings(minibatches=120), run.path, resume=True)
    for command in (["train", "--resume"], ["evaluate"]):
        capsys.readouterr()
        assert main([*command, str(run.path)]) == 2
        printed, error = capsys.readouterr()
        assert printed == ""
        assert error.count("\n") == 1
        assert error.startswith("python -m sam: ")
    assert _files(run.path) == before


def test_what_was_written_is_read(tmp_path):
    contents = {"tensor": torch.randn(3, 4), "number": 0.1, "list": [1, "two", None], "d": {"a": 1}}
    write(tmp_path / "file", contents)
    again = read(tmp_path / "file")
    assert torch.equal(again.pop("tensor"), contents.pop("tensor"))
    assert again == contents
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("share", [0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_one_is_refused(run, share, capsys):
    whole = run.checkpoint.read_bytes()
    run.checkpoint.write_bytes(whole[: int(share * len(whole))])
    _assert_refused(run, "checkpoint.pt: got a file that is cut short", capsys)


def test_random_bytes_are_refused(run, capsys):
    run.checkpoint.write_bytes(random.Random(0).randbytes(5000))
    _assert_refused(run, "cut short, damaged or no checkpoint", capsys)


@pytest.mark.parametrize("seed", range(5))
def test_a_flipped_bit_in_the_numbers_is_noticed(run, seed, capsys):
    whole = bytearray(run.checkpoint.read_bytes())
    with zipfile.ZipFile(run.checkpoint) as parts:
        largest = max(parts.infolist(), key=lambda part: part.file_size)
        with parts.open(largest) as part:
            start = bytes(whole).index(part.read(64), largest.header_offset)
    place = start + random.Random(seed).randrange(largest.file_size)
    whole[place] ^= 1 << seed
    run.checkpoint.write_bytes(whole)
    _assert_refused(run, "damaged", capsys)


@pytest.mark.parametrize("how", ["pickle", "torch", "torch, old format", "among the settings"])
def test_code_is_not_run(run, tmp_path, how, capsys):
    witness, bad = tmp_path / "witness", io.BytesIO()
    if how == "pickle":
        pickle.dump(RunsCode(witness), bad)
    elif how == "among the settings":
        torch.save({"format": FORMAT, "version": 1, "settings": RunsCode(witness)}, bad)
    else:
        new = how == "torch"
        torch.save(RunsCode(witness), bad, _use_new_zipfile_serialization=new)
    run.checkpoint.write_bytes(bad.getvalue())
    _assert_refused(run, "checkpoint", capsys)
    assert not witness.exists()
    torch.load(io.BytesIO(bad.getvalue()), weights_only=False) if how != "pickle" else pickle.loads(
        bad.getvalue()
    )
    assert witness.exists()  # it would have run


def test_another_programs_file_is_refused(run, capsys):
    torch.save({"state_dict": {"weight": torch.ones(3)}}, run.checkpoint)
    _assert_refused(run, "another program's file", capsys)
    torch.save([torch.ones(3)], run.checkpoint)
    _assert_refused(run, "another program's file", capsys)
    torch.save(torch.nn.Linear(2, 2), run.checkpoint)
    _assert_refused(run, "more than tensors and numbers", capsys)


def test_another_version_is_refused(run, capsys):
    torch.save({"format": FORMAT, "version": 2, "model": {}}, run.checkpoint)
    _assert_refused(run, "got checkpoint version 2, expected 1", capsys)


def test_parts_that_are_missing_or_wrong_are_refused(run, capsys):
    state = run.read_checkpoint()
    write(run.checkpoint, {name: state[name] for name in state if name not in ("random", "sums")})
    _assert_refused(run, "without random, sums", capsys)
    write(run.checkpoint, state | {"model": {"weight": torch.ones(2)}})
    _assert_refused(run, "parts that do not belong together", capsys)


def test_the_checkpoint_of_another_run_is_refused(run, tmp_path, capsys):
    train(settings(minibatches=120, seed=4), tmp_path / "other")
    shutil.copy(tmp_path / "other" / "checkpoint.pt", run.checkpoint)
    _assert_refused(run, "got seed=3, expected seed=4 as in the checkpoint", capsys)


def test_a_checkpoint_that_is_gone_is_not_replaced_by_a_new_beginning(run):
    run.checkpoint.unlink()
    before = _files(run.path)
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt: got no such file"):
        train(settings(minibatches=120), run.path, resume=True)
    assert _files(run.path) == before


@pytest.mark.parametrize("at", ["torch.save", "os.fsync", "os.replace"])
def test_an_interrupted_write_leaves_the_old_one(run, at, monkeypatch):
    before = run.checkpoint.read_bytes()

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(at, fail)
    with pytest.raises(OSError, match="No space"):
        write(run.checkpoint, {"model": torch.ones(3)})
    assert run.checkpoint.read_bytes() == before
    assert read(run.checkpoint)["minibatch"] == 120


def test_a_folder_that_holds_a_run_is_left_alone(run, capsys):
    before = _files(run.path)
    assert main(flags(run.path, "--episodes", 40)) == 2
    assert "holds a run" in capsys.readouterr().err
    assert _files(run.path) == before
