"""The tasks' episodes, by what they must satisfy."""

import math

import pytest
import torch

from sam import tasks

COPY = tasks.Copy()


def sample(task=COPY, batch_size=5, seed=0, **settings):
    return task.sample(batch_size, torch.Generator().manual_seed(seed), **settings)


def test_copy_asks_for_the_words_it_showed_after_the_delimiter():
    episode = sample(tasks.Copy(bits=3), length=4)
    words = episode.inputs[:4, :, :3]
    assert episode.inputs.shape == (9, 5, 4)
    assert torch.equal(episode.targets[episode.mask].view(4, 5, 3), words)
    assert episode.mask.sum(0).tolist() == [4] * 5
    # The delimiter's channel is up in step 4 alone; nothing is shown while answering.
    assert episode.inputs[:, :, 3].sum(1).tolist() == [0, 0, 0, 0, 5, 0, 0, 0, 0]
    assert not episode.inputs[5:].any()
    assert set(words.unique().tolist()) == {0.0, 1.0}


def test_copy_draws_every_length_between_its_bounds_and_no_other():
    task = tasks.Copy(min_length=2, max_length=4)
    assert {sample(task, seed=seed).level for seed in range(60)} == {2, 3, 4}


def test_the_seed_decides_the_episode():
    first, again, other = sample(seed=3), sample(seed=3), sample(seed=4)
    assert torch.equal(first.inputs, again.inputs)
    assert first.inputs.shape != other.inputs.shape or not torch.equal(first.inputs, other.inputs)


def test_scores_of_perfect_ignorant_and_inverted_answers():
    episode = sample(length=6)
    perfect = (episode.targets * 2 - 1) * 50
    assert tasks.wrong_bits(perfect, episode) == 0
    assert tasks.wrong_bits(-perfect, episode) == 1
    assert tasks.loss(perfect, episode) < 1e-12
    assert float(tasks.loss(torch.zeros_like(perfect), episode)) == pytest.approx(math.log(2))


def test_steps_before_the_answer_are_not_scored():
    episode = sample(length=6)
    outputs = (episode.targets * 2 - 1) * 50
    outputs[:7] = torch.randn(7, 5, 8) * 100
    assert tasks.wrong_bits(outputs, episode) == 0
    assert tasks.loss(outputs, episode) < 1e-12


@pytest.mark.parametrize(
    ("settings", "argument"),
    [
        ({"bits": 0}, "bits"),
        ({"min_length": 0}, "min_length"),
        ({"min_length": 5, "max_length": 4}, "min_length"),
        ({"max_length": 2.5}, "max_length"),
    ],
)
def test_bad_settings_are_named(settings, argument):
    with pytest.raises((ValueError, TypeError), match=f"^{argument}: got"):
        tasks.Copy(**settings)


def test_a_bad_length_or_batch_size_is_named():
    with pytest.raises(ValueError, match=r"^length: got 0"):
        sample(length=0)
    with pytest.raises(ValueError, match=r"^batch_size: got 0"):
        sample(batch_size=0)
