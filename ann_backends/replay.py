"""What a backend finds, and costs, under what a model in training asked of its index."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator
from itertools import islice
from time import perf_counter_ns
from typing import Any

import numpy as np

from ann_backends import checks, registry
from ann_backends.buffers import lazy_zeros
from ann_backends.exact import Exact
from ann_backends.index import Index, Settings
from ann_backends.recall import recall_of
from ann_backends.trace import Trace

WARM_UP_STEPS = 32


@dataclasses.dataclass(frozen=True, eq=False)
class Replay:
    """What `replay` measured over T steps of B memories with H queries each.

    backend: the settings of the index. k: the rows asked for per query. seed: the index's.
    recall: float64 [T], in [0, 1], mean over the B H queries of a step: the share of the k nearest
    rows (of all, where fewer are findable) that came back. A row as near as the k-th nearest
    counts as one of them. NaN where it was not measured.
    search_us: a search call of H queries, in microseconds per memory, median over the steps.
    update_us: announcing one written row, in microseconds, mean, rebuilds included.
    access_us: a step's update and search, in microseconds per memory, mean, rebuilds included.
    rebuilds: elements that built themselves anew during the steps. bytes: size of the index over
    all B memories at the end. stats: its `Index.stats()` at the end.
    """

    backend: Settings
    k: int
    seed: int
    recall: np.ndarray
    search_us: float
    update_us: float
    access_us: float
    rebuilds: int
    bytes: int
    stats: dict[str, Any]

    @property
    def mean_recall(self) -> float:
        """Recall over the whole trace, in [0, 1]."""
        return float(self.recall.mean())

    def recall_over_time(self, windows: int) -> np.ndarray:
        """Mean recall in each of `windows` parts of the trace, equally long to a step: float64."""
        windows = checks.integer("windows", windows, 1, len(self.recall))
        return np.array([part.mean() for part in np.array_split(self.recall, windows)])


def replay(
    trace: Trace,
    backend: str | Settings,
    *,
    k: int | None = None,
    seed: int = 0,
    recall: bool = True,
    **settings: Any,
) -> Replay:
    """Ask of an index of `backend` what the traced model asked of its own.

    backend: a name, which `settings` may follow, or a settings object, as in `create`.
    k: in [1, N]; None takes the trace's. seed: the index's.

    A memory of its own is written as the trace says. An episode starts with an index of the rows
    findable then: a new one where all are, as for a model that is given a memory, else the old
    one, emptied and built anew. Searches and updates alone are timed, on this thread, after a
    first round over the trace that compiles kernels and, with `recall`, compares each answer with
    that of `exact`; without, the first round is short and `Replay.recall` NaN.

    Raises what `create` raises for `backend` and `settings`; ValueError where the backend does
    not offer the trace's metric, or there is no room for a memory of the trace's size.
    """
    configured = registry.resolve(backend, **settings)
    k = checks.integer("k", trace.k if k is None else k, 1, trace.memory_size)
    if recall:
        found = _recall(trace, configured, k, seed)
    else:
        found = np.full(trace.num_steps, np.nan)
        _warm_up(trace, configured, k, seed)
    return _time(trace, configured, k, seed, found)


class _Stage:
    """A memory [B, N, W] that goes through a trace, and an index over it for each settings object.

    known: bool [B, N], the rows that the indexes may find.
    """

    def __init__(self, trace: Trace, configured: tuple[Settings, ...], seed: int) -> None:
        shape = (trace.batch_size, trace.memory_size, trace.word_size)
        self.trace, self._configured, self._seed = trace, configured, seed
        self.memory, self.known = _memory(shape, trace.queries.dtype)
        self.indexes: list[Index] = []
        self._touched: list[tuple[np.ndarray, np.ndarray]] = []
        self._earlier_rebuilds = 0

    def play(self) -> Iterator[int]:
        """Yield each step once its rows have been written, before the indexes are told."""
        for episode in range(self.trace.num_episodes):
            self._begin(episode)
            for t in self.trace.steps(episode):
                element, place = np.nonzero(self.trace.slots[t] >= 0)
                slot = self.trace.slots[t, element, place]
                self._write(element, slot, self.trace.rows[t, element, place])
                yield t

    def rebuilds(self) -> int:
        """Rebuilds of all indexes during the steps so far, those at the episodes' starts aside."""
        return sum(index.stats()["rebuilds"] for index in self.indexes) + self._earlier_rebuilds

    def _begin(self, episode: int) -> None:
        self._earlier_rebuilds = self.rebuilds()
        for element, slot in self._touched:
            self.memory[element, slot] = 0
            self.known[element, slot] = False
        self._touched = []
        element, slot, rows = self.trace.start(episode)
        self._write(element, slot, rows)
        full = len(slot) == self.known.size
        if full or not self.indexes:
            self.indexes = []  # frees the old ones first
            self.indexes = self._new_indexes("all" if full else "none")
        else:
            for index in self.indexes:
                index.reset()
        if len(slot) and not full:
            announced = _by_element(element, slot, len(self.memory))
            for index in self.indexes:
                index.update(announced)
                index.rebuild()
        self._earlier_rebuilds -= sum(index.stats()["rebuilds"] for index in self.indexes)

    def _new_indexes(self, findable: str) -> list[Index]:
        choices: dict[str, Any] = {"seed": self._seed, "metric": self.trace.metric}
        return [
            registry.create(settings, self.memory, findable=findable, **choices)
            for settings in self._configured
        ]

    def _write(self, element: np.ndarray, slot: np.ndarray, rows: np.ndarray) -> None:
        self.memory[element, slot] = rows
        self.known[element, slot] = True
        self._touched.append((element, slot))


