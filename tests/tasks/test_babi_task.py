"""bAbI as a task: what goes in, what is scored, and minibatches that hardly pad."""

import collections
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from sam import tasks, training
from sam.data import babi
from sam.data.stories import ANSWER, NO_ANSWER, SYMBOLS, decode
from sam.data.stories import Encoded as EncodedStory
from sam.tasks.buckets import Buckets
from sam.training import evaluation
from sam.training.trainer import Trainer

EXCERPT = Path(__file__).parent.parent / "data"
TASK = tasks.build("babi", tasks=(1, 4, 8, 19), data_dir=str(EXCERPT))
SPLITS = babi.load("en-10k", (1, 4, 8, 19), EXCERPT)


def drawn(seed):
    return torch.Generator().manual_seed(seed)


def stories_of(episode):
    """Each sequence's story as text lines, read from what a model sees and should answer."""
    stories = []
    for column in range(episode.inputs.shape[1]):
        shown = episode.inputs[:, column]
        steps = int(shown.sum())
        assert torch.equal(shown.sum(1), (torch.arange(len(shown)) < steps).float())
        symbols = shown[:steps].argmax(1).numpy().astype(np.uint8)
        mask = episode.mask[:, column].numpy()
        assert not mask[steps:].any()
        answers = np.where(mask, episode.targets[:, column].numpy(), NO_ANSWER)[:steps]
        assert (symbols[mask[:steps]] == SYMBOLS.index(ANSWER)).all()
        stories.append(decode(EncodedStory(symbols, answers)))
    return stories


def test_an_episode_reads_back_as_stories_of_training():
    trained = {decode(each) for splits in SPLITS.values() for each in splits.train}
    generator, seen = drawn(0), set()
    for _ in range(60):
        stories = stories_of(TASK.sample(4, generator))
        assert trained.issuperset(stories)
        seen.update(stories)
    assert len(seen) > 0.8 * len(trained)


def test_a_level_is_a_task():
    for level in (1, 4, 8, 19):
        own = {decode(each) for each in SPLITS[level].train}
        episode = TASK.sample(6, drawn(level), level)
        assert own.issuperset(stories_of(episode))
        assert episode.level == level
    with pytest.raises(
        ValueError, match=r"level: got 2, expected one of the tasks \(1, 4, 8, 19\)"
    ):
        TASK.sample(1, drawn(0), 2)


def test_the_same_seed_gives_the_same_episode():
    same, again, other = (TASK.sample(5, drawn(seed)) for seed in (3, 3, 4))
    assert torch.equal(same.inputs, again.inputs)
    assert torch.equal(same.targets, again.targets)
    assert same.inputs.shape != other.inputs.shape or not torch.equal(same.inputs, other.inputs)


def test_held_out_stories_come_once_each():
    for split in ("validation", "test"):
        episodes = list(TASK.held_out(split, 4, 1000, 3, drawn(0)))
        assert [episode.inputs.shape[1] for episode in episodes[:-1]] == [3] * (len(episodes) - 1)
        stories = [story for episode in episodes for story in stories_of(episode)]
        expected = [decode(each) for each in getattr(SPLITS[4], split)]
        assert collections.Counter(stories) == collections.Counter(expected)
    (few,) = TASK.held_out("test", 4, 2, 8, drawn(0))
    assert set(stories_of(few)) == {decode(each) for each in SPLITS[4].test[:2]}


def test_an_answer_counts_if_every_word_of_it_is_right():
    # Task 8 has answers of none, one and several words.
    episode = next(TASK.held_out("test", 8, 3, 3, drawn(0)))
    outputs = torch.zeros(*episode.mask.shape, TASK.output_size)
    outputs.scatter_(2, episode.targets.unsqueeze(-1), 9.0)
    assert TASK.errors(outputs, episode).tolist() == [0, 0, 0]
    questions = [sum(bool(line.answer) for line in story) for story in stories_of(episode)]
    assert TASK.scored(episode).tolist() == questions
    generator = torch.Generator().manual_seed(5)
    for _ in range(20):
        flipped = torch.rand(episode.mask.shape, generator=generator) < 0.2
        said = outputs.where(~flipped.unsqueeze(-1), outputs.roll(1, -1))
        assert TASK.errors(said, episode).tolist() == _wrong_by_hand(said, episode)


def _wrong_by_hand(outputs, episode):
    """Walks each story step by step."""
    counts = []
    for column in range(outputs.shape[1]):
        wrong, right, within = 0, True, False
        for step in range(outputs.shape[0] + 1):
            scored = step < outputs.shape[0] and bool(episode.mask[step, column])
            if scored:
                said = int(outputs[step, column].argmax())
                right &= said == int(episode.targets[step, column])
            elif within:
                wrong += not right
                right = True
            within = scored
        counts.append(wrong)
    return counts


