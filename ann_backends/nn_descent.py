"""Nearest-neighbour descent (Dong et al. 2011), by pynndescent: a graph of the rows as they were.

pynndescent's own update takes tens of milliseconds a row. So its graph is a snapshot of the rows
at the last rebuild: rows written since are ranked beside its answers, all of them, and when they
are too many the graph is built anew, in bulk.

It builds on numba's threads. Those of GNU OpenMP end a process that was forked after they had run,
so such a process is told so in time.

pynndescent compiles itself when it is first used in a process, for tens of seconds. `prepare` has
it done; the first index of a process calls it before it builds, so that no build, update or search
is slowed by it.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import time
import warnings
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pynndescent

from ann_backends import checks, ranking
from ann_backends.forked import refuse_threads
from ann_backends.library import LibraryIndex, LibrarySettings, Part, Structure

# Rows that a new graph is not trusted with: it has been seen to miss one in thirty.
RECENT = 256
# A graph is built anew when more rows than this have changed, or one in STALE of all if more.
MOST_CHANGED, STALE = 1024, 8
# The data that `prepare` compiles on: beyond 5,000 rows and 1 MiB pynndescent takes other ways.
PREPARED_SHAPE = (12_000, 32)


@dataclasses.dataclass(frozen=True)
class NNDescent(LibrarySettings):
    """pynndescent's graph as a snapshot, one per batch element, one thread.

    For building, fixed with the index: `n_neighbors`, a row's links.
    For searching, and attributes of the index that may be assigned: `epsilon`, from 0 (fast) to
    about 0.5 (thorough), how far beyond the worst of its answers a search goes on;
    `candidates`, the answers that a search asks for, of which the best k are returned.

    Rows changed since the graph was built are ranked one and all: a search takes the longer the
    more there are. An element is built anew when they are more than 1,024 and an eighth of its
    rows, or by `rebuild_every`.
    """

    name: ClassVar[str] = "nn_descent"
    min_recall: ClassVar[float] = 0.9

    n_neighbors: int = 30
    epsilon: float = 0.1
    candidates: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.integer("n_neighbors", self.n_neighbors, 2, 1000)
        checks.integer("exact_below", self.exact_below, 2 * self.n_neighbors, 2**31)
        checks.integer("candidates", self.candidates, 1, 2**31)
        _checked_epsilon(self.epsilon)

    def build(
        self,
        memory: npt.ArrayLike,
        *,
        seed: int = 0,
        metric: str = "cosine",
        findable: str = "all",
    ) -> NNDescentIndex:
        """An index over `memory`; the arguments are those of `Index`."""
        return NNDescentIndex(self, memory, seed=seed, metric=metric, findable=findable)


@functools.cache
def prepare() -> float:
    """Have pynndescent compile what it compiles, building and searching; the seconds it took.

    Done once in a process: 15 to 70 seconds. Raises RuntimeError in a process that was forked
    after numba's threads had run, if building there would end it.
    """
    log = logging.getLogger("ann_backends")
    log.info("pynndescent compiles itself, once in this process, for about a minute")
    start = time.perf_counter()
    rows = np.random.default_rng(0).standard_normal(PREPARED_SHAPE, np.float32)
    _built(rows, n_neighbors=10, seed=0).query(rows[:1], k=1)
    seconds = time.perf_counter() - start
    log.info("pynndescent is compiled, in %.0f seconds", seconds)
    return seconds


class NNDescentIndex(LibraryIndex):
    """The `Index` that `NNDescent` builds."""

    settings: NNDescent
    recent_rows = RECENT
    _epsilon: float | None = None
    _width: int | None = None

    def __init__(self, settings: NNDescent, memory: npt.ArrayLike, **arguments: Any) -> None:
        self._compile_seconds = prepare()
        super().__init__(settings, memory, **arguments)

    @property
    def epsilon(self) -> float:
        """How thorough a search is; starts as the settings' own, and may be assigned."""
        return self.settings.epsilon if self._epsilon is None else self._epsilon

    @epsilon.setter
    def epsilon(self, value: float) -> None:
        self._epsilon = _checked_epsilon(value)

    @property
    def candidates(self) -> int:
        """Answers asked for; starts as the settings' own, and may be assigned."""
        return self.settings.candidates if self._width is None else self._width

    @candidates.setter
    def candidates(self, value: int) -> None:
        self._width = checks.integer("candidates", value, 1, 2**31)

    def stats(self) -> dict[str, Any]:
        """As `Index.stats`; compile_seconds: what pynndescent took to compile in this process."""
        return super().stats() | {"compile_seconds": self._compile_seconds}

    def _build(self, part: Part) -> Snapshot:
        return Snapshot(self, part)


class Snapshot(Structure):
    """pynndescent's graph of one batch element.

    slots: int32 [n], the slot of each of its points. changed: int32 [m], the slots written since
    and the last before, each once; is_changed: bool [N], whether a slot is among them.
    """

    def __init__(self, index: NNDescentIndex, part: Part) -> None:
        self.index = index
        super().__init__(part)
        self.slots = part.findable().copy()
        self.graph = _built(part.points(self.slots), index.settings.n_neighbors, index.seed)
        self.changed = part.written_last().copy()
        self.is_changed = np.zeros(len(part.words), np.bool_)
        self.is_changed[self.changed] = True

    def update(self, slots: np.ndarray, settled: np.ndarray) -> None:
        new = slots[~self.is_changed[slots]]
        self.is_changed[new] = True
        self.changed = np.concatenate([self.changed, new.astype(np.int32)])

    def remove(self, slots: np.ndarray, changed: np.ndarray) -> None:
        """Nothing to do: slots that are not findable count for nothing."""

    def search(self, points: np.ndarray, number: int) -> np.ndarray:
        number = min(max(number, self.index.candidates), self.slots.size)
        found = self.graph.query_indices(points, k=number, epsilon=self.index.epsilon)
        return ranking.looked_up(self.slots, self.slots.size, found)

    def fresh(self) -> np.ndarray:
        return self.changed

    def nbytes(self) -> int:
        own = self.slots.nbytes + self.changed.nbytes + self.is_changed.nbytes
        return own + _nbytes(vars(self.graph))

    def outworn(self) -> bool:
        return self.changed.size > max(MOST_CHANGED, self.slots.size // STALE)


def _built(points: np.ndarray, n_neighbors: int, seed: int) -> Any:
    """pynndescent's index over points [n, W], ready to be searched.

    Always in its Euclidean metric, which for normalised points has cosine's order: each metric
    would be compiled by itself. Raises RuntimeError where it would end the process.
    """
    refuse_threads("nn_descent")
    with warnings.catch_warnings():
        # Among many equal rows some find no neighbours; they are found by a scan, if at all.
        warnings.filterwarnings("ignore", message="Failed to correctly find n_neighbors")
        graph = pynndescent.NNDescent(
            points,
            metric="euclidean",
            n_neighbors=n_neighbors,
            random_state=seed % 2**32,
            n_jobs=1,
            compressed=True,
        )
        graph.prepare()
    return graph


def _checked_epsilon(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 10:
        raise ValueError(f"epsilon: got {value!r}, expected a number from 0 to about 0.5")
    return float(value)


def _nbytes(value: Any) -> int:
    """Size of the arrays in an attribute of pynndescent's: trees are tuples, graphs are sparse."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, dict):
        return sum(_nbytes(entry) for entry in value.values())
    if isinstance(value, tuple | list):
        return sum(_nbytes(entry) for entry in value)
    if hasattr(value, "indptr"):
        return value.indptr.nbytes + value.indices.nbytes + value.data.nbytes
    return 0
