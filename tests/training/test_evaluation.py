"""Held-out sequences, levels never trained on, and what a model knows without its memory."""

import itertools
import math

import pytest
import torch

from sam import tasks
from sam.commands import main
from sam.training import evaluate, train, without_reads
from sam.training.evaluation import load
from sam.training.settings import SEEDS
from tests.training.small_runs import MODELS, flags, lines, settings

TASK = tasks.Copy(bits=8, max_length=6)
READS = ("kept", "zeroed")


class Guess(torch.nn.Module):
    """Says nothing, and keeps what it was asked."""

    def __init__(self, output_size):
        super().__init__()
        self.output_size, self.asked = output_size, []

    def forward(self, inputs):
        self.asked.append(inputs)
        return torch.zeros(*inputs.shape[:2], self.output_size), None


def _asked(seed, level=6):
    guess = Guess(8)
    scores = evaluate(guess, TASK, level, sequences=100, batch_size=32, seed=seed)
    return guess.asked, scores


def test_guessing_costs_what_chance_says_and_gets_half_wrong():
    asked, scores = _asked(0)
    assert [part.shape[1] for part in asked] == [32, 32, 32, 4]
    assert scores["cost"] == pytest.approx(scores["chance"]) == pytest.approx(48)
    assert scores["loss"] == pytest.approx(math.log(2))
    assert scores["scored"] == 48
    assert (scores["split"], scores["sequences"]) == ("fresh", 100)
    assert scores["errors"] == pytest.approx(24, abs=5 * math.sqrt(48 / 4 / 100))


