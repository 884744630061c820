"""Episodes of Omniglot, on an excerpt of it: 5 characters to train, 1 to validate, 2 to test."""

import dataclasses
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sam.data import omniglot
from sam.data.source import DATA_DIR, DataError
from sam.tasks.omniglot import PIXELS, Omniglot, _warped

EXCERPT = str(Path(__file__).parents[1] / "data" / "omniglot")
TASK = Omniglot(labels=30, max_characters=4, data_dir=EXCERPT)
PLAIN = dataclasses.replace(TASK, max_rotation=0, max_stretch=1)
AVAILABLE = {"training": 20, "validation": 4, "test": 8}  # characters, with their rotations


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(DATA_DIR, raising=False)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def sample(task=PLAIN, batch_size=3, seed=0, level=4):
    return task.sample(batch_size, generator(seed), level)


def held_out(split, task=PLAIN, sequences=3, batch_size=3, seed=0, level=4):
    return list(task.held_out(split, level, sequences, batch_size, generator(seed)))


def images_of(episode):
    """[T, B, 400]"""
    return episode.inputs[:, :, :PIXELS]


def originals(split):
    """The images that may be shown, by a character's name and quarter turns: [20, 400] each."""
    characters = omniglot.load(EXCERPT)
    return {
        (characters.names[member], turns): np.rot90(characters.images[member], turns, (1, 2))
        .reshape(20, PIXELS)
        .astype(np.float32)
        / np.float32(255)
        for member in omniglot.split(characters.names)[split]
        for turns in range(4)
    }


def characters_of(episode, sequence, split):
    """By label, which characters all of its images of one sequence can be."""
    known = originals(split)
    shown: dict[int, set] = {}
    for image, label in zip(
        images_of(episode)[:, sequence].numpy(), episode.targets[:, sequence].tolist(), strict=True
    ):
        fitting = {each for each, drawings in known.items() if (drawings == image).all(1).any()}
        shown[label] = shown.get(label, fitting) & fitting
    return shown


@pytest.mark.parametrize("split", ["training", "validation", "test"])
def test_every_image_is_a_drawing_of_its_character_from_its_set_alone(split):
    episode = sample() if split == "training" else held_out(split)[0]
    others = set(AVAILABLE) - {split}
    for sequence in range(3):
        shown = characters_of(episode, sequence, split)
        assert len(shown) == 4
        assert all(len(fitting) == 1 for fitting in shown.values())
        assert len(set.union(*shown.values())) == 4  # distinct characters
        for other in others:
            assert not any(characters_of(episode, sequence, other).values())


def test_no_character_is_in_two_sets_in_whatever_rotation():
    names = {split: {name for name, _ in originals(split)} for split in AVAILABLE}
    assert {split: 4 * len(each) for split, each in names.items()} == AVAILABLE
    assert sum(map(len, names.values())) == len(set.union(*names.values())) == 8


@pytest.mark.parametrize("split", AVAILABLE)
def test_every_character_of_a_set_is_drawn_in_every_rotation(split):
    task = dataclasses.replace(PLAIN, presentations=2)
    if split == "training":
        episode = task.sample(60, generator(), 4)
    else:
        (episode,) = task.held_out(split, 4, 60, 60, generator())
    shown = [characters_of(episode, sequence, split).values() for sequence in range(60)]
    assert {each for fitting in shown for one in fitting for each in one} == set(originals(split))


def test_every_drawing_of_a_character_is_shown_sometimes():
    episode = sample(batch_size=100, level=4)
    shown = {image.tobytes() for image in images_of(episode).flatten(0, 1).numpy()}
    assert shown == {
        drawing.tobytes() for drawings in originals("training").values() for drawing in drawings
    }


@pytest.mark.parametrize("level", [1, 4])
def test_each_character_is_shown_ten_times_with_a_label_of_its_own(level):
    episode = sample(TASK, level=level)
    assert episode.level == level
    assert episode.inputs.shape == (10 * level, 3, PIXELS + 30)
    assert episode.inputs.dtype == torch.float32
    assert episode.targets.dtype == torch.int64
    assert episode.mask.shape == episode.targets.shape == (10 * level, 3)
    assert episode.mask.all()
    for targets in sample(batch_size=100, level=level).targets.T:
        labels, counts = targets.unique(return_counts=True)
        assert counts.tolist() == [10] * level
        assert labels.min() >= 0
        assert labels.max() < 30
    assert TASK.scored(episode).tolist() == [10 * level] * 3


def test_each_step_shows_the_label_of_the_step_before():
    episode = sample(TASK)
    labels = episode.inputs[:, :, PIXELS:]
    assert not labels[0].any()
    assert torch.equal(labels[1:], torch.nn.functional.one_hot(episode.targets[:-1], 30).float())


