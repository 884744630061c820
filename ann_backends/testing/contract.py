"""Checks of the index as an object: what it views, starts from, counts, forgets and refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from ann_backends.index import Index
from ann_backends.testing.trial import Trial, World, expect, expect_equal


def the_memory_is_a_view(trial: Trial) -> None:
    """The owner's writes are seen, and what could only be copied is refused."""
    memory = trial.random(1, 32, 8)
    world = World(trial, memory)
    shared = np.shares_memory(world.index.memory, memory)
    expect(shared, "got a copy of the memory, expected a view")
    memory[0, 5] = 3.0
    world.update(np.array([[5]]))
    first = world.search(np.full((1, 1, 8), 3.0, trial.dtype), 1)
    expect_equal("slots for a row just written", first.tolist(), [[[5]]])
    for copied in (memory[:, ::2], memory[..., ::-1], memory.astype(np.float16), memory.tolist()):
        _refuses(partial(trial.build, copied), f"a memory that is a {type(copied).__name__}")
    _refuses(partial(trial.build, memory[0]), "a memory of two dimensions")


def an_index_may_start_empty(trial: Trial) -> None:
    """findable="none": rows are read only once announced, whatever they hold until then."""
    memory = np.full((2, 64, 8), np.nan, trial.dtype)
    world = World(trial, memory, findable="none")
    queries = trial.random(2, 2, 8)
    expect((world.search(queries, 4) == -1).all(), "got slots from an empty index")
    for _ in range(6):
        world.write(world.random_slots(2))
        world.search(queries, 4)
    world.rebuild()
    world.search(queries, 4)


def an_index_starting_full_wants_finite_rows(trial: Trial) -> None:
    """findable="all" over a NaN or an infinity is refused."""
    for bad in (np.nan, np.inf):
        memory = trial.random(1, 8, 4)
        memory[0, 7, 3] = bad
        _refuses(partial(trial.build, memory), f"a memory with {bad}")


def padding_and_duplicates_are_harmless(trial: Trial) -> None:
    """-1 does nothing; a slot given twice is one row; so with update, so with remove."""
    world = World(trial, trial.random(1, 16, 8), findable="none")
    for slots, findable in [([3, -1, 3, 7, -1], 2), ([-1, -1], 2), ([3], 2)]:
        world.write(np.array([slots]))
        got = world.index.stats()["findable"]
        expect_equal(f"findable after update({slots})", got, [findable])
        world.search(trial.random(1, 2, 8), 4)
    world.remove(np.array([[7, -1, 7]]))
    world.remove(np.array([[-1, -1]]))
    world.update(np.zeros((1, 0), np.int64))
    found = world.search(trial.random(1, 1, 8), 4)
    expect_equal("slots with one row left", found.tolist(), [[[3, -1, -1, -1]]])


def reset_forgets_everything(trial: Trial) -> None:
    """After reset nothing is found until it is written; then the index works as a new one."""
    for findable in ("all", "none"):
        world = World(trial, trial.random(2, 32, 8), findable)
        world.write(world.random_slots(5))
        world.reset()
        expect((world.search(trial.random(2, 2, 8), 4) == -1).all(), "got slots after reset")
        expect_equal("findable after reset", world.index.stats()["findable"], [0, 0])
        world.write(world.random_slots(6))
        world.search(trial.random(2, 2, 8), 4)


