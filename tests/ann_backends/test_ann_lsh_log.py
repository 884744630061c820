"""An lsh index is a value: carried across logs, copied, put into a file, shared by threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ann_backends import LSH
from ann_backends.log import Log
from ann_backends.lsh import LSHIndex
from ann_backends.lsh_wide import WideLSHIndex
from ann_backends.lsh_wide_tables import CODES, FINDABLE, LANES, LISTED, SIZE, USED

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


def structure(index: LSHIndex | WideLSHIndex) -> dict[str, np.ndarray]:
    """All that may influence an answer; sketches and what only looks like structure left out."""
    own = {name: array.copy() for name, array in index._structure().items()}
    if isinstance(index, WideLSHIndex):
        tables = index._tables
        for b in range(index.batch_size):
            findable, used = tables.state[b, FINDABLE], tables.state[b, USED]
            own["members"][b, findable:] = own["older"][b, used + 1 :] = 0
            own["records"][b, tables.records[b, :, LISTED] == 0] = 0
            own["buckets"][b, tables.buckets[b, :, SIZE] == 0] = 0
            own[f"sketches {b}"] = sketches(index, b)
    return own | {"insertions": index._insertions.copy(), "rebuilds": np.array(index._rebuilds)}


def sketches(index: WideLSHIndex, b: int) -> np.ndarray:
    """The sketch and slot in each place where a row stands: int8 [members, L, (W / 4 + 1) * 4]."""
    tables, number = index._tables, index.settings.tables
    groups = tables.sketches.reshape(index.batch_size, -1, *tables.sketches.shape[1:])[b]
    members = tables.members[b, : tables.state[b, FINDABLE]]
    places = tables.records[b, members, CODES + number :]
    found = groups[places // LANES, :, places % LANES].reshape(*places.shape, groups[0, :, 0].size)
    return np.where(places[..., None] > 0, found, 0)


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


class History:
    """An index, its memory, and what both were before each of the logs, and after the last."""

    def __init__(self, start: str, dtype: str, seed: int, chosen: dict[str, Any]) -> None:
        self.rng = np.random.default_rng(seed)
        self.memory = self.rng.standard_normal((BATCH, ROWS, WORD)).astype(dtype)
        self.queries = self.rng.standard_normal((BATCH, 5, WORD)).astype(dtype)
        self.index = LSH(**chosen).build(self.memory, seed=seed, findable=start)
        self.logs: list[Log] = []
        self.states = [self.state()]

    def state(self) -> tuple[np.ndarray, dict[str, np.ndarray], tuple[np.ndarray, np.ndarray]]:
        answer = self.index.search(self.queries, 7)
        return self.memory.copy(), structure(self.index), answer

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
            assert same(structure(self.index), known)
            found = self.index.search(self.queries, 7)
            assert all(map(np.array_equal, found, answer))
        while at:
            at -= 1
            self.memory[:] = self.states[at][0]
            self.index.carry(self.logs[at], forward=False)
            assert same(structure(self.index), self.states[at][1])
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
