"""Checks of what an index may not depend on, or hold on to: calls, others of its kind."""

from __future__ import annotations

import numpy as np

from ann_backends.testing.trial import Trial, World, expect, expect_equal

CALLS = 300


def asking_changes_nothing(trial: Trial) -> None:
    """The same question gets the same answer, however often and between whichever others."""
    index = World(trial, trial.random(2, 64, 8)).index
    asked = [trial.random(2, heads, 8) * sign for heads in (1, 5) for sign in (1, -1)]
    answers = [index.search(queries, 6) for queries in asked]
    for call in range(CALLS):
        slots, similarity = index.search(asked[call % 4].copy(), 6)
        before = answers[call % 4]
        same = (slots == before[0]).all() and (similarity == before[1]).all()
        expect(same, f"search {call}: got {slots.tolist()}, before {before[0].tolist()}")


def indexes_share_nothing(trial: Trial) -> None:
    """What happens to one index is not seen in another one of the same settings and shape."""
    memory = trial.random(2, 48, 8)
    one, other = World(trial, memory), World(trial, memory[:, ::-1].copy())
    queries = trial.random(2, 4, 8)
    before = one.search(queries, 4).copy()
    other.write(other.random_slots(20))
    other.remove(other.random_slots(20))
    other.search(queries, 4)
    expect((one.search(queries, 4) == before).all(), "another index's changes changed the answer")
    other.reset()
    expect((one.search(queries, 4) == before).all(), "another index's reset changed the answer")
    counts = one.index.stats()["findable"]
    expect_equal("findable", counts, [48, 48])


def what_is_gone_stays_gone(trial: Trial) -> None:
    """Neither a rebuild nor a later row brings back what was removed or reset; nor does -1."""
    world = World(trial, trial.random(2, 40, 8))
    queries = world.memory[:, :12].copy()
    world.remove(np.array([[0, -1, 5, 5], [-1, -1, -1, -1]]))
    world.rebuild()
    world.search(queries, 40)
    world.reset()
    world.rebuild()
    expect((world.search(queries, 4) == -1).all(), "got slots after a reset and a rebuild")
    world.write(np.array([[7, -1], [-1, -1]]))
    world.rebuild()
    world.search(queries, 4)
    expect_equal("findable", world.index.stats()["findable"], [1, 0])


def bad_rows_are_refused(trial: Trial) -> None:
    """A row of NaN or infinities is refused, with all announced beside it."""
    world = World(trial, trial.random(2, 32, 4))
    world.remove(np.array([[3], [4]]))
    queries = trial.random(2, 6, 4)
    before, stats = world.search(queries, 5), world.index.stats()
    for bad in (np.nan, np.inf, -np.inf):
        held, world.memory[1, 9, 2] = world.memory[1, 9, 2], bad
        refused = False
        try:
            world.index.update(np.array([[3, 5], [4, 9]]))
        except ValueError:
            refused = True
        expect(refused, f"a row with {bad} was accepted, expected a ValueError")
        world.memory[1, 9, 2] = held
        expect_equal("stats after a refused row", world.index.stats(), stats)
        expect((world.search(queries, 5) == before).all(), "a refused row has changed the answers")


def double_precision_decides(trial: Trial) -> None:
    """In double precision, rows that single precision takes for equal are told apart."""
    if trial.dtype != "float64":
        return
    world = World(trial, trial.random(1, 64, 8))
    # Few, as what an index keeps of its rows in short may tell no more of them apart.
    slots = world.random_slots(6)
    # Cosines differ by the square of this, distances by as much.
    apart = 1e-5 if trial.metric == "cosine" else 1e-9
    world.write(slots, 1 + apart * trial.random(1, 6, 8))
    first = world.search(np.take_along_axis(world.memory, slots[..., None], 1), 1)[..., 0]
    expect_equal("first slots for rows just written", first.tolist(), slots.tolist())


CHECKS = (
    asking_changes_nothing,
    indexes_share_nothing,
    what_is_gone_stays_gone,
    bad_rows_are_refused,
    double_precision_decides,
)
