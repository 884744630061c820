"""The tasks' episodes, by what they must satisfy."""

import math

import pytest
import torch

from sam import tasks

COPY = tasks.Copy()
RECALL = tasks.AssociativeRecall()
REPEAT = tasks.RepeatCopy()


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


def test_repeat_copy_asks_for_the_words_so_many_times_and_an_end_mark():
    task = tasks.RepeatCopy(bits=3, max_repeats=5)
    episode = sample(task, length=4, repeats=2)
    assert episode.level == 8
    assert episode.inputs.shape == (4 * 3 + 3, 5, task.input_size)
    assert episode.targets.shape == (4 * 3 + 3, 5, task.output_size)
    words = episode.inputs[1:5, :, :3]
    assert set(words.unique().tolist()) == {0.0, 1.0}
    # The start mark is up in step 0, the number of repeats in step 5; nothing is shown after it.
    start, repeats = episode.inputs[:, :, 3:].unbind(-1)
    assert start.sum(1).tolist() == [5] + [0] * 14
    assert torch.equal(repeats[5], torch.full((5,), 2 / 5))
    assert not repeats[[*range(5), *range(6, 15)]].any()
    assert not episode.inputs[[0, *range(5, 15)], :, :3].any()
    assert episode.mask.all(1).tolist() == episode.mask.any(1).tolist() == [False] * 6 + [True] * 9
    assert not episode.targets[:6].any()
    assert torch.equal(episode.targets[6:14, :, :3], torch.cat([words, words]))
    assert episode.targets[:, :, 3].sum(1).tolist() == [0] * 14 + [5]
    assert not episode.targets[14, :, :3].any()


def test_repeat_copy_draws_every_length_with_every_number_of_repeats_and_no_other():
    task = tasks.RepeatCopy(min_length=2, max_length=3, min_repeats=3, max_repeats=5)
    drawn = {(len(sample(task, 1, seed).inputs), sample(task, 1, seed).level) for seed in range(99)}
    sizes = {(length, repeats) for length in (2, 3) for repeats in (3, 4, 5)}
    assert drawn == {(length * (1 + repeats) + 3, length * repeats) for length, repeats in sizes}


@pytest.mark.parametrize(("task", "steps"), [(COPY, 2 * 20 + 1), (REPEAT, 10 * 11 + 3)])
def test_the_longest_episodes_are_as_long_as_the_task_allows(task, steps):
    assert len(task.longest(2, torch.Generator()).inputs) == steps


def decoded(episode, b, bits):
    """What element b is shown and asked, told from the marks alone: {key: value}, cue, answer."""
    pairs, cues, answer = [], [], []
    inputs, targets, mask = (part[:, b] for part in episode[:3])
    for shown, target, scored in zip(inputs.tolist(), targets.tolist(), mask.tolist(), strict=True):
        word, (is_key, is_value, is_cue) = tuple(shown[:bits]), shown[bits:]
        if scored:
            assert not any(shown)
            answer.append(tuple(target))
            continue
        assert [is_key, is_value, is_cue].count(1) == 1
        assert not any(target)
        assert not answer
        if is_cue:
            cues.append(word)
        else:
            assert not cues
            if is_key:
                pairs.append((word, []))
            else:
                pairs[-1][1].append(word)
    assert len(dict(pairs)) == len(pairs)
    (cue,) = cues
    return dict(pairs), cue, answer


@pytest.mark.parametrize(
    ("settings", "pairs"), [({}, 3), ({}, 6), ({"bits": 2, "max_pairs": 4}, 4), ({}, 256)]
)
@pytest.mark.parametrize("value_steps", [6, 1])
def test_recall_asks_for_the_value_that_followed_the_cue(settings, pairs, value_steps):
    task = tasks.AssociativeRecall(value_steps=value_steps, **settings)
    episode = sample(task, pairs=pairs)
    assert episode.level == pairs
    assert episode.inputs.shape == ((pairs + 1) * (1 + value_steps), 5, task.input_size)
    assert episode.targets.shape == (len(episode.inputs), 5, task.output_size)
    for b in range(5):
        values, cue, answer = decoded(episode, b, task.bits)
        assert len(values) == pairs
        assert {len(value) for value in values.values()} == {value_steps}
        assert answer == values[cue]
    assert set(episode.inputs.unique().tolist()) == {0.0, 1.0}