def test_the_same_seed_gives_the_same_sequences_and_another_others():
    one, again, other = (torch.cat(_asked(seed)[0], dim=1) for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_no_sequence_of_training_is_held_out():
    """Of 48 bits: by chance two of these thousands are the same once in a million runs."""
    held_out = {tuple(word.flatten().tolist()) for word in torch.cat(_asked(0)[0], 1).unbind(1)}
    generator = torch.Generator().manual_seed(0)  # as a run with the same seed draws
    for _ in range(100):
        episode = TASK.sample(32, generator, 6)  # in batches as those held out
        assert held_out.isdisjoint(
            tuple(word.flatten().tolist()) for word in episode.inputs.unbind(1)
        )


def test_seeds_of_what_is_held_out_are_none_of_a_run():
    """Torch's generator knows the lowest 32 bits of its seed alone."""

    def first(seed):
        return torch.randint(1 << 62, (4,), generator=torch.Generator().manual_seed(seed)).tolist()

    assert first(1 << 40) == first(0)
    assert first(SEEDS) != first(0)
    seeds = [*range(20), *range(SEEDS, SEEDS + 20), SEEDS - 1, 2 * SEEDS - 1]
    assert len({tuple(first(seed)) for seed in seeds}) == len(seeds)


def test_what_is_no_number_of_sequences_or_seed_is_refused():
    for wrong, match in (
        ({"sequences": 0}, "sequences"),
        ({"batch_size": -1}, "batch_size"),
        ({"seed": SEEDS}, "seed"),
        ({"seed": -1}, "seed"),
    ):
        with pytest.raises(ValueError, match=match):
            evaluate(Guess(8), TASK, 6, **wrong)


@pytest.mark.parametrize("model", [name for name in MODELS if name != "lstm"])
def test_with_its_reads_zeroed_a_model_ignores_its_memory(model):
    """Words that it starts with change what it says; not once the reads are zeroed."""
    seeing = settings(model).build_model()
    inputs = torch.randn(7, 3, seeing.input_size)
    words = 3 * torch.randn(seeing.memory_size, seeing.word_size)

    def answers(each):
        with torch.no_grad():
            return [
                each(inputs, each.initial_state(3, memory=memory))[0] for memory in (words, -words)
            ]

    one, other = answers(seeing)
    assert not torch.allclose(one, other, atol=1e-4)
    one, other = answers(without_reads(seeing))
    assert torch.equal(one, other)
    again = answers(seeing)  # the model itself is as it was
    assert not torch.equal(*again)


def test_with_its_reads_zeroed_a_model_is_its_controller_alone():
    model = settings("sam").build_model()
    inputs = torch.randn(7, 3, model.input_size)
    hidden = cell = torch.zeros(3, model.hidden_size)
    outputs, controller = [], model.controller
    for step in inputs:
        gates = step @ controller.weight_ih[:, : model.input_size].T + controller.bias_ih
        gates = gates + hidden @ controller.weight_hh.T + controller.bias_hh
        enter, forget, candidate, leave = gates.chunk(4, 1)
        cell = forget.sigmoid() * cell + enter.sigmoid() * candidate.tanh()
        hidden = leave.sigmoid() * cell.tanh()
        outputs.append(hidden @ model.output.weight[:, : model.hidden_size].T + model.output.bias)
    torch.testing.assert_close(without_reads(model)(inputs)[0], torch.stack(outputs))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    for model in ("sam", "lstm"):
        train(settings(model, minibatches=150), folder / model)
    return folder


def test_the_end_of_a_run_is_evaluated(trained):
    records = lines(trained / "sam" / "evaluation.jsonl")
    assert [(each["level"], each["reads"]) for each in records] == [
        *itertools.product([2, 5], ["kept", "zeroed"])
    ]
    for each in records:
        assert each["kind"] == "evaluation"
        assert (each["minibatch"], each["episodes"], each["sequences"]) == (150, 600, 8)
        assert each["chance"] == 3 * each["level"]
    assert [each["reads"] for each in lines(trained / "lstm" / "evaluation.jsonl")] == 2 * ["kept"]


def test_the_command_prints_a_table_and_adds_its_lines(trained, capsys):
    folder = trained / "sam"
    before = lines(folder / "evaluation.jsonl")
    arguments = ["--levels", "4", "40", "--sequences", "12", "--model-set", "memory_size=64"]
    tables = []
    for _ in range(2):
        assert main(["evaluate", str(folder), *arguments, "--model-set", "ann=lsh"]) == 0
        tables.append(capsys.readouterr().out)
    assert tables[0] == tables[1]
    header, *rows = tables[0].splitlines()
    assert header.split()[:3] == ["split", "level", "reads"]
    assert [row.split()[:3] for row in rows] == [
        ["fresh", level, reads] for level, reads in itertools.product(("4", "40"), READS)
    ]
    added = lines(folder / "evaluation.jsonl")[len(before) :]
    assert len(added) == 8
    assert added[0]["model_settings"] == {"memory_size": 64, "ann": "lsh"}
    model = load(folder, memory_size=64, ann="lsh").model
    assert model.memory_size == 64
    scores = evaluate(model, tasks.Copy(bits=3, max_length=4), 40, sequences=12)
    assert {name: added[2][name] for name in scores} == scores
    assert float(rows[2].split()[3]) == pytest.approx(scores["cost"], abs=1e-3)
    # What the end of the run wrote is written anew when it is resumed; these lines stay.
    train(settings("sam", minibatches=150), folder, resume=True)
    assert lines(folder / "evaluation.jsonl") == added + before


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--levels", "3", "0"], "levels: got 0"),
        (["--sequences", "0"], "sequences: got 0"),
        (["--batch-size", "-3"], "batch_size: got -3"),
        (["--seed", "-3"], "seed: got -3"),
        (["--model-set", "hidden_size=13"], "got hidden_size=13"),
        (["--model-set", "ann=kd_forrest"], "kd_forest"),
        (["--model-set", "memory=3"], "memory: not a setting"),
        (["--model-set", "name=sam"], "name: not a setting"),
        (["--model-set", "input_size=3"], "input_size: got one, expected the task to say it"),
        (["--model-set", "access_threshold=nan"], "access_threshold: got nan"),
        (["--model-set", "access_threshold=-0.5"], "access_threshold: got -0.5"),
        (["--model-set", "one_hot_inputs=False"], "one_hot_inputs: got 'False'"),
        (["--model-set", "seed=inf"], "seed: got inf"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(trained, capsys, arguments, match):
    before = (trained / "sam" / "evaluation.jsonl").read_bytes()
    assert main(["evaluate", str(trained / "sam"), *arguments]) == 2
    printed, error = capsys.readouterr()
    assert match in error
    assert error.count("\n") == 1
    assert printed == ""
    assert (trained / "sam" / "evaluation.jsonl").read_bytes() == before


def test_a_folder_without_a_run_is_named(tmp_path, capsys):
    assert main(["evaluate", str(tmp_path)]) == 2
    assert "without run.json" in capsys.readouterr().err


def test_a_run_that_still_trains_can_be_evaluated(tmp_path, monkeypatch):
    """Between two minibatches, from the checkpoint so far."""
    from sam.training.trainer import Trainer

    real, seen = Trainer.step, []

    def step(trainer):
        if trainer.minibatch == 30:
            assert main(["evaluate", str(tmp_path), "--levels", "3"]) == 0
            seen.extend(lines(tmp_path / "evaluation.jsonl"))
        return real(trainer)

    monkeypatch.setattr(Trainer, "step", step)
    assert main(flags(tmp_path, "--episodes", 160, "--checkpoint-seconds", 0)) == 0
    assert [each["minibatch"] for each in seen] == [30]
    assert [each["minibatch"] for each in lines(tmp_path / "evaluation.jsonl")] == [30, 40, 40]
