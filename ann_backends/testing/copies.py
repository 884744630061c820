"""Checks of copies of an index, and of the way back across a log of its changes."""

from __future__ import annotations

import copy

import numpy as np

from ann_backends.copies import gather
from ann_backends.testing.trial import Trial, World, expect, expect_equal


def a_copy_follows_its_own_memory(trial: Trial) -> None:
    """A deep copy knows the rows of the original, and from then on only what happens to it."""
    world = _lived_in(trial, 2, 64)
    queries = trial.random(2, 4, 8)
    before = world.search(queries, 4)
    other = copy.copy(world)
    other.memory, other.index = copy.deepcopy((world.memory, world.index))
    other.findable, other.rng = world.findable.copy(), copy.deepcopy(world.rng)
    expect(other.index.memory is other.memory, "got an index over another memory than its copy")
    _expect_same(trial, other.search(queries, 4), before, "a deep copy")
    slots = other.random_slots(6)
    other.write(slots)
    other.remove(other.random_slots(3))
    other.write(slots[:, :2])
    words = np.take_along_axis(other.memory, slots[:, :2, None], 1)
    first = other.search(words, 1)[..., 0]
    expect((first == slots[:, :2]).all(), f"got {first} of a copy, expected {slots[:, :2]}")
    expect((world.search(queries, 4) == before).all(), "the original has changed with its copy")


def gathered_elements_know_their_rows(trial: Trial) -> None:
    """Elements picked, repeated and left out are those they were."""
    world = _lived_in(trial, 3, 48)
    picks = [2, -1, 0, 2]
    other = copy.copy(world)
    other.memory = np.ascontiguousarray(world.memory[picks])
    other.findable = world.findable[picks]
    other.findable[1] = False
    sources = [None if pick < 0 else (world.index, pick) for pick in picks]
    other.index = gather(other.memory, sources, world.index)
    counts = other.findable.sum(axis=1).tolist()
    expect_equal("findable after gather", other.index.stats()["findable"], counts)
    queries = trial.random(1, 4, 8)
    found = other.search(np.tile(queries, (4, 1, 1)), 4)
    expected = world.search(np.tile(queries, (3, 1, 1)), 4)[picks]
    expected[1] = -1
    _expect_same(trial, found, expected, "gather")
    other.write(other.random_slots(5))
    other.search(np.tile(queries, (4, 1, 1)), 4)


def a_log_leads_back_and_forth(trial: Trial) -> None:
    """Across a log, either way, those rows are findable that were; what was found is found."""
    world = _lived_in(trial, 2, 64)
    queries = trial.random(2, 4, 8)
    sides = [_side(world, queries)]
    log = world.index.start_log()
    for _ in range(3):
        world.write(world.random_slots(6))
        world.remove(world.random_slots(4))
    world.index.stop_log()
    sides.append(_side(world, queries))
    for forward in (False, True, False):
        memory, world.findable, found = sides[forward]
        world.memory[:] = memory
        world.index.carry(log, forward=forward)
        counts = world.findable.sum(axis=1).tolist()
        expect_equal("findable after carry", world.index.stats()["findable"], counts)
        _expect_same(trial, world.search(queries, 4), found, f"carry(forward={forward})")
    world.write(world.random_slots(5))
    world.search(queries, 4)


def _lived_in(trial: Trial, batch_size: int, memory_size: int) -> World:
    """A world in which some has been written and removed."""
    world = World(trial, trial.random(batch_size, memory_size, 8))
    for _ in range(4):
        world.write(world.random_slots(7))
        world.remove(world.random_slots(3))
    return world


def _side(world: World, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return world.memory.copy(), world.findable.copy(), world.search(queries, 4)


def _expect_same(trial: Trial, got: np.ndarray, expected: np.ndarray, what: str) -> None:
    """The same answers, of a backend that promises them; others are verified as they come."""
    if getattr(trial.settings, "reversible", False):
        expect((got == expected).all(), f"{what}: got {got}, expected {expected} as before")


CHECKS = (
    a_copy_follows_its_own_memory,
    gathered_elements_know_their_rows,
    a_log_leads_back_and_forth,
)
