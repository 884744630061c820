"""Checks of what a search returns. `World.search` verifies every answer; these set the scenes."""

from __future__ import annotations

import numpy as np

from ann_backends.testing.trial import Trial, World, expect, expect_equal


def answers_are_well_formed(trial: Trial) -> None:
    """Any number of heads, any k up to all the rows, words of odd sizes."""
    for memory_size, word_size, num_heads, k in [(40, 8, 1, 1), (40, 5, 3, 4), (9, 19, 6, 9)]:
        world = World(trial, trial.random(2, memory_size, word_size))
        world.search(trial.random(2, num_heads, word_size) + 1, k)


def a_single_row_is_found(trial: Trial) -> None:
    """N = 1: the only row is everyone's nearest."""
    world = World(trial, trial.random(1, 1, 4))
    expect_equal("slots", world.search(trial.random(1, 2, 4), 1).tolist(), [[[0], [0]]])


def an_all_zero_memory_gives_distinct_slots(trial: Trial) -> None:
    """Identical rows are all equally near: k distinct ones come back, with finite similarity."""
    world = World(trial, np.zeros((1, 32, 8), trial.dtype))
    world.search(trial.random(1, 4, 8), 4)
    world.write(np.arange(8, dtype=np.int64)[None], np.zeros((1, 8, 8), trial.dtype))
    world.search(np.zeros((1, 1, 8), trial.dtype), 4)


def a_written_row_is_found_first(trial: Trial) -> None:
    """A query equal to a row just written returns that row first, write after write."""
    world = World(trial, trial.random(2, 64, 16))
    for _ in range(12):
        slots = world.random_slots(6)
        world.write(slots)
        first = world.search(np.take_along_axis(world.memory, slots[..., None], 1), 4)[..., 0]
        expect((first == slots).all(), f"got {first}, expected the rows just written {slots}")


def an_overwritten_row_is_ranked_as_it_is_now(trial: Trial) -> None:
    """The words that a row used to hold no longer lead to it as if they were still there."""
    world = World(trial, trial.random(1, 64, 16))
    slots = world.random_slots(8)
    old = world.memory[0, slots[0]][None]
    world.write(slots, -old)
    first = world.search(old, 4)[..., 0]
    expect((first != slots).all(), f"got {first} for the words that {slots} held before")


def a_removed_row_is_gone(trial: Trial) -> None:
    """Removed rows never come back, not even to a query equal to them, until they are written."""
    world = World(trial, trial.random(2, 48, 16))
    slots = world.random_slots(20)
    world.remove(slots)
    world.remove(slots)
    world.search(np.take_along_axis(world.memory, slots[..., None], 1), 8)
    world.write(slots[:, :5])
    world.search(np.take_along_axis(world.memory, slots[..., None], 1), 8)


def too_few_rows_are_padded(trial: Trial) -> None:
    """With fewer than k rows findable all of them come, then -1; elements may differ in number."""
    world = World(trial, trial.random(2, 32, 8), findable="none")
    queries = trial.random(2, 3, 8)
    for _ in range(5):
        world.write(world.random_slots(1))
        world.search(queries, 6)
    everything = np.tile(np.arange(32, dtype=np.int64), (2, 1))
    world.remove(everything)
    expect((world.search(queries, 2) == -1).all(), "got slots from an index with every row removed")


def nearest_rows_are_recalled(trial: Trial) -> None:
    """Recall@4 on random rows, before and after a stream of writes and removals."""
    world = World(trial, trial.random(2, 512, 16))
    queries = trial.random(2, 64, 16)[..., ::-1]
    before = world.recall(queries, 4)
    for _ in range(64):
        world.write(world.random_slots(20))
        world.remove(world.random_slots(4))
    after = world.recall(queries, 4)
    expect(
        min(before, after) >= trial.min_recall,
        f"recall: got {before:.3f}, then {after:.3f} after writes, expected {trial.min_recall}",
    )


def batch_elements_are_independent(trial: Trial) -> None:
    """Each element of a batch answers as it does alone."""
    memory, queries = trial.random(3, 64, 8), trial.random(3, 4, 8)
    together = World(trial, memory.copy())
    alone = [World(trial, memory[b : b + 1].copy()) for b in range(3)]
    for _ in range(8):
        slots, words = together.random_slots(12), together.rng.standard_normal((3, 12, 8))
        together.write(slots, words)
        batched = together.search(queries, 4)
        for b, world in enumerate(alone):
            world.write(slots[b : b + 1], words[b : b + 1])
            own = world.search(queries[b : b + 1], 4)[0]
            expect((own == batched[b]).all(), f"element {b}: got {batched[b]}, alone {own}")


def the_same_seed_gives_the_same_answers(trial: Trial) -> None:
    """Two runs of the same writes and searches give the same slots."""
    runs = []
    for _ in range(2):
        world = World(trial, trial.random(1, 128, 8))
        for _ in range(12):
            world.write(world.random_slots(16))
        runs.append(world.search(trial.random(1, 16, 8), 4))
    expect((runs[0] == runs[1]).all(), "got different slots from two equal runs")


CHECKS = (
    answers_are_well_formed,
    a_single_row_is_found,
    an_all_zero_memory_gives_distinct_slots,
    a_written_row_is_found_first,
    an_overwritten_row_is_ranked_as_it_is_now,
    a_removed_row_is_gone,
    too_few_rows_are_padded,
    nearest_rows_are_recalled,
    batch_elements_are_independent,
    the_same_seed_gives_the_same_answers,
)
