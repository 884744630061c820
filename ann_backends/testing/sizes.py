"""Checks of sizes beyond those that a backend is tried with first: slots, rows, batches, heads."""

from __future__ import annotations

import numpy as np

from ann_backends.buffers import lazy_zeros
from ann_backends.testing.trial import Trial, World, expect, expect_equal

# What a slot has to be told from: numbers of 8, 16 and 24 bits, with and without a sign.
BOUNDS = (2**7, 2**8, 2**10, 2**12, 2**15, 2**16, 2**24)


def any_slot_is_found(trial: Trial) -> None:
    """Rows just written are found at every slot, those beyond 16 and 24 bits too."""
    # The largest memory takes a scan a while, and slots are the same in both precisions.
    bounds = BOUNDS if trial.dtype == "float32" else BOUNDS[:-1]
    memory_size = bounds[-1] + 4
    memory = lazy_zeros((1, memory_size, 2), trial.dtype)
    index = trial.build(memory, findable="none")
    near = [bound + step for bound in bounds for step in (-1, 0, 1)]
    slots = np.array([[0, *near, memory_size - 1]])
    angles = np.arange(slots.size) * (2 * np.pi / slots.size)
    memory[0, slots[0]] = np.stack([np.cos(angles), np.sin(angles)], 1)
    index.update(slots)
    queries = memory[:, slots[0]]
    first = index.search(queries, 1)[0][..., 0]
    expect_equal("first slots for rows just written", first.tolist(), slots.tolist())
    index.remove(slots[:, ::2].copy())
    first = index.search(queries[:, 1::2].copy(), 1)[0][..., 0]
    expect_equal("first slots, others removed", first.tolist(), slots[:, 1::2].tolist())


def rows_of_a_larger_memory_are_recalled(trial: Trial) -> None:
    """Recall of the rows of a memory of some thousand, spread over all of it."""
    memory = trial.random(1, 5000, 8)
    world = World(trial, memory)
    queries = memory[:, 49::50].copy()
    recall = world.recall(queries, 1)
    expect(recall >= trial.min_recall, f"recall@1 of rows: got {recall}, not {trial.min_recall}")


def large_batches_and_many_heads_are_answered(trial: Trial) -> None:
    """Each of 40 elements has its own rows; 70 heads ask for all of 300."""
    world = World(trial, trial.random(40, 24, 4))
    slots = world.random_slots(6)
    world.write(slots)
    first = world.search(np.take_along_axis(world.memory, slots[..., None], 1), 2)[..., 0]
    expect_equal("first slots for rows just written", first.tolist(), slots.tolist())
    world = World(trial, trial.random(1, 300, 130))
    world.search(trial.random(1, 70, 130)[:, ::-1], 300)


CHECKS = (
    any_slot_is_found,
    rows_of_a_larger_memory_are_recalled,
    large_batches_and_many_heads_are_answered,
)
