"""lsh carried across its logs in the settings that models use, in crowds, and at what cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ann_backends import LSH, Log
from ann_backends.lsh_wide_tables import LARGEST
from tests.ann_backends.index_structure import structure_of

BATCH, ROWS, WORD = 2, 400, 6
# The defaults, the README's two, few and many tables, codes of fixed length, frequent rebuilds.
CHOSEN: dict[str, dict[str, Any]] = {
    "defaults": {},
    "training": {"sketch": True, "tables": 1, "bits": 10, "probes": 256, "reach": 0.5},
    "clustered": {"sketch": True, "tables": 1, "probes": 512, "reach": 0.35},
    "one table": {"tables": 1, "rebuild_every": 37},
    "crowded": {"tables": 3, "bits": 2},
    "one bucket": {"tables": 2, "bits": 0, "rebuild_every": 501},
    "wide, many tables": {"sketch": True, "tables": 3, "rebuild_every": 53},
    "wide, one bucket": {"sketch": True, "tables": 2, "bits": 0},
}


class History:
    """An index, its memory, and what both were before each of the logs, and after the last."""

    def __init__(self, start: str, dtype: str, seed: int, chosen: dict[str, Any]) -> None:
        self.rng = np.random.default_rng(seed)
        self.memory = self.rng.standard_normal((BATCH, ROWS, WORD)).astype(dtype)
        self.queries = self.rng.standard_normal((BATCH, 5, WORD)).astype(dtype)
        self.index = LSH(**chosen).build(self.memory, seed=seed, findable=start)
        self.logs: list[Log] = []
        self.states = [self.state()]

    def state(self) -> tuple[np.ndarray, dict[str, Any], tuple[np.ndarray, np.ndarray]]:
        answer = self.index.search(self.queries, 7)
        return self.memory.copy(), structure_of(self.index), answer

    def change(self, operations: int) -> None:
        """Some random operations, most of them updates as a model makes them."""
        rng, index = self.rng, self.index
        for _ in range(operations):
            action = rng.choice(
                ["update", "remove", "rebuild", "duplicates"], p=[0.7, 0.2, 0.01, 0.09]
            )
            slots = rng.integers(-1, ROWS, (BATCH, rng.integers(0, 12)))
            if action == "rebuild":
                index.rebuild()
            elif action == "remove":
                index.remove(slots)
            else:
                slots = np.repeat(slots, 2, axis=1) if action == "duplicates" else slots
                for b, own in enumerate(slots):
                    own = own[own >= 0]
                    words = rng.standard_normal((own.size, WORD)) * rng.choice([1e-3, 1, 1e4])
                    copied = rng.random(own.size) < 0.3  # crowds, with zeros among them
                    words[copied] = self.memory[b, 0] * rng.integers(-1, 2)
                    self.memory[b, own] = words
                index.update(slots)

    def log(self, operations: int) -> None:
        self.logs.append(self.index.start_log())
        self.change(operations)
        self.index.stop_log()
        self.states.append(self.state())

    def walk(self, steps: int) -> None:
        """Go to and fro over the logs, and look whether all is as it was there."""
        at = len(self.logs)
        for _ in range(steps):
            back = at == len(self.logs) or (at > 0 and self.rng.random() < 0.55)
            log, at = (self.logs[at - 1], at - 1) if back else (self.logs[at], at + 1)
            memory, known, answer = self.states[at]
            self.memory[:] = memory
            self.index.carry(log, forward=not back)
            assert structure_of(self.index) == known
            found = self.index.search(self.queries, 7)
            assert all(map(np.array_equal, found, answer))
        while at:
            at -= 1
            self.memory[:] = self.states[at][0]
            self.index.carry(self.logs[at], forward=False)
            assert structure_of(self.index) == self.states[at][1]
        self.logs.clear()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("start", ["all", "none"])
@pytest.mark.parametrize("chosen", CHOSEN.values(), ids=CHOSEN)
def test_changes_are_taken_back_and_made_again_to_the_bit(
    chosen: dict[str, Any], start: str, dtype: str
) -> None:
    history = History(start, dtype, 1, chosen)
    for operations in (0, 1, 40, 200, 3):
        history.log(operations)
    history.walk(30)
    # What is taken back leaves an index to go on with, as if nothing had been.
    history.states = history.states[:1]
    history.log(60)
    history.walk(3)


@pytest.mark.parametrize("tables", [1, 2])
def test_rows_that_a_full_bucket_dropped_come_back(tables: int) -> None:
    """More rows in one bucket than it holds: which are dropped, and come back, is the same."""
    rng = np.random.default_rng(0)
    number = LARGEST + 200
    memory = rng.standard_normal((1, number, WORD)).astype(np.float32)
    index = LSH(sketch=True, tables=tables, bits=0).build(memory)
    queries = rng.standard_normal((1, 3, WORD)).astype(np.float32)
    states, rows, logs = [structure_of(index)], [memory.copy()], []
    answers = [index.search(queries, 9)]
    for _ in range(4):
        logs.append(index.start_log())
        for _ in range(15):
            slots = rng.integers(-1, number, (1, 20))
            index.remove(slots[:, :4])
            memory[0, slots[0, slots[0] >= 0]] = rng.standard_normal(WORD)
            index.update(slots)
        index.stop_log()
        states.append(structure_of(index))
        rows.append(memory.copy())
        answers.append(index.search(queries, 9))
    for goals, forward in ((range(3, -1, -1), False), (range(4), True), (range(3, -1, -1), False)):
        for goal in goals:
            at = goal + forward
            memory[:] = rows[at]
            index.carry(logs[goal], forward=forward)
            assert structure_of(index) == states[at]
            assert all(map(np.array_equal, index.search(queries, 9), answers[at]))


@pytest.mark.parametrize("chosen", CHOSEN.values(), ids=CHOSEN)
def test_a_log_changes_nothing_about_what_happens(chosen: dict[str, Any]) -> None:
    """Codes lengthen at the same moments, in the middle of a call as well."""
    logged, free = (History("none", "float32", 3, chosen) for _ in range(2))
    log = logged.index.start_log()
    every = np.tile(np.arange(ROWS), (BATCH, 1))
    for history in (logged, free):
        history.index.update(every[:, :130].copy())
        history.change(50)
        history.index.update(every)
        history.change(20)
    assert structure_of(logged.index) == structure_of(free.index)
    logged.index.stop_log()
    logged.index.carry(log, forward=False)
    assert logged.index.stats()["findable"] == [0, 0]


@pytest.mark.parametrize("sketch", [False, True])
def test_a_log_is_as_small_as_what_happened(sketch: bool) -> None:
    """An almost empty index of a million rows, whose codes get longer while it is logged."""
    memory = np.zeros((1, 1 << 20, WORD), np.float32)
    index = LSH(sketch=sketch, tables=1).build(memory, findable="none")
    memory[:, :1000] = np.random.default_rng(0).standard_normal((1000, WORD))
    log = index.start_log()
    for first in range(0, 1000, 20):
        index.update(np.arange(first, first + 20)[None])
    index.stop_log()
    assert log.nbytes < 500_000
    index.carry(log, forward=False)
    assert (index.search(memory[:, :1].copy(), 4)[0] == -1).all()