def test_scores_of_words():
    episode = TASK.sample(4, drawn(1))
    outputs = torch.randn(*episode.mask.shape, TASK.output_size, generator=drawn(2)).double()
    chances = outputs.softmax(-1)
    nats = [
        -chances[step, column, episode.targets[step, column]].log()
        for step, column in episode.mask.nonzero().tolist()
    ]
    assert float(TASK.loss(outputs, episode)) == pytest.approx(float(sum(nats)) / len(nats))
    cost = float(TASK.cost(outputs, episode).sum())
    assert cost * np.log(2) == pytest.approx(float(sum(nats)))
    with pytest.raises(ValueError, match=r"outputs: got shape \[1, 4, 159\], expected"):
        TASK.loss(outputs[:1], episode)


def test_chance_guesses_among_the_words_that_answer():
    # Path finding: answers of two directions each.
    said = [line.answer for each in SPLITS[19].test for line in decode(each) if line.answer]
    directions = {word for answer in said for word in answer}
    assert directions <= set("nesw")
    assert TASK.chance(19) == pytest.approx(2 * np.log2(len(directions)))


def test_padding_is_rare_and_tasks_come_alike_often():
    class Item(int):
        pass

    generator = np.random.default_rng(0)
    lengths = generator.integers(20, 400, 300).tolist()
    weights = generator.random(300)
    buckets = Buckets(list(enumerate(lengths)), weights, lambda item: item[1], ratio=1.2)
    torch_generator, counts = drawn(0), collections.Counter()
    for _ in range(4000):
        items = buckets.draw(5, torch_generator)
        found = [item[1] for item in items]
        assert max(found) <= 1.2 * min(found)
        counts.update(item[0] for item in items)
    drawn_share = np.array([counts[each] for each in range(300)]) / counts.total()
    expected = weights / weights.sum()
    assert np.abs(drawn_share - expected).max() < 0.003
    assert np.corrcoef(drawn_share, expected)[0, 1] > 0.95


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"tasks": (0,)}, ValueError, "tasks: got 0"),
        ({"tasks": (21,)}, ValueError, "tasks: got 21, expected integers from 1 to 20"),
        ({"tasks": ()}, TypeError, "tasks: got"),
        ({"tasks": 3}, TypeError, "tasks: got 3, expected a list of tasks"),
        ({"version": "hn"}, ValueError, "version: got 'hn'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, error, said):
    with pytest.raises(error, match=said):
        tasks.Babi(**settings)


def test_training_starts_and_is_evaluated_on_each_task_and_split(tmp_path):
    settings = training.RunSettings.of(
        {
            "model": "sam",
            "task": "babi",
            "task_settings": {"tasks": [1, 4], "data_dir": str(EXCERPT)},
            "model_settings": {"memory_size": 32, "hidden_size": 16, "num_heads": 1},
            "batch_size": 4,
            "episodes": 8,
        }
    )
    trainer = Trainer(settings)
    records = list(evaluation.evaluate_trainer(trainer))
    assert [(each["split"], each["level"], each["reads"]) for each in records] == [
        (split, level, reads)
        for split in ("validation", "test")
        for level in (1, 4)
        for reads in ("kept", "zeroed")
    ]
    assert [each["sequences"] for each in records[4::2]] == [3, 8]
    assert records[4]["scored"] == 5  # questions of each story of task 1
    assert 0 < records[4]["errors"] <= 5


def test_a_run_without_data_fails_before_its_folder_is_made(tmp_path, monkeypatch):
    monkeypatch.setenv("SAM_DATA_DIR", str(tmp_path))
    settings = training.RunSettings(model="lstm", task="babi", episodes=16)
    with pytest.raises(babi.DataError, match="SAM_DATA_DIR"):
        training.train(settings, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_another_folder_gives_other_stories(tmp_path, monkeypatch):
    """Also within one process, where the environment names it."""
    task = tasks.Babi(tasks=(1,))
    monkeypatch.setenv("SAM_DATA_DIR", str(EXCERPT))
    task.sample(1, drawn(0))
    monkeypatch.setenv("SAM_DATA_DIR", str(tmp_path))
    with pytest.raises(babi.DataError, match="got no file"):
        task.sample(1, drawn(0))


def test_a_task_is_its_settings():
    assert dataclasses.replace(TASK, tasks=[8, 4, 8]).tasks == (8, 4)
    assert (TASK.min_level, TASK.max_level, TASK.level_limit) == (1, 19, 19)
    assert TASK.evaluation_levels == (1, 4, 8, 19)