def test_labels_and_order_are_drawn_anew_for_each_sequence():
    targets = sample(batch_size=400, level=2).targets
    counts = torch.bincount(targets.flatten(), minlength=30) / 10
    # 800 labels of 30: 26.7 of each, within 5 standard deviations.
    assert (counts - 800 / 30).abs().max() < 5 * math.sqrt(800 / 30)
    # In a fair order of 10 and 10, 9 of the other 19 are the same as a step's next, 19 times.
    same = (targets[1:] == targets[:-1]).double().sum(0)
    assert abs(same.mean() - 9) < 5 * same.std() / 20


def test_a_seed_gives_an_episode_and_another_seed_another():
    first, again, other = (sample(TASK, seed=seed) for seed in (1, 1, 2))
    for part, same in zip(first[:3], again[:3], strict=True):
        assert torch.equal(part, same)
    assert not torch.equal(first.targets, other.targets)
    assert not torch.equal(images_of(first), images_of(other))


def test_without_a_level_levels_are_uniform_between_the_tasks():
    task = dataclasses.replace(PLAIN, min_characters=2)
    assert {task.sample(1, generator(seed)).level for seed in range(40)} == {2, 3, 4}


def bilinear(image, angle, stretch):
    """What is at each place, pixel by pixel: turned back, shrunk, then between four neighbours."""
    size, result = len(image), np.zeros_like(image)
    middle = (size - 1) / 2
    for row, column in np.ndindex(size, size):
        right, up = column - middle, middle - row
        # The place (right, up) before a turn by `angle` counterclockwise.
        before = (
            math.cos(angle) * right + math.sin(angle) * up,
            -math.sin(angle) * right + math.cos(angle) * up,
        )
        x, y = middle + before[0] / stretch[0], middle - before[1] / stretch[1]
        for i in (math.floor(y), math.floor(y) + 1):
            for j in (math.floor(x), math.floor(x) + 1):
                if 0 <= i < size and 0 <= j < size:
                    result[row, column] += (1 - abs(y - i)) * (1 - abs(x - j)) * image[i, j]
    return result


@pytest.mark.parametrize("angle", [0.0, 0.2, -1.0])
@pytest.mark.parametrize("stretch", [(1.0, 1.0), (1.3, 0.8)])
def test_a_rotation_and_a_stretch_are_what_they_say(angle, stretch):
    drawings = omniglot.load(EXCERPT).images[0, :2] / np.float32(255)
    warped = _warped(
        torch.from_numpy(drawings)[None], torch.tensor([angle]), torch.tensor([stretch])
    )
    for image, drawing in zip(warped[0].numpy(), drawings, strict=True):
        assert np.abs(image - bilinear(drawing, angle, stretch)).max() < 1e-4


def test_a_quarter_turn_is_a_rotation_of_the_picture_counterclockwise():
    drawings = torch.from_numpy(omniglot.load(EXCERPT).images[:1, :1] / np.float32(255))
    turned = _warped(drawings, torch.tensor([math.pi / 2]), torch.ones(1, 2))
    assert torch.allclose(turned, drawings.rot90(1, (-2, -1)), atol=1e-4)


def test_the_showings_of_a_character_are_rotated_and_stretched_alike(monkeypatch):
    seen: list[tuple[Tensor, ...]] = []
    monkeypatch.setattr(
        "sam.tasks.omniglot._warped",
        lambda images, angles, stretches: seen.append((images, angles, stretches)) or images,
    )
    sample(dataclasses.replace(TASK, max_rotation=30, max_stretch=1.5), batch_size=200)
    ((images, angles, stretches),) = seen
    assert images.shape == (200 * 4, 10, 20, 20)
    assert angles.shape == (800,)
    assert 29 < angles.rad2deg().abs().max() <= 30
    assert abs(angles.rad2deg().mean()) < 5 * 30 / math.sqrt(3 * 800)
    assert stretches.shape == (800, 2)
    assert 1.48 < stretches.max() <= 1.5
    assert 1 / 1.5 <= stretches.min() < 1 / 1.48
    assert abs(stretches.log().mean()) < 5 * math.log(1.5) / math.sqrt(3 * 1600)
    # Both axes by themselves, and neither with the angle.
    correlations = torch.corrcoef(torch.stack([angles, *stretches.log().T]))
    assert (correlations - torch.eye(3)).abs().max() < 5 / math.sqrt(800)


def test_transformed_pictures_differ_from_the_drawings_and_stay_between_paper_and_ink():
    plain, changed = images_of(sample()), images_of(sample(TASK))
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert not torch.equal(plain, changed)
    # The same drawings, hardly moved: about the same ink.
    assert 0.8 < changed.sum() / plain.sum() < 1.2


def test_held_out_gives_as_many_sequences_as_asked_in_minibatches_that_fit(monkeypatch):
    assert [len(each.targets[0]) for each in held_out("test", sequences=7)] == [3, 3, 1]
    # 40 steps of 430 inputs of 4 bytes are 68,800 bytes.
    monkeypatch.setattr("sam.tasks.omniglot.INPUT_BYTES", 2 * 68_800)
    assert [len(each.targets[0]) for each in held_out("test", sequences=7)] == [2, 2, 2, 1]
    monkeypatch.setattr("sam.tasks.omniglot.INPUT_BYTES", 100)
    assert [len(each.targets[0]) for each in held_out("test", sequences=2)] == [1, 1]


