"""Minibatches without end: how they resume, are shared out, and follow a curriculum."""

import copy
import io
import itertools
import subprocess
import sys

import pytest
import torch
from torch.utils.data import DataLoader

from sam import tasks
from sam.tasks import Curriculum, Minibatches, Progress

COPY = tasks.Copy(bits=3, min_length=2, max_length=6)
SWIFT = Curriculum(window=3, threshold=0.5)


def take(minibatches, count, losses=0.1):
    """The next episodes; the loss of each is noted before the next is drawn."""
    episodes = []
    for episode in itertools.islice(minibatches, count):
        episodes.append(episode)
        minibatches.note(losses)
    return episodes


def assert_same(episodes, others):
    assert len(episodes) == len(others)
    for episode, other in zip(episodes, others, strict=True):
        assert episode.level == other.level
        for part, other_part in zip(episode[:3], other[:3], strict=True):
            assert torch.equal(part, other_part)


def through_a_file(state):
    """What is left of a state after a checkpoint that cannot run code."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_without_a_curriculum_they_are_the_samples_of_the_task():
    minibatches = Minibatches(COPY, batch_size=4, seed=7)
    generator = torch.Generator().manual_seed(7)
    assert_same(take(minibatches, 20), [COPY.sample(4, generator) for _ in range(20)])
    assert minibatches.progress is None


def test_levels_follow_the_curriculum():
    minibatches = Minibatches(COPY, batch_size=1, seed=0, curriculum=SWIFT)
    generator = torch.Generator().manual_seed(0)
    progress = SWIFT.begin()
    for loss in [0.1] * 7 + [0.9] + [0.1] * 7:
        level = SWIFT.draw(progress, generator)
        (episode,) = take(minibatches, 1, loss)
        assert_same([episode], [COPY.sample(1, generator, level)])
        progress = SWIFT.after(progress, loss)
        assert minibatches.progress == progress
    assert progress.highest == 32


@pytest.mark.parametrize("task", [COPY, tasks.AssociativeRecall(), tasks.PrioritySort()])
@pytest.mark.parametrize("curriculum", [None, SWIFT, Curriculum(window=4, hardest=0.5)])
def test_they_go_on_from_a_checkpoint_to_the_same_bits(task, curriculum):
    unbroken = Minibatches(task, 3, 5, curriculum)
    take(unbroken, 11)
    saved = through_a_file(unbroken.state_dict())
    resumed = Minibatches(task, 3, 99, curriculum)
    take(resumed, 2)
    resumed.load_state_dict(saved)
    assert resumed.progress == unbroken.progress
    assert_same(take(resumed, 9), take(unbroken, 9))
    assert resumed.progress == unbroken.progress


def test_an_iterator_goes_on_from_a_state_that_was_loaded_under_it():
    minibatches = Minibatches(COPY, 3, 5)
    start = minibatches.state_dict()
    episodes = iter(minibatches)
    first = [next(episodes) for _ in range(3)]
    minibatches.load_state_dict(start)
    assert_same([next(episodes) for _ in range(3)], first)


def test_a_state_does_not_change_with_what_it_was_taken_of():
    minibatches = Minibatches(COPY, 3, 5, SWIFT)
    state = minibatches.state_dict()
    kept = copy.deepcopy(state)
    take(minibatches, 5)
    assert torch.equal(state["generator"], kept["generator"])
    assert state["progress"] == kept["progress"] == {"highest": 1, "recent": []}


@pytest.mark.parametrize("curriculum", [None, SWIFT])
@pytest.mark.parametrize("world", [2, 3])
def test_the_shards_together_are_the_whole(curriculum, world):
    whole = take(Minibatches(COPY, 6, 5, curriculum), 9)
    shards = [take(Minibatches(COPY, 6, 5, curriculum, (rank, world)), 9) for rank in range(world)]
    for episode, *parts in zip(whole, *shards, strict=True):
        assert {part.inputs.shape[1] for part in parts} == {6 // world}
        joined = [torch.cat(pieces, dim=1) for pieces in zip(*(p[:3] for p in parts), strict=True)]
        assert_same([episode], [tasks.Episode(*joined, level=parts[0].level)])


def test_a_curriculum_ends_where_the_task_does():
    task = tasks.AssociativeRecall(bits=3, max_pairs=4)
    minibatches = Minibatches(task, 1, 0, Curriculum(window=1))
    levels = {episode.level for episode in take(minibatches, 200, 0.0)}
    assert max(levels) == minibatches.progress.highest == 8
    assert take(Minibatches(task, 1, 0, Curriculum(window=1, end=2)), 99, 0.0)[-1].level <= 2
    with pytest.raises(ValueError, match=r"^curriculum.end: got 9, expected at most 8"):
        Minibatches(task, 1, 0, Curriculum(end=9))
    with pytest.raises(ValueError, match=r"^curriculum.start: got 9, expected at most 8"):
        Minibatches(task, 1, 0, Curriculum(start=9))


def test_a_data_loader_passes_them_on():
    loader = DataLoader(Minibatches(COPY, 3, 5), batch_size=None)
    assert_same(list(itertools.islice(loader, 5)), take(Minibatches(COPY, 3, 5), 5))


WITH_WORKERS = """
from torch.utils.data import DataLoader
from sam.tasks import Copy, Minibatches