def rebuilding_keeps_the_rows(trial: Trial) -> None:
    """rebuild, and the rebuild that comes by itself, lose no row and bring none back."""
    world = World(trial, trial.random(2, 64, 16))
    world.remove(world.random_slots(10))
    world.rebuild()
    _finds_its_rows(world)
    every = getattr(trial.settings, "rebuild_every", None) or 64
    rebuilds = world.index.stats()["rebuilds"]
    for _ in range(min(every, 640) // 16 + 1):
        world.write(world.random_slots(16))
        _finds_its_rows(world)
    stats = world.index.stats()
    expect(every > 640 or stats["rebuilds"] > rebuilds, f"no rebuild after {every} insertions")
    expect(max(stats["updates"]) < every, f"updates: got {stats['updates']}, expected < {every}")


def stats_tell_the_state(trial: Trial) -> None:
    """stats has at least the agreed entries, and they are true."""
    world = World(trial, trial.random(2, 64, 8))
    world.remove(np.array([[1, 2], [5, 5]]))
    stats = world.index.stats()
    missing = {"name", "metric", "findable", "bytes", "rebuilds", "updates"} - stats.keys()
    expect(not missing, f"stats: expected {sorted(missing)} too")
    expect_equal("findable", stats["findable"], [62, 63])
    expect_equal("metric", stats["metric"], trial.metric)
    expect(stats["bytes"] > 0, f"bytes: got {stats['bytes']}, expected more than 0")


def bad_input_changes_nothing(trial: Trial) -> None:
    """Each bad argument gets a ValueError or TypeError, and the index answers as before."""
    world = World(trial, trial.random(2, 16, 4))
    queries = trial.random(2, 3, 4)
    before, stats = world.search(queries, 3), world.index.stats()
    for what, call in _bad_calls(world.index, queries):
        _refuses(call, what)
        expect_equal(f"stats after {what}", world.index.stats(), stats)
        expect((world.search(queries, 3) == before).all(), f"{what}: the answers have changed")


def bad_choices_are_refused(trial: Trial) -> None:
    """An unknown metric, findable or seed builds nothing."""
    memory = trial.random(1, 4, 4)
    bad: list[dict[str, Any]] = [{"metric": "hamming"}, {"findable": "some"}, {"seed": "x"}]
    for choice in bad:
        _refuses(partial(trial.settings.build, memory, **choice), str(choice))


def _bad_calls(index: Index, queries: np.ndarray) -> Iterator[tuple[str, Callable[[], object]]]:
    nan, infinite = queries.copy(), queries.copy()
    nan[1, 2, 3], infinite[0, 0, 0] = np.nan, -np.inf
    other = np.float64 if queries.dtype == np.float32 else np.float32
    bad_queries = [nan, infinite, queries[:1], queries[..., :3], queries[0], queries.astype(other)]
    for number, bad in enumerate(bad_queries):
        yield f"bad queries {number}", partial(index.search, bad, 3)
    bad_counts: list[Any] = [0, -1, 17, 2.0, True, None]
    for k in bad_counts:
        yield f"k={k}", partial(index.search, queries, k)
    bad_slots: list[Any] = [
        np.array([[0, 16], [0, 0]]),
        np.array([[3, 0], [0, -2]]),
        np.array([[0, 1]]),
        np.array([0, 1]),
        np.array([[0.0], [1.0]]),
        np.array([[0], [1]], np.int32),
        "slots",
    ]
    for slots in bad_slots:
        yield f"update({slots!r})", partial(index.update, slots)
        yield f"remove({slots!r})", partial(index.remove, slots)


def _refuses(call: Callable[[], object], what: str) -> None:
    refused = False
    try:
        call()
    except (ValueError, TypeError):
        refused = True
    expect(refused, f"{what}: was accepted, expected a ValueError or TypeError")


def _finds_its_rows(world: World) -> None:
    """A few findable rows of each element, asked for, come first."""
    slots = np.stack([world.rng.choice(np.flatnonzero(own), 4) for own in world.findable])
    world.search(np.take_along_axis(world.memory, slots[..., None], 1), 4)
    counts = world.index.stats()["findable"]
    expected = world.findable.sum(axis=1).tolist()
    expect_equal("findable", counts, expected)


CHECKS = (
    the_memory_is_a_view,
    an_index_may_start_empty,
    an_index_starting_full_wants_finite_rows,
    padding_and_duplicates_are_harmless,
    reset_forgets_everything,
    rebuilding_keeps_the_rows,
    stats_tell_the_state,
    bad_input_changes_nothing,
    bad_choices_are_refused,
)
