"""The contract of every backend: an index over rows of a memory that it does not own."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from numba import njit

from ann_backends import checks
from ann_backends.buffers import lazy_zeros
from ann_backends.metric import METRICS

FINDABLE = ("all", "none")
# Rows announced per call when a whole memory is indexed: bounds the temporary list of slots.
FILL_CHUNK = 4096


@dataclasses.dataclass(frozen=True)
class Settings(abc.ABC):
    """A chosen backend with its settings, as a value: `build` makes an index from it.

    rebuild_every: insertions into a batch element after which its index is built anew; None
    means as many as the memory has rows.

    A backend subclasses this with its own fields and says on the class: `name`; the `metrics`
    that it supports; `min_recall`, the recall@k on random rows that its defaults promise to the
    conformance suite.
    """

    name: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]] = METRICS
    min_recall: ClassVar[float] = 1.0

    rebuild_every: int | None = None

    def __post_init__(self) -> None:
        if self.rebuild_every is not None:
            checks.integer("rebuild_every", self.rebuild_every, 1, 2**62)

    @abc.abstractmethod
    def build(
        self,
        memory: npt.ArrayLike,
        *,
        seed: int = 0,
        metric: str = "cosine",
        findable: str = "all",
    ) -> Index:
        """An index over `memory`; the arguments are those of `Index`."""


class Index(abc.ABC):
    """Finds the rows most similar to a query, in a memory that its owner goes on writing.

    memory: float32 or float64 [B, N, W], C-contiguous, array or CPU tensor. It is viewed, not
    copied: the owner writes rows and announces them with `update`. Each of the B elements has an
    index of its own and answers exactly as it would alone with the same seed.
    findable: "all" indexes every row now (all must be finite); "none" starts empty, and takes no
    memory to speak of until rows are announced. A row that is not findable is never read.
    metric: "cosine" or "l2", as `similarity` defines them.

    Candidates may come from stale structure, but ranking always uses the present rows, so a poor
    index costs recall and nothing else. Rows must be finite when they are announced, and for "l2"
    squared distances must fit the precision too.

    Bad arguments raise ValueError or TypeError and leave the index as it was.

    A backend implements the hooks at the end; `_clear` runs first and makes its arrays. Arguments
    have been checked before a hook sees them.
    """

    def __init__(
        self,
        settings: Settings,
        memory: npt.ArrayLike,
        *,
        seed: int = 0,
        metric: str = "cosine",
        findable: str = "all",
    ) -> None:
        self.memory = checks.memory(memory)
        self.settings = settings
        self.seed = checks.integer("seed", seed, 0, 2**63 - 1)
        checks.choice("metric", metric, settings.metrics)
        checks.choice("findable", findable, FINDABLE)
        self.metric = metric
        self.batch_size, self.memory_size, self.word_size = self.memory.shape
        self._lazy = findable == "none"
        self._rebuild_every = settings.rebuild_every or self.memory_size
        self._insertions = np.zeros(self.batch_size, np.int64)
        self._rebuilds = 0
        if findable == "all":
            checks.finite_memory(self.memory)
        self._clear()
        if findable == "all":
            self._fill()

    def update(self, slots: npt.ArrayLike) -> None:
        """Index anew the rows at `slots`, int64 [B, n] in [-1, N); from now on they are findable.

        -1 is padding and does nothing; duplicates are allowed. An element is rebuilt when it has
        seen `rebuild_every` insertions since it was last built.
        """
        checked = checks.slots(slots, self.memory)
        self._update(checked)
        if _count_insertions(checked, self._insertions, self._rebuild_every):
            for element in np.flatnonzero(self._insertions >= self._rebuild_every):
                self._rebuild_element(int(element))

    def remove(self, slots: npt.ArrayLike) -> None:
        """Make the rows at `slots`, int64 [B, n] in [-1, N), not findable; -1 is padding."""
        self._remove(checks.slots(slots, self.memory))

    def search(self, queries: npt.ArrayLike, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k most similar findable rows of each query, best first: (slots, similarity).

        queries: finite, [B, H, W], of the memory's dtype. slots: int64 [B, H, k]; similarity:
        [B, H, k] of the memory's dtype. Where fewer than k rows are findable the tail is -1 with
        similarity -inf.
        """
        checked = checks.queries(queries, self.memory)
        k = checks.integer("k", k, 1, self.memory_size)
        shape = (checked.shape[0], checked.shape[1], k)
        slots = np.empty(shape, np.int64)
        similarity = np.empty(shape, self.memory.dtype)
        self._search(checked, slots, similarity)
        return slots, similarity

    def reset(self) -> None:
        """Forget every row: nothing is findable until it is updated again."""
        self._clear()
        self._insertions[:] = 0

    def rebuild(self) -> None:
        """Build anew from the rows that are findable now."""
        for element in range(self.batch_size):
            self._rebuild_element(element)

    def stats(self) -> dict[str, Any]:
        """What the index is and holds; `findable` and `updates` have one entry per batch element.

        bytes: size of the index's own arrays (the memory is not its own). updates: rows announced
        since the element was last built. rebuilds: elements built anew so far.
        """
        return {
            "name": self.settings.name,
            "metric": self.metric,
            "findable": self._findable().tolist(),
            "updates": self._insertions.tolist(),
            "rebuilds": self._rebuilds,
            "bytes": self._bytes(),
        }

    def _rebuild_element(self, element: int) -> None:
        self._rebuild(element)
        self._insertions[element] = 0
        self._rebuilds += 1

    def _zeros(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> np.ndarray:
        """Zeros for a backend's per-slot arrays; lazily resident when the index starts empty."""
        return lazy_zeros(shape, dtype) if self._lazy else np.zeros(shape, dtype)

    def _fill(self) -> None:
        """Index every row at the start; a backend that builds in bulk overrides this."""
        for first in range(0, self.memory_size, FILL_CHUNK):
            chunk = np.arange(first, min(first + FILL_CHUNK, self.memory_size), dtype=np.int64)
            self._update(np.tile(chunk, (self.batch_size, 1)))

    @abc.abstractmethod
    def _clear(self) -> None:
        """Make (or make anew) the backend's arrays, with no row findable; O(1) resident pages."""

    @abc.abstractmethod
    def _update(self, slots: np.ndarray) -> None:
        """Index the rows at `slots`, int64 [B, n]; skip -1, allow duplicates."""

    @abc.abstractmethod
    def _remove(self, slots: np.ndarray) -> None:
        """Drop the rows at `slots`, int64 [B, n]; skip -1 and what is not findable anyway."""

    @abc.abstractmethod
    def _search(self, queries: np.ndarray, slots: np.ndarray, similarity: np.ndarray) -> None:
        """Fill both outputs [B, H, k], uninitialised as they come, for queries [B, H, W]."""

    @abc.abstractmethod
    def _rebuild(self, element: int) -> None:
        """Build one batch element anew from the rows that are findable in it."""

    @abc.abstractmethod
    def _findable(self) -> np.ndarray:
        """Number of findable rows per batch element: int64 [B]."""

    @abc.abstractmethod
    def _bytes(self) -> int:
        """Size of the backend's own arrays."""


@njit(nogil=True, cache=True)
def _count_insertions(slots: np.ndarray, insertions: np.ndarray, rebuild_every: int) -> bool:
    """Add each element's slots (not -1) to `insertions` [B]; whether any element is due."""
    due = False
    for b in range(slots.shape[0]):
        for i in range(slots.shape[1]):
            insertions[b] += slots[b, i] >= 0
        due |= insertions[b] >= rebuild_every
    return due
