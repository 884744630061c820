"""What a run is: from flags, TOML and Python alike, and refused by name where it is wrong."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ann_backends
from sam.commands import main
from sam.training import OptimizerSettings, RunSettings, train
from sam.training.trainer import Trainer
from tests.training.small_runs import TIMES, checkpoint, flags, lines, mapping, settings

WRONG = [
    ("batch_size", "16"),
    ("batch_size", 0),
    ("batch_size", True),
    ("seed", -1),
    ("seed", 2**31),
    ("seed", 1.5),
    ("seed", True),
    ("episodes", 10.0),
    ("minutes", "10"),
    ("minutes", 0),
    ("threads", "two"),
    ("sequences", None),
    ("evaluate", 3),
    ("evaluate", ["3"]),
    ("evaluate", [0]),
    ("name", 3),
    ("model", 5),
    ("model", ["sam"]),
    ("task", {"copy": 1}),
    ("model_settings", 5),
    ("model_settings", {"input_size": 5}),
    ("task_settings", [1]),
    ("optimizer", "adam"),
    ("optimizer", {"name": 3}),
    ("optimizer", {"learning_rate": "0.1"}),
    ("optimizer", {"learning_rate": True}),
    ("optimizer", {"learning_rate": float("nan")}),
    ("optimizer", {"clip_norm": -1}),
    ("optimizer", {"cooldown": 2}),
    ("optimizer", {"cooldown": "all"}),
    ("optimizer", {"options": 3}),
    ("optimizer", {"options": {"betas": 3}}),
    ("optimizer", {"options": {"eps": "small"}}),
    ("optimizer", {"options": {"lr": 3}}),
    ("optimizer", {"learning_rate": 10**400}),
    ("optimizer", {"learning_rate": float("inf")}),
    ("optimizer", {"clip_norm": float("nan")}),
    ("optimizer", {"cooldown": float("nan")}),
    ("optimizer", {"options": {"eps": float("nan")}}),
    ("optimizer", {"options": {"betas": [0.9, float("nan")]}}),
    ("minutes", float("nan")),
    ("minutes", float("inf")),
    ("minutes", -1),
    ("minutes", True),
    ("threads", 0),
    ("threads", 10**6),
    ("batch_size", 10**30),
    ("model_settings", {"ann": {"name": "lsh", "tables": float("nan")}}),
    ("model_settings", {"hidden_size": 2**64}),
    ("model_settings", {"name": "sam"}),
    ("task_settings", {"max_length": float("inf")}),
    ("task_settings", {"name": "copy"}),
    ("curriculum", {"threshold": float("nan")}),
    ("curriculum", {"growth": float("inf")}),
    ("curriculum", {"growth": 1e300}),
    ("curriculum", {"increment": -1}),
    ("curriculum", {"increment": float("nan")}),
    ("curriculum", {"hardest": -0.1}),
    ("curriculum", True),
    ("curriculum", {"start": 0}),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_what_is_wrong_is_named(name, value):
    inner = [*value, name] if isinstance(value, dict) else [name]
    with pytest.raises((TypeError, ValueError), match="|".join(inner)) as raised:
        RunSettings.of(mapping() | {name: value})
    assert "got" in str(raised.value) or "not a setting" in str(raised.value)
    assert (
        "expected" in str(raised.value)
        or "deep" in str(raised.value)
        or "options" in str(raised.value)
    )


@pytest.mark.parametrize(
    ("changes", "nearest"),
    [
        ({"model": "samm"}, "sam"),
        ({"task": "copi"}, "copy"),
        ({"episode": 3}, "episodes"),
        ({"optimizer": {"name": "adamm"}}, "adam"),
        ({"optimizer": {"learning_rat": 1}}, "learning_rate"),
        ({"optimizer": {"options": {"ep": 1}}}, "eps"),
        ({"curriculum": {"treshold": 1}}, "threshold"),
    ],
)
def test_what_is_unknown_is_answered_with_the_nearest(changes, nearest):
    with pytest.raises(ValueError, match=f"did you mean '{nearest}'"):
        RunSettings.of(mapping() | changes)


def test_an_unknown_index_is_answered_with_the_nearest():
    wrong = settings("sam", model_settings={"ann": "kd_forrest"})
    with pytest.raises(ValueError, match="kd_forest"):
        Trainer(wrong)


def test_a_budget_is_needed():
    with pytest.raises(ValueError, match="episodes, minutes: got neither"):
        RunSettings(model="lstm", task="copy")
    with pytest.raises(ValueError, match=r"cooldown.*expected episodes"):
        RunSettings.of(mapping() | {"episodes": None, "minutes": 1})


def test_a_level_beyond_the_task_is_refused_before_the_run():
    with pytest.raises(ValueError, match="evaluate: got 300, expected at most 256"):
        RunSettings(model="lstm", task="associative_recall", episodes=1, evaluate=(6, 300))


numbers = st.floats(1e-6, 1e3)
optimizers = st.one_of(
    st.builds(OptimizerSettings, learning_rate=numbers, clip_norm=numbers),
    st.builds(
        OptimizerSettings,
        cooldown=st.floats(0, 1),
        options=st.fixed_dictionaries({"betas": st.tuples(*2 * [st.floats(0, 0.99)])}),
    ),
    st.builds(
        OptimizerSettings,
        name=st.just("sgd"),
        options=st.fixed_dictionaries({"momentum": numbers}),
    ),
)


@given(
    optimizer=optimizers,
    seed=st.integers(0, 2**31 - 1),
    episodes=st.integers(1, 10**9),
    minutes=st.none() | numbers,
    evaluate=st.lists(st.integers(1, 1000)).map(tuple),
    ann=st.sampled_from(["exact", "lsh"])
    | st.builds(ann_backends.KDForest, checks=st.integers(1, 999), sketch=st.booleans()),
)
def test_a_mapping_gives_the_same_settings_and_passes_through_json(ann, **given):
    made = RunSettings(model="sam", task="copy", model_settings={"ann": ann}, **given)
    written = json.loads(json.dumps(made.as_mapping()))
    assert written == made.as_mapping()
    again = RunSettings.of(written)
    assert again.differing(made) == []
    assert again.as_mapping() == made.as_mapping()
    assert ann_backends.resolve(ann) == again.build_model().ann


GIVEN = """
    train --quiet --no-tensorboard --model sam --task copy --batch-size 8 --seed 5
    --episodes 80 --evaluate 2 3 --sequences 8 --model-set ann={name="kd_forest",checks=7}
    --memory-size 16 --word-size 6 --num-heads 1 --hidden-size 12 --model-set key_strength=false
    --task-set bits=3 --task-set max_length=4 --optimizer rmsprop --learning-rate 0.01
    --cooldown 0.5 --clip-norm 2 --optimizer-set momentum=0.5 --curriculum start=2 threshold=0.3