def test_held_out_minibatches_are_fresh_and_repeat_with_the_seed():
    first, second = held_out("validation", sequences=6)
    again = held_out("validation", sequences=6)
    assert not torch.equal(first.inputs, second.inputs)
    assert torch.equal(second.inputs, again[1].inputs)


def test_a_split_that_is_not_held_out_is_refused():
    with pytest.raises(ValueError, match="split: got 'training', expected one of validation, test"):
        held_out("training")


def test_errors_by_presentation_agree_with_counting_step_by_step():
    episode = sample(level=3)
    outputs = torch.randn(30, 3, 30)
    outputs.scatter_(2, episode.targets.unsqueeze(-1), 2.0)  # right at most steps
    expected = torch.zeros(3, 10, dtype=torch.float64)
    for sequence in range(3):
        times: dict[int, int] = {}
        for step in range(30):
            label = int(episode.targets[step, sequence])
            wrong = int(outputs[step, sequence].argmax()) != label
            expected[sequence, times.get(label, 0)] += wrong / 3
            times[label] = times.get(label, 0) + 1
    (name, shares), *rest = TASK.breakdown(outputs, episode).items()
    assert (name, rest) == ("errors_by_presentation", [])
    assert shares.dtype == torch.float64
    assert torch.allclose(shares, expected)
    assert 0 < expected.mean() < 1
    # All showings together are the errors.
    assert torch.allclose(shares.sum(1) * 3, TASK.errors(outputs, episode))


def test_a_model_that_remembers_errs_at_first_showings_alone():
    episode = sample()
    steps, batch = episode.targets.shape
    outputs = torch.zeros(steps, batch, 31)
    for sequence in range(batch):
        for step in range(steps):
            label = episode.targets[step, sequence]
            seen = (episode.targets[:step, sequence] == label).any()
            outputs[step, sequence, label if seen else 30] = 1
    assert TASK.errors(outputs, episode).tolist() == [4] * 3
    by_presentation = TASK.breakdown(outputs, episode)["errors_by_presentation"]
    assert by_presentation.tolist() == [[1.0] + [0.0] * 9] * 3


def test_guessing_among_an_episodes_labels_costs_what_chance_says():
    episode = sample()
    logits = torch.full((40, 3, 30), -torch.inf)
    for sequence in range(3):
        logits[:, sequence, episode.targets[:, sequence].unique()] = 0
    assert TASK.cost(logits, episode).tolist() == pytest.approx([TASK.chance(4)] * 3)
    assert TASK.chance(1) == 0


def test_a_task_is_settings_alone_until_it_is_asked_for_an_episode(tmp_path):
    task = Omniglot(data_dir=str(tmp_path))
    assert (task.input_size, task.output_size) == (912, 512)
    assert (task.min_level, task.max_level) == (1, 12)
    with pytest.raises(DataError, match=r"images_background\.zip"):
        task.prepare()
    sample(TASK)
    assert len(pickle.dumps(TASK)) < 1000


def test_the_limit_of_levels_is_the_smallest_sets_characters_or_the_labels():
    assert TASK.level_limit == AVAILABLE["validation"] == 4
    assert dataclasses.replace(TASK, labels=3, max_characters=3).level_limit == 3
    with pytest.raises(ValueError, match="level: got 5, expected at most 4 of Omniglot"):
        sample(level=5)
    with pytest.raises(ValueError, match="level: got 5, expected at most 4 of Omniglot"):
        held_out("test", level=5)


def test_more_characters_than_there_are_is_an_error_of_the_setting():
    task = dataclasses.replace(TASK, max_characters=5)
    with pytest.raises(ValueError, match="max_characters: got 5, expected at most 4"):
        task.prepare()
    with pytest.raises(ValueError, match="max_characters: got 5, expected at most 4"):
        task.sample(1, generator())


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ({"presentations": 0}, ValueError, "presentations: got 0"),
        ({"labels": 2.0}, TypeError, "labels: got 2.0"),
        ({"min_characters": 13}, ValueError, "min_characters: got 13, .* max_characters=12"),
        ({"labels": 11}, ValueError, "max_characters: got 12, expected at most labels=11"),
        ({"max_rotation": 46}, ValueError, "max_rotation: got 46, expected a number in"),
        ({"max_rotation": math.nan}, ValueError, "max_rotation: got nan"),
        ({"max_stretch": 0.9}, ValueError, "max_stretch: got 0.9, expected a number in"),
        ({"max_stretch": "2"}, TypeError, "max_stretch: got '2', expected a number"),
        ({"data_dir": 3}, TypeError, "data_dir: got 3"),
    ],
)
def test_bad_settings_are_refused(settings, error, match):
    with pytest.raises(error, match=match):
        Omniglot(**settings)
