"""The curriculum, against a slow version that looks back over all losses."""

import statistics
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sam.tasks import Curriculum, Progress


def oracle(losses, *, start, end, threshold, window, growth, increment):
    """The highest level after each loss, told from all losses so far and when it last grew."""
    highest, grown_at, levels = start, 0, []
    for seen in range(1, len(losses) + 1):
        last = losses[max(grown_at, seen - window) : seen]
        if len(last) == window and statistics.fmean(last) < threshold:
            product = highest * Fraction(growth)
            highest = max(-(-product.numerator // product.denominator), highest + increment)
            highest = min(highest, end) if end else highest
            grown_at = seen
        levels.append(highest)
    return levels


@given(
    losses=st.lists(st.floats(0, 1), max_size=60),
    start=st.integers(1, 5),
    further=st.none() | st.integers(0, 40),
    threshold=st.sampled_from([0.01, 0.3, 0.5, 0.9]),
    window=st.integers(1, 8),
    growth=st.sampled_from([1.0, 1.25, 1.5, 2.0, 3.0]),
    increment=st.integers(0, 4),
)
def test_it_goes_on_as_a_slow_oracle_does(losses, start, further, growth, increment, **settings):
    settings |= {"start": start, "end": None if further is None else start + further}
    settings |= {"growth": growth, "increment": increment or int(growth == 1)}
    curriculum = Curriculum(**settings)
    progress, levels = curriculum.begin(), []
    assert progress == Progress(start, ())
    for loss in losses:
        progress = curriculum.after(progress, loss)
        levels.append(progress.highest)
    assert levels == oracle(losses, **settings)
    assert progress.recent == tuple(losses[len(losses) - len(progress.recent) :])


def levels_after(curriculum, losses):
    progress = curriculum.begin()
    levels = [progress.highest]
    for loss in losses:
        progress = curriculum.after(progress, loss)
        levels.append(progress.highest)
    return levels


def test_by_default_it_doubles_after_100_minibatches_below_a_hundredth_of_a_nat():
    levels = levels_after(Curriculum(), [0.0099] * 300)
    assert levels == [1] * 100 + [2] * 100 + [4] * 100 + [8]
    assert set(levels_after(Curriculum(), [0.01] * 300)) == {1}


def test_the_window_slides_until_the_level_grows_and_starts_anew_then():
    curriculum = Curriculum(window=3, threshold=1.0)
    # The mean of 6 and twice 0 is 2; of three times 0 it is 0. Those three count once.
    assert levels_after(curriculum, [6, 0, 0, 0, 0, 0, 6, 0, 0, 0]) == [1] * 4 + [2] * 6 + [4]


def test_it_ends_where_it_is_told_to_and_may_grow_one_by_one():
    easy = [0.0] * 6
    assert levels_after(Curriculum(window=1, start=3, end=13), easy) == [3, 6, 12] + [13] * 4
    one_by_one = Curriculum(window=1, growth=1, increment=1, end=4)
    assert levels_after(one_by_one, easy) == [1, 2, 3, 4, 4, 4, 4]
    at_least = Curriculum(window=1, growth=1.5, increment=3)
    assert levels_after(at_least, easy) == [1, 4, 7, 11, 17, 26, 39]


def test_a_loss_that_is_no_number_does_not_make_it_go_on():
    assert set(levels_after(Curriculum(window=2), [float("nan"), 0.0] * 9)) == {1}


def counts(curriculum, highest, draws=6000):
    generator = torch.Generator().manual_seed(0)
    levels = [curriculum.draw(Progress(highest), generator) for _ in range(draws)]
    return [levels.count(level) for level in range(highest + 2)]


def test_levels_are_uniform_from_0_on_and_0_is_1():
    zero, one, *others, beyond = counts(Curriculum(), highest=5)
    assert (zero, beyond) == (0, 0)
    # Of 6,000 draws of six levels: within four standard deviations, of 1,000 and of 2,000.
    assert abs(one - 2000) < 4 * 37
    assert all(abs(count - 1000) < 4 * 29 for count in others)
    assert counts(Curriculum(), highest=1) == [0, 6000, 0]


def test_no_level_is_below_the_least():
    drawn = counts(Curriculum(start=3, least=3), highest=5)
    assert drawn[:3] == [0, 0, 0]
    assert abs(drawn[3] - 4000) < 4 * 37
    assert abs(drawn[5] - 1000) < 4 * 29


def test_a_share_of_the_minibatches_has_the_highest_level():
    _, one, two, three, _ = counts(Curriculum(hardest=0.5), highest=3)
    # Half of them, and a quarter of the other half.
    assert abs(three - 6000 * 5 / 8) < 4 * 38
    assert abs(two - 6000 / 8) < 4 * 26
    assert abs(one - 6000 / 4) < 4 * 34
    assert counts(Curriculum(hardest=1), highest=3) == [0, 0, 0, 6000, 0]


@pytest.mark.parametrize(
    ("settings", "argument"),
    [
        ({"start": 0}, "start"),
        ({"start": 1.5}, "start"),
        ({"least": 0}, "least"),
        ({"start": 2, "least": 3}, "start"),
        ({"end": 0}, "end"),
        ({"start": 5, "end": 4}, "end"),
        ({"threshold": 0}, "threshold"),
        ({"threshold": float("nan")}, "threshold"),
        ({"threshold": "0.1"}, "threshold"),
        ({"window": 0}, "window"),
        ({"growth": 0.5}, "growth"),
        ({"growth": 1}, "growth"),
        ({"growth": float("inf")}, "growth"),
        ({"growth": True}, "growth"),
        ({"increment": -1}, "increment"),
        ({"increment": 0.5}, "increment"),
        ({"hardest": 1.1}, "hardest"),
        ({"hardest": -0.1}, "hardest"),
    ],
)
def test_bad_settings_are_named(settings, argument):
    with pytest.raises((ValueError, TypeError), match=f"^{argument}: got .* expected"):
        Curriculum(**settings)