def _memory(shape: tuple[int, int, int], dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Zeros [B, N, W], and [B, N] for rows that are not known; refused if there is no room."""
    try:
        return lazy_zeros(shape, dtype), lazy_zeros(shape[:2], np.bool_)
    except (OSError, OverflowError, MemoryError, ValueError) as error:
        needed = math.prod(shape[:2]) * (shape[2] * dtype.itemsize + 1)
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        raise ValueError(
            f"trace: got memory_size {shape[1]}, {shape[0]} memories of which take {needed} bytes, "
            f"expected what fits; this machine has {there}"
        ) from error


def _by_element(element: np.ndarray, slot: np.ndarray, batch_size: int) -> np.ndarray:
    """Slots listed with their element, ascending, as int64 [B, n] padded with -1."""
    counts = np.bincount(element, minlength=batch_size)
    slots = np.full((batch_size, counts.max()), -1, np.int64)
    first = np.cumsum(counts) - counts
    slots[element, np.arange(len(element)) - first[element]] = slot
    return slots


def _warm_up(trace: Trace, configured: Settings, k: int, seed: int) -> None:
    stage = _Stage(trace, (configured,), seed)
    for t in islice(stage.play(), WARM_UP_STEPS):
        stage.indexes[0].update(trace.slots[t])
        stage.indexes[0].search(trace.queries[t], k)
    stage.indexes[0].rebuild()


def _time(trace: Trace, configured: Settings, k: int, seed: int, recall: np.ndarray) -> Replay:
    stage = _Stage(trace, (configured,), seed)
    updating, searching = (np.empty(trace.num_steps) for _ in range(2))
    for t in stage.play():
        (index,) = stage.indexes
        started = perf_counter_ns()
        index.update(trace.slots[t])
        updated = perf_counter_ns()
        index.search(trace.queries[t], k)
        searched = perf_counter_ns()
        updating[t], searching[t] = (updated - started) / 1e3, (searched - updated) / 1e3
    stats = stage.indexes[0].stats()
    return Replay(
        backend=configured,
        k=k,
        seed=seed,
        recall=recall,
        search_us=float(np.median(searching)) / trace.batch_size,
        update_us=float(updating.sum()) / max(1, int(np.count_nonzero(trace.slots >= 0))),
        access_us=float((updating + searching).mean()) / trace.batch_size,
        rebuilds=stage.rebuilds(),
        bytes=stats["bytes"],
        stats=stats,
    )


def _recall(trace: Trace, configured: Settings, k: int, seed: int) -> np.ndarray:
    """float64 [T]; see `Replay`."""
    stage = _Stage(trace, (configured, Exact()), seed)
    recall = np.empty(trace.num_steps)
    for t in stage.play():
        for index in stage.indexes:
            index.update(trace.slots[t])
        queries = trace.queries[t]
        found, best = (index.search(queries, k)[0] for index in stage.indexes)
        shares = recall_of(found, best, queries, stage.memory, stage.known, trace.metric)
        recall[t] = shares.mean()
    return recall
