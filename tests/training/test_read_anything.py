"""Whatever lies in a run's folder: it works, or it is one line that names the file."""

import contextlib
import io
import json
import resource
import shutil
import string
import time
import zipfile

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sam.commands import main
from sam.commands.options import read_toml
from sam.training import RunSettings, train
from sam.training.checkpoint import FORMAT
from sam.training.folder import EVALUATION, TRAINING, RunFolder
from sam.training.json_files import lines
from sam.training.sweeps import outcome, table
from sam.training.trainer import Trainer
from tests.training.small_runs import mapping

RUN = mapping(minibatches=20, evaluate=[2], curriculum={"window": 5})
often = settings(
    max_examples=60,
    deadline=10_000,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
numbers = st.sampled_from([0, -1, 1.5, 2**63, 10**400, 1e308, -1e400, float("nan"), True, None])
values = st.recursive(
    numbers | st.text(string.printable, max_size=5) | st.sampled_from(["sam", "copy", "lsh"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
deep = "[" * 100_000
BYTES = [b"", b"\xff\xfe", b"{", b"[1]", b"null", b"17", b'"x"', deep.encode(), b'{"a": ' * 50_000]
BYTES += [b"\x00" * 5000, b"9" * 5000, b"{}", b"\xef\xbb\xbf{}", b'{"kind": "train"}\n', b"\n\n"]
anything = st.sampled_from(BYTES) | st.binary(max_size=300)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    train(RunSettings.of(RUN), folder)
    (folder / "metrics.jsonl").write_text('{"kind": "train", "minibatch": 10}\n')
    return folder


@pytest.fixture(scope="module")
def run(finished):
    return RunFolder(shutil.copytree(finished, finished.parent / "changed"))


def refusal(path, read):
    """Whether it is refused; in one line that names the file, soon and in little memory."""
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused = ""
    try:
        read()
    except (ValueError, TypeError, OSError) as error:
        refused = str(error)
    assert path.name in refused or not refused
    assert "\n" not in refused
    assert len(refused) < 2000
    assert time.monotonic() - started < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20  # KiB
    return refused


def commands(run, capsys):
    """Each says at most one line on standard error, and ends as it should."""
    out = [str(run.path), "--sequences", "4"]
    for command in (["train", "--quiet", "--no-tensorboard", "--resume"], ["evaluate"]):
        capsys.readouterr()
        status = main([*command, *out])
        error = capsys.readouterr().err
        assert (status, error.count("\n")) in ((0, 0), (2, 1)), error


def restored(run, finished):
    shutil.rmtree(run.path)
    shutil.copytree(finished, run.path)


class TestCheckpoint:
    @often
    @given(anything)
    def test_of_any_bytes(self, run, content):
        run.checkpoint.write_bytes(content)
        assert refusal(run.checkpoint, run.read_checkpoint)

    @often
    @given(st.data())
    def test_of_a_few_other_bytes(self, run, finished, data):
        whole = bytearray((finished / "checkpoint.pt").read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            start = data.draw(st.integers(0, len(whole) - 1))
            whole[start : start + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
        run.checkpoint.write_bytes(bytes(whole))
        refusal(run.checkpoint, run.read_checkpoint)

    @often
    @given(
        part=st.sampled_from(
            [
                *("settings", "model", "optimizer", "minibatches", "random", "minibatch"),
                *("seconds", "seconds_of", "sums", "history", "format", "version"),
            ]
        ),
        inner=st.sampled_from(["", "state", "generator", "progress", "loss", "model", "seed"]),
        value=values | st.sampled_from([torch.ones(3), torch.ones(2, 2, dtype=torch.bool)]),
    )
    @example("history", "", 5)
    @example("sums", "", {"minibatches": 1e9})
    @example("minibatches", "progress", {"highest": 2**62, "recent": []})
    @example("random", "", torch.ones(5056))
    @example("model", "", {"controller.weight_ih_l0": 3})
    def test_with_any_part(self, run, finished, part, inner, value):
        state = torch.load(finished / "checkpoint.pt", weights_only=True)
        if inner and isinstance(state.get(part), dict):
            state[part] = {**state[part], inner: value}
        else:
            state[part] = value
        torch.save(state, run.checkpoint)

        def go_on():
            trainer = Trainer(RunSettings.of(RUN))
            contents = run.read_checkpoint()
            with contextlib.suppress(ValueError):  # it names no file; `train` does
                trainer.load(contents)

        refusal(run.checkpoint, go_on)


def zipped(parts, compression=zipfile.ZIP_STORED):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    return content.getvalue()


def saved(contents):
    content = io.BytesIO()
    torch.save(contents, content)
    return content.getvalue()


def _within_itself():
    inner = []
    inner.append(inner)
    return inner


def _doubled(times):
    inner = [1]
    for _ in range(times):
        inner = [inner, inner]
    return inner


def _nested(times):
    inner = [1]
    for _ in range(times):
        inner = [inner]
    return inner


def _with_two_that_share_bytes():
    """Two parts of an archive that are one in the file, so that unpacked it is longer."""
    content = bytearray(zipped({"a/data.pkl": b"x" * 10_000}))
    start = content.index(b"PK\x01\x02")
    end = content.index(b"PK\x05\x06")
    entry = content[start:end]
    tail = content[end:]
    tail[8:12] = (50).to_bytes(2, "little") * 2
    tail[12:16] = (50 * len(entry)).to_bytes(4, "little")
    return bytes(content[:start] + entry * 50 + tail)


HOSTILE = {
    "a bomb": lambda: zipped({"a/data.pkl": b"\0" * 200_000_000}, zipfile.ZIP_DEFLATED),
    "parts that share bytes": _with_two_that_share_bytes,
    "an endless pickle": lambda: zipped({"a/data.pkl": b"]" * (1 << 24) + b"]."}),
    "a tensor of a tera": lambda: saved({"random": torch.zeros(1).expand(10**12)}),
    "a sparse one": lambda: saved({"model": torch.eye(3).to_sparse()}),
    "one without numbers": lambda: saved({"model": torch.empty(10**9, device="meta")}),
    "within itself": lambda: saved({"format": FORMAT, "settings": _within_itself()}),
    "doubled sixty times": lambda: saved({"format": FORMAT, "settings": {"model": _doubled(60)}}),
    "nested": lambda: saved({"format": FORMAT, "settings": {"model": _nested(200)}}),
    "no pickle": lambda: zipped({"a/data.pkl": b"cos\nsystem\n(S'true'\ntR."}),
    "an empty archive": lambda: zipped({}),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_checkpoint_made_to_harm(run, what):
    run.checkpoint.write_bytes(HOSTILE[what]())
    assert refusal(run.checkpoint, run.read_checkpoint)


class TestRunJson:
    @often
    @given(anything)
    def test_of_any_bytes(self, run, content):
        run.settings.write_bytes(content)
        assert refusal(run.settings, run.read_settings)

    @often
    @given(
        st.sampled_from(list(RUN)),
        st.sampled_from(["", "ann", "name", "hidden_size", "bits", "options", "betas", "window"]),
        values,
    )
    @example("optimizer", "learning_rate", 10**400)
    @example("model_settings", "ann", {"name": "lsh", "tables": float("nan")})
    @example("task_settings", "name", "copy")
    def test_with_any_value(self, run, name, inner, value):
        table = dict(RUN)
        is_within = inner and isinstance(table[name], dict)
        table[name] = {**table[name], inner: value} if is_within else value
        run.settings.write_text(json.dumps(table))
        refusal(run.settings, run.read_settings)


class TestLines:
    @often
    @given(st.lists(anything | values.map(lambda each: json.dumps(each).encode()), max_size=4))
    def test_of_any_bytes(self, run, found):
        content = b"\n".join(found) + b"\n"
        for path, fields in ((run.metrics, TRAINING), (run.evaluation, EVALUATION)):
            path.write_bytes(content)
            refusal(path, lambda path=path, fields=fields: list(lines(path, fields)))
            assert path.read_bytes() == content

    @often
    @given(values, st.sampled_from(["minibatch", "level", "reads", "loss"]))
    def test_with_any_value_a_table_is_made_of_them_or_none(self, run, finished, value, name):
        (record, *_) = lines(finished / "evaluation.jsonl", {})
        text = json.dumps(record) + "\n" + json.dumps(record | {name: value}) + "\n"
        run.evaluation.write_text(text)
        run.metrics.write_text("")
        ended = outcome.Outcome("trained", "", 20, 80, 1, 1.0)
        runs = [table.Run(RunSettings.of(RUN), run.path, ended)]
        refusal(run.evaluation, lambda: table.write(run.path, runs))

    @often
    @given(anything | values.map(lambda each: json.dumps(each).encode()))
    def test_of_an_outcome(self, run, content):
        run.outcome.write_bytes(content)
        refusal(run.outcome, lambda: outcome.read(run.path, RunSettings.of(RUN)))

    @often
    @given(st.sampled_from(["status", "message", "minibatch", "seconds", "settings"]), values)
    def test_of_an_outcome_with_any_value(self, run, name, value):
        ended = outcome.Outcome("trained", "", 20, 80, 1, 1.0)._asdict()
        content = {**ended, "settings": RUN, name: value}
        run.outcome.write_text(json.dumps(content))
        refusal(run.outcome, lambda: outcome.read(run.path, RunSettings.of(RUN)))


@often
@given(anything | st.text(max_size=50).map(str.encode))
def test_toml_of_any_bytes(run, content):
    path = run.path / "run.toml"
    path.write_bytes(content)
    refusal(path, lambda: read_toml(path))


PLACES = ["run.json", "checkpoint.pt", "metrics.jsonl", "evaluation.jsonl", "run.lock"]


@pytest.mark.parametrize("place", PLACES)
def test_commands_say_one_line_about_any_bytes(run, finished, capsys, place):
    for content in [*BYTES, b'{"minibatch": 1}\n', b'{"kind": 3, "minibatch": -1}\n', None]:
        restored(run, finished)
        (run.path / place).unlink(missing_ok=True)
        if content is None:
            (run.path / place).mkdir()
        else:
            (run.path / place).write_bytes(content)
        commands(run, capsys)