def test_recall_scores_the_48_bits_of_the_value_by_default():
    episode = sample(RECALL, batch_size=1)
    assert episode.targets[episode.mask].numel() == 48


def test_recall_draws_every_number_of_pairs_alike_and_no_other():
    counts = [sample(RECALL, 1, seed).level for seed in range(400)]
    assert set(counts) == {3, 4, 5, 6}
    # Three standard deviations of a count with expectation 100 are 26.
    assert all(74 < counts.count(pairs) < 126 for pairs in (3, 4, 5, 6))


def test_recall_draws_bits_and_cues_alike():
    task = tasks.AssociativeRecall(bits=3, value_steps=1)
    episode = sample(task, batch_size=3000, pairs=5)
    shown = [decoded(episode, b, 3) for b in range(3000)]
    keys = [key for values, _, _ in shown for key in values]
    # Of 15,000 keys, 8 kinds; of 3,000 cues, 5 places: within four standard deviations.
    assert all(abs(keys.count(key) - 1875) < 4 * 41 for key in set(keys))
    assert len(set(keys)) == 8
    places = [list(values).index(cue) for values, cue, _ in shown]
    assert all(abs(places.count(place) - 600) < 4 * 22 for place in range(5))
    values = episode.inputs[1:10:2, :, :3]
    assert abs(values.mean() - 0.5) < 4 * 0.5 / math.sqrt(values.numel())


@pytest.mark.parametrize("task", [COPY, RECALL, REPEAT])
def test_the_seed_decides_the_episode(task):
    first, again, other = sample(task, seed=3), sample(task, seed=3), sample(task, seed=4)
    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(first.targets, again.targets)
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


@pytest.mark.parametrize(
    ("settings", "argument"),
    [
        ({"bits": 0}, "bits"),
        ({"bits": 63}, "bits"),
        ({"bits": 2}, "max_pairs"),
        ({"value_steps": 0}, "value_steps"),
        ({"min_pairs": 0}, "min_pairs"),
        ({"min_pairs": 7}, "min_pairs"),
        ({"max_pairs": 257}, "max_pairs"),
        ({"max_pairs": 4.0}, "max_pairs"),
    ],
)
def test_bad_settings_of_recall_are_named(settings, argument):
    with pytest.raises((ValueError, TypeError), match=f"^{argument}: got"):
        tasks.AssociativeRecall(**settings)


@pytest.mark.parametrize(
    ("settings", "argument"),
    [
        ({"bits": 0}, "bits"),
        ({"min_length": 0}, "min_length"),
        ({"min_length": 11}, "min_length"),
        ({"min_repeats": 0}, "min_repeats"),
        ({"min_repeats": 11}, "min_repeats"),
        ({"max_repeats": 2.5}, "max_repeats"),
    ],
)
def test_bad_settings_of_repeat_copy_are_named(settings, argument):
    with pytest.raises((ValueError, TypeError), match=f"^{argument}: got"):
        tasks.RepeatCopy(**settings)


@pytest.mark.parametrize("pairs", [0, 257])
def test_a_bad_number_of_pairs_is_named(pairs):
    with pytest.raises(ValueError, match=f"^pairs: got {pairs}"):
        sample(RECALL, pairs=pairs)


def test_a_bad_size_of_a_sample_is_named():
    with pytest.raises(ValueError, match=r"^length: got 0"):
        sample(length=0)
    with pytest.raises(ValueError, match=r"^repeats: got 0"):
        sample(REPEAT, repeats=0)
    with pytest.raises(ValueError, match=r"^batch_size: got 0"):
        sample(batch_size=0)
