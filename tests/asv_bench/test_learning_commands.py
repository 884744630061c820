"""The training behind loss curves and traces, and the commands that write them."""

import itertools
import json
import sys

import pytest
import torch

import ann_backends
import sam
from asv_bench import run
from asv_bench.learning import curves, traces, training


def small_sam(task, **settings):
    torch.manual_seed(0)
    sizes = {"memory_size": 30, "word_size": 4, "num_heads": 2, "k": 2, "hidden_size": 5}
    return sam.SAM(task.input_size, task.output_size, **sizes | settings)


@pytest.mark.parametrize("keep_memory", [False, True])
def test_a_kept_memory_fills_and_an_empty_one_starts_each_minibatch(tmp_path, keep_memory):
    task = sam.tasks.Copy(bits=3, min_length=2, max_length=2)
    model = small_sam(task)
    losses = training.minibatches(model, task, batch_size=2, keep_memory=keep_memory)
    with sam.record_trace(model, tmp_path / "trace.npz"):
        values = list(itertools.islice(losses, 4))
    trace = ann_backends.Trace.load(tmp_path / "trace.npz")
    assert len(set(values)) == 4
    assert trace.num_steps == 4 * 5
    assert trace.num_episodes == (1 if keep_memory else 4)
    # Nothing is written to where the last minibatch read: the state but for the memory is new.
    first_writes = trace.slots[::5]
    assert ((first_writes >= 0).sum(axis=2) == model.num_heads).all()
    found = len(set(trace.slots[:, 0].ravel())) - 1
    assert found == (30 if keep_memory else 10)


def test_training_goes_down_the_same_way_for_the_same_seed():
    runs = [
        list(itertools.islice(training.minibatches(small_sam(training.COPY), training.COPY), 60))
        for _ in range(2)
    ]
    assert runs[0] == runs[1]
    assert sum(runs[0][-10:]) < sum(runs[0][:10])


def test_a_curriculum_goes_on_when_its_hardest_level_is_mastered():
    task = sam.tasks.AssociativeRecall(min_pairs=1, max_pairs=2)
    curriculum = training.Curriculum(task)
    generator = torch.Generator().manual_seed(0)
    levels = set()
    for loss in [1.0] * training.PATIENCE + [0.1] * 94:
        episode = curriculum.sample(2, generator)
        levels.add(episode.level)
        curriculum.note(episode, loss)
    assert (levels, curriculum.pairs) == ({1}, 1)  # the mean of the last hundred is 0.154
    curriculum.note(curriculum.sample(2, generator), 0.1)
    assert curriculum.pairs == 2
    counts = [curriculum.sample(2, generator).level for _ in range(400)]
    assert 0.65 < counts.count(2) / 400 < 0.85
    for _ in range(3 * training.PATIENCE):
        curriculum.note(task.sample(2, generator, 2), 0.0)
    assert curriculum.pairs == task.max_pairs


@pytest.mark.parametrize("task", traces.TASKS)
def test_a_trace_is_written_for_every_stage(tmp_path, monkeypatch, task, capsys):
    monkeypatch.setattr(traces, "STAGES", {"start": 0, "end": 3})
    traces.record(task, 200, 7, tmp_path)
    for stage, minibatches in (("start", 0), ("end", 3)):
        trace = ann_backends.Trace.load(tmp_path / f"{task}-{stage}.npz")
        assert (trace.num_steps, trace.batch_size, trace.memory_size) == (7, 1, 200)
        assert (trace.info["stage"], trace.info["minibatches"]) == (stage, minibatches)
    assert capsys.readouterr().out.count("loss") == 2


def test_a_run_that_was_made_is_kept_and_others_are_added(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "machine_folder", lambda name: tmp_path)
    monkeypatch.setattr(run, "ONE_THREAD", {})  # this process has chosen its threads
    monkeypatch.setattr(curves, "POINT", 10)

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["curves", "--minibatches", "25", *arguments])
        assert curves.main() == 0
        lines = (tmp_path / "learning.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    (first,) = command("--backend", "exact")
    assert (first["backend"], first["seed"], first["minibatches"]) == ("exact", 0, [10, 20])
    assert 0.3 < first["wrong_bits"] < 0.7
    assert all(0.5 < loss < 1 for loss in first["loss"])
    both = command("--backend", "exact", "lsh")
    assert [each["backend"] for each in both] == ["exact", "lsh"]
    assert "kept" in capsys.readouterr().out