minibatches = Minibatches(Copy(), batch_size=3, seed=5)
loader = DataLoader(
    minibatches, batch_size=None, num_workers=2, multiprocessing_context="fork"
)
next(iter(loader))
"""


def test_workers_are_refused_as_they_would_repeat_each_other():
    # In a process of its own, which has no threads yet and so can be forked safely.
    done = subprocess.run(
        [sys.executable, "-c", WITH_WORKERS], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "RuntimeError: num_workers: expected 0" in done.stderr


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size: got 0"),
        ({"batch_size": 5, "shard": (0, 2)}, "batch_size: got 5, expected a multiple of world=2"),
        ({"seed": -1}, "seed: got -1"),
        ({"seed": 1.5}, "seed: got 1.5"),
        ({"seed": True}, "seed: got True"),
        ({"seed": float("nan")}, "seed: got nan"),
        ({"seed": 2**32}, "seed: got 4294967296"),
        ({"shard": (False, 2)}, "rank: got False"),
        ({"shard": (2, 2)}, "rank: got 2"),
        ({"shard": (-1, 2)}, "rank: got -1"),
        ({"shard": (0, 0)}, "world: got 0"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        Minibatches(**{"task": COPY, "batch_size": 4, "seed": 0} | settings)


GENERATOR = torch.Generator().get_state()


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (None, "state: got NoneType"),
        ({"generator": GENERATOR}, r"state: got \['generator'\]"),
        ({"generator": GENERATOR, "progress": None}, r"state\['progress'\]"),
        ({"generator": GENERATOR, "progress": {"highest": 1}}, r"state\['progress'\]"),
        ({"generator": None, "progress": {"highest": 1, "recent": []}}, r"state\['generator'\]"),
        *(
            ({"generator": broken, "progress": {"highest": 2, "recent": []}}, r"state\['generator")
            for broken in (GENERATOR[:-1], GENERATOR.float(), [1, 2])
        ),
        *(
            ({"generator": GENERATOR, "progress": progress}, r"state\['progress'\]")
            for progress in (
                {"highest": 0, "recent": []},
                {"highest": 65, "recent": []},
                {"highest": 2.0, "recent": []},
                {"highest": 2, "recent": ["0.1"]},
                {"highest": 2, "recent": 0.1},
            )
        ),
    ],
)
def test_a_state_that_is_none_is_refused_and_nothing_changes(state, message):
    minibatches = Minibatches(COPY, 3, 5, Curriculum(window=3, threshold=0.5, end=64))
    take(minibatches, 4)
    before = minibatches.state_dict()
    with pytest.raises(ValueError, match=f"^{message}"):
        minibatches.load_state_dict(state)
    assert torch.equal(minibatches.state_dict()["generator"], before["generator"])
    assert minibatches.progress == Progress(2, (0.1,))


def test_progress_is_refused_where_there_is_no_curriculum():
    minibatches = Minibatches(COPY, 3, 5)
    state = Minibatches(COPY, 3, 5, SWIFT).state_dict()
    with pytest.raises(ValueError, match="there is no curriculum"):
        minibatches.load_state_dict(state)