"""


def test_flags_and_toml_give_the_same(tmp_path):
    config = tmp_path / "run.toml"
    config.write_text(
        """
        model = "sam"
        task = "copy"
        batch_size = 8
        seed = 5
        episodes = 80
        evaluate = [2, 3]
        sequences = 8
        [model_settings]
        ann = {name = "kd_forest", checks = 7}
        memory_size = 16
        word_size = 6
        num_heads = 1
        hidden_size = 12
        key_strength = false
        [task_settings]
        bits = 3
        max_length = 4
        [optimizer]
        name = "rmsprop"
        learning_rate = 0.01
        cooldown = 0.5
        clip_norm = 2.0
        options = {momentum = 0.5}
        [curriculum]
        start = 2
        threshold = 0.3
        """
    )
    one, other = tmp_path / "flags", tmp_path / "toml"
    assert main([*GIVEN.split(), "--out", str(one)]) == 0
    quiet = ["--quiet", "--no-tensorboard"]
    assert main(["train", "--config", str(config), "--out", str(other), *quiet]) == 0
    (left,), (right,) = ([json.loads((each / "run.json").read_text())] for each in (one, other))
    assert left == right
    assert left["model_settings"]["ann"] == {"name": "kd_forest", "checks": 7}
    for name, part in checkpoint(one)["model"].items():
        assert torch.equal(part, checkpoint(other)["model"][name])


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("model = [", "run.toml"),
        ('model = "lstm"\ntask = "copy"', "episodes, minutes"),
        ('model = "lstm"\ntask = "copy"\nbatch_size = "16"', "batch_size"),
        (
            'model = "lstm"\ntask = "copy"\nepisodes = 9\nmodel_settings = {d = 1999-01-01}',
            "d: got",
        ),
        ('model = "lstm"\ntask = "copy"\nepisodes = 9\nmodel_settings = {k = 3}', "k: not a sett"),
        ("model = 3", "task: got none"),
    ],
)
def test_a_wrong_file_is_one_line_and_leaves_no_folder(tmp_path, capsys, text, match):
    (tmp_path / "run.toml").write_text(text)
    arguments = ["--config", str(tmp_path / "run.toml"), "--out", str(tmp_path / "run")]
    assert main(["train", *arguments]) == 2
    error = capsys.readouterr().err
    assert match in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_bytes_and_files_that_are_not_there_are_named(tmp_path, capsys):
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    for name in ("bytes.toml", "missing.toml"):
        arguments = ["--config", str(tmp_path / name), "--out", str(tmp_path / "run")]
        assert main(["train", *arguments]) == 2
        assert name in capsys.readouterr().err


def test_a_run_json_that_is_damaged_is_named(tmp_path, capsys):
    for text in ("{", "[1]"):
        (tmp_path / "run.json").write_text(text)
        assert main(["train", "--resume", str(tmp_path)]) == 2
        assert "run.json: got" in capsys.readouterr().err


def test_resuming_takes_a_larger_budget_and_no_other_settings(tmp_path, capsys):
    folder = tmp_path / "run"
    resume = ["train", "--resume", str(folder), "--quiet", "--no-tensorboard"]
    assert main(flags(folder, "--episodes", 480)) == 0
    before = (folder / "run.json").read_bytes()
    assert main([*resume, "--learning-rate", "0.5", "--task-set", "bits=4"]) == 2
    error = capsys.readouterr().err
    assert "got task_settings.bits=4, optimizer.learning_rate=0.5, expected " in error
    assert "expected task_settings.bits=3, optimizer.learning_rate=0.001 as in" in error
    assert (folder / "run.json").read_bytes() == before
    assert main([*resume, "--episodes", "960"]) == 0
    assert main(flags(tmp_path / "whole", "--episodes", 960)) == 0
    model = checkpoint(tmp_path / "whole")["model"]
    for name, part in checkpoint(folder)["model"].items():
        assert torch.equal(part, model[name])
    assert lines(folder / "metrics.jsonl", *TIMES) == lines(
        tmp_path / "whole" / "metrics.jsonl", *TIMES
    )


def test_with_a_cooldown_the_budget_is_part_of_the_run(tmp_path):
    train(settings(minibatches=20), tmp_path)
    with pytest.raises(ValueError, match="got episodes=160, expected episodes=80"):
        train(settings(minibatches=40), tmp_path, resume=True)


def test_the_learning_rate_falls_to_zero_in_the_cooldown():
    trainer, rates = Trainer(settings(minibatches=100)), []
    for _ in range(100):
        trainer.step()
        rates.append(trainer.optimizer.param_groups[0]["lr"])
    expected = [3e-3] * 75 + [3e-3 * (100 - each) / 25 for each in range(75, 100)]
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize("seconds", [-1, float("nan")])
def test_checkpoints_need_an_interval(tmp_path, seconds):
    with pytest.raises(ValueError, match="checkpoint_seconds: got"):
        train(settings(), tmp_path, checkpoint_seconds=seconds)
