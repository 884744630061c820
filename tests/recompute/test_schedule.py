"""The schedule makes as few steps again as its budget allows, and stays within it."""

import math

import numpy as np
import pytest

from sam.recompute import schedule as schedules
from sam.recompute.schedule import Units, least_forwards, schedule
from tests.recompute import oracle_schedule as oracle


def follow(plan, steps, budget):
    """Forward steps made and the most units in use, on the way over all steps and back."""
    forwards, most = 0, 0
    pending = [(steps, budget, 0)]
    while pending:
        steps, budget, used = pending.pop()
        for taped, ahead, free in plan.stretches(steps, budget):
            forwards += ahead
            if taped:
                used += ahead * plan.units.step
            else:
                pending.append((ahead, free, used))
                used += plan.units.state
            most = max(most, used)
    return forwards, most


def test_the_oracle_gives_the_published_forwards_per_step():
    # The abstract: 95 % of the memory saved for a third more time, where backward takes 2 forwards.
    internal = oracle.internal_state_memorization(1000, 50)[1000, 50] / 1000
    assert internal == pytest.approx(1.95, abs=0.005)
    assert (internal + 2) / 3 == pytest.approx(1.32, abs=0.005)


def test_hidden_states_alone():
    # One slot is that of the state before the first step, and only the last step is ever taped.
    slots, expected = [2, 5, 10, 20, 50], [29.8, 7.3, 4.6, 3.7, 2.9]
    never = Units(budget=50, state=1, step=51)
    ours = least_forwards(1000, never, alone=np.ones(51, np.float32))
    theirs = oracle.hidden_state_memorization(1000, 50)
    np.testing.assert_array_equal(ours[1:, 1:], theirs[1:, 1:])
    np.testing.assert_allclose(ours[1000, slots] / 1000, expected, atol=0.05)


@pytest.mark.parametrize(("state", "step"), [(1, 1), (1, 2), (2, 3), (1, 5)])
def test_the_recursion(state, step):
    ours = least_forwards(14, Units(20, state, step))
    for t in range(15):
        for m in range(21):
            assert ours[t, m] == oracle.mixed(t, m, state, step)


@pytest.mark.parametrize(("state", "step"), [(1, 1), (1, 2), (2, 3)])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 6])
def test_no_other_schedule_takes_fewer(steps, state, step):
    for budget in range(state + step, 9):
        ours = least_forwards(steps, Units(budget, state, step))[steps, budget]
        assert ours == oracle.fewest_forwards(steps, budget, state, step)


@pytest.mark.parametrize(
    ("steps", "units"),
    [
        (1, Units(5, 2, 3)),
        (200, Units(3, 1, 2)),
        (1000, Units(300, 5, 6)),
        (1000, Units(40, 1, 20)),
        (2500, Units(60, 5, 6)),
        (5000, Units(512, 1, 1)),
    ],
)
def test_following_it_costs_what_it_says_and_stays_within_the_budget(steps, units):
    plan = schedule(steps, units)
    forwards, most = follow(plan, steps, units.budget)
    assert most <= units.budget
    assert steps <= forwards <= plan.forwards
    if steps <= schedules.MAX_STEPS:
        assert forwards == plan.forwards


def test_blocks_cost_little(monkeypatch):
    units = Units(60, 5, 6)
    best = schedule(600, units).forwards
    monkeypatch.setattr(schedules, "MAX_STEPS", 100)
    in_blocks, _ = follow(schedule.__wrapped__(600, units), 600, units.budget)
    assert best < in_blocks < 1.1 * best


def test_with_one_state_all_is_made_again_from_the_start():
    assert schedule(100, Units(3, 1, 2)).forwards == 100 * 101 / 2


def test_what_fits_is_taped_at_once():
    assert schedule(50, Units(50, 1, 1)).stretches(50, 50) == [(True, 50, 50)]


@pytest.mark.parametrize(
    ("budget", "state", "step"),
    [(50.0, 0.83, 1.0), (2.0, 1.0, 1.0), (7.1, 0.02, 1.0), (900.0, 0.3, 1.0), (5e6, 8e5, 9e5)],
)
def test_units_round_so_that_the_budget_holds(budget, state, step):
    units = Units.of(budget, state, step)
    unit = budget / units.budget
    assert units.budget <= schedules.MAX_UNITS or budget < 1.01 * (state + step)
    assert units.state * unit >= state * (1 - 1e-9)
    assert units.step * unit >= step * (1 - 1e-9)
    assert units.budget >= units.state + units.step


def test_a_state_is_rounded_by_little():
    units = Units.of(50.0, 0.83, 1.0)
    assert units.state / units.step == pytest.approx(0.83, rel=0.01)


def test_a_budget_in_which_nothing_works():
    with pytest.raises(ValueError, match=r"budget: got 2.5, expected at least 3.0"):
        Units.of(2.5, 1.0, 2.0)
    assert math.isinf(least_forwards(2, Units(2, 1, 2))[2, 2])
