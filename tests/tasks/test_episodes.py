"""The tasks' episodes, by what they must satisfy."""

import math

import pytest
import torch

from sam import tasks

COPY = tasks.Copy()
RECALL = tasks.AssociativeRecall()
SORT = tasks.PrioritySort()
REPEAT = tasks.RepeatCopy()
ALL = [COPY, RECALL, SORT, REPEAT]


def sample(task=COPY, batch_size=5, seed=0, **settings):
    return task.sample(batch_size, torch.Generator().manual_seed(seed), **settings)


def test_copy_asks_for_the_words_it_showed_after_the_delimiter():
    episode = sample(tasks.Copy(bits=3), level=4)
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
    episode = sample(task, level=4, repeats=2)
    assert episode.level == 4
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
    assert drawn == {(length * (1 + repeats) + 3, length) for length, repeats in sizes}


LONGEST = [(COPY, 2 * 20 + 1), (RECALL, 7 * 7), (SORT, 20 + 1 + 16), (REPEAT, 10 * 11 + 3)]


@pytest.mark.parametrize(("task", "steps"), LONGEST)
def test_the_longest_episodes_are_as_long_as_the_task_draws(task, steps):
    episode = task.longest(2, torch.Generator())
    assert len(episode.inputs) == steps
    assert episode.level == task.max_level


@pytest.mark.parametrize("task", ALL)
@pytest.mark.parametrize("level", [1, 2, 50])
def test_levels_that_a_task_does_not_draw_can_be_asked_for(task, level):
    episode = sample(task, level=level)
    assert episode.level == level
    assert episode.inputs.shape == (*episode.mask.shape, task.input_size)
    assert episode.targets.shape == (*episode.mask.shape, task.output_size)
    assert episode.mask.any(0).all()


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
    episode = sample(task, level=pairs)
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
    episode = sample(task, batch_size=3000, level=5)
    shown = [decoded(episode, b, 3) for b in range(3000)]
    keys = [key for values, _, _ in shown for key in values]
    # Of 15,000 keys, 8 kinds; of 3,000 cues, 5 places: within four standard deviations.
    assert all(abs(keys.count(key) - 1875) < 4 * 41 for key in set(keys))
    assert len(set(keys)) == 8
    places = [list(values).index(cue) for values, cue, _ in shown]
    assert all(abs(places.count(place) - 600) < 4 * 22 for place in range(5))
    values = episode.inputs[1:10:2, :, :3]
    assert abs(values.mean() - 0.5) < 4 * 0.5 / math.sqrt(values.numel())


@pytest.mark.parametrize("level", [1, 5, 6, 20, 300])
def test_sort_asks_for_the_keys_in_the_order_of_their_priorities(level):
    bits = 12  # so that keys tell which of them came back
    task = tasks.PrioritySort(bits=bits)
    episode = sample(task, level=level)
    asked = math.ceil(level * 16 / 20)
    assert episode.inputs.shape == (level + 1 + asked, 5, task.input_size)
    for b in range(5):
        shown = episode.inputs[:level, b].tolist()
        highest_first = sorted(shown, key=lambda step: step[bits], reverse=True)
        answers = [step[:bits] for step in highest_first][:asked]
        assert episode.targets[episode.mask[:, b], b].tolist() == answers
    keys, priorities, delimiter = episode.inputs.split([bits, 1, 1], dim=-1)
    assert set(keys[:level].unique().tolist()) == {0.0, 1.0}
    assert not keys[level:].any()
    assert not priorities[level:].any()
    assert delimiter.squeeze(-1).sum(1).tolist() == [0] * level + [5] + [0] * asked
    assert episode.mask.sum(1).tolist() == [0] * (level + 1) + [5] * asked
    assert not episode.targets[: level + 1].any()


def test_sort_answers_equal_priorities_in_the_order_shown(monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda *shape, generator: torch.full(shape, 0.5))
    task = tasks.PrioritySort(bits=16, keys=100, answers=100)
    episode = sample(task)
    assert torch.equal(episode.targets[episode.mask].view(100, 5, 16), episode.inputs[:100, :, :16])


def test_sort_draws_bits_and_priorities_alike():
    inputs = sample(SORT, batch_size=1000).inputs[:20]
    assert abs(inputs[:, :, :8].mean() - 0.5) < 4 * 0.5 / math.sqrt(160_000)
    # Of 20,000 priorities, in ten parts of [-1, 1]: within four standard deviations.
    counts = torch.histc(inputs[:, :, 8], bins=10, min=-1, max=1)
    assert counts.sum() == 20_000
    assert (counts - 2000).abs().max() < 4 * 43


def test_sort_asks_for_16_of_20_keys_and_for_as_large_a_share_of_others():
    assert (SORT.min_level, SORT.max_level) == (20, 20)
    assert [SORT.asked(level) for level in (1, 2, 5, 10, 19, 20, 21)] == [1, 2, 4, 8, 16, 16, 17]
    small = tasks.PrioritySort(keys=5, answers=4)
    assert (small.max_level, small.asked(5)) == (5, 4)
    varied = tasks.PrioritySort(min_keys=2, max_keys=4)
    assert {sample(varied, 1, seed).level for seed in range(60)} == {2, 3, 4}


@pytest.mark.parametrize("task", ALL)
def test_the_seed_decides_the_episode(task):
    first, again, other = sample(task, seed=3), sample(task, seed=3), sample(task, seed=4)
    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(first.targets, again.targets)
    assert first.inputs.shape != other.inputs.shape or not torch.equal(first.inputs, other.inputs)


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


@pytest.mark.parametrize(
    ("settings", "argument"),
    [
        ({"bits": 0}, "bits"),
        ({"keys": 0}, "keys"),
        ({"answers": 0}, "answers"),
        ({"answers": 21}, "answers"),
        ({"min_keys": 21}, "min_keys"),
        ({"max_keys": 19}, "min_keys"),
        ({"max_keys": 2.5}, "max_keys"),
    ],
)
def test_bad_settings_of_priority_sort_are_named(settings, argument):
    with pytest.raises((ValueError, TypeError), match=f"^{argument}: got"):
        tasks.PrioritySort(**settings)


@pytest.mark.parametrize("task", ALL)
def test_a_bad_size_of_a_sample_is_named_and_nothing_is_drawn(task):
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    for level in (0, -1, 2.0, True):
        with pytest.raises((ValueError, TypeError), match=r"^level: got .*at least 1"):
            task.sample(5, generator, level)
    with pytest.raises(ValueError, match=r"^batch_size: got 0"):
        task.sample(0, generator)
    assert torch.equal(generator.get_state(), before)


def test_more_pairs_than_there_are_keys_are_refused():
    assert sample(RECALL, level=RECALL.level_limit).level == 256
    with pytest.raises(ValueError, match=r"^level: got 257, expected at most 256 of .*bits=8"):
        sample(RECALL, level=257)


def test_a_bad_number_of_repeats_is_named():
    with pytest.raises(ValueError, match=r"^repeats: got 0"):
        sample(REPEAT, repeats=0)
