"""The contract of every backend: an index over rows of a memory that it does not own."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ann_backends import checks
from ann_backends.buffers import copy_changed, lazy_copy, lazy_zeros
from ann_backends.copies import Copied, given
from ann_backends.kernels.jit import kernel
from ann_backends.log import Log, Snapshot, Touched
from ann_backends.metric import METRICS, longest
from ann_backends.uncounted import UNCOUNTED

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
    conformance suite; `reversible`, whether its index is carried across a log and copied to the
    bit, for which it implements the hooks that `Index` names. If not, that is made up for by
    announcing rows anew, at a loss of recall at worst.
    """

    name: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]] = METRICS
    min_recall: ClassVar[float] = 1.0
    reversible: ClassVar[bool] = False

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


class Index(Copied):
    """Finds the rows most similar to a query, in a memory that its owner goes on writing.

    memory: float32 or float64 [B, N, W], C-contiguous, array or CPU tensor. It is viewed, not
    copied: the owner writes rows and announces them with `update`. Each of the B elements has an
    index of its own and answers exactly as it would alone with the same seed.
    findable: "all" indexes every row now (all must be finite); "none" starts empty, and takes no
    memory to speak of until rows are announced. A row that is not findable is never read.
    metric: "cosine" or "l2", as `similarity` defines them.

    Candidates may come from stale structure, but ranking always uses the present rows, so a poor
    index costs recall and nothing else. Rows must be finite when they are announced, and rows and
    queries of a norm that the metric can be computed from: at most 1e150 in double precision, in
    single 1e37 for cosine and 1e18 for l2.

    Bad arguments raise ValueError or TypeError and leave the index as it was.

    Copies: `copy.deepcopy` and pickle give an index over a copy of its own of the memory; what
    holds both the memory and the index, and is copied as a whole, has a copy of both that belong
    together. `copy.copy` gives another index over the same memory. `state_dict` holds an index
    without its memory. Copies of a reversible backend's index (see `Settings`) are equal to the
    bit; others are built anew from the findable rows. What may be assigned, such as `checks`, is
    copied too. `ann_backends.gather` makes an index of elements of others.

    Any number of threads may search at the same time, as long as nothing else is done.

    A backend implements the hooks at the end; `_clear` runs first and makes its arrays. Arguments
    have been checked before a hook sees them. A reversible one implements `_structure`,
    `_counters`, `_carry_entry` and `_element_problem` too, and appends to the entries of
    `self._open_log`, unless that is None, what `_update` and `_remove` change.
    """

    # Names of arrays in `_structure` whose second axis may have any length, zeros at its end.
    growing: ClassVar[frozenset[str]] = frozenset()

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
        self._given = given(memory)
        self.settings = settings
        self.seed = checks.integer("seed", seed, 0, 2**63 - 1)
        checks.choice("metric", metric, settings.metrics)
        checks.choice("findable", findable, FINDABLE)
        self.metric = metric
        self._longest = longest(metric, self.memory.dtype)
        self.batch_size, self.memory_size, self.word_size = self.memory.shape
        self._lazy = findable == "none"
        self._rebuild_every = settings.rebuild_every or self.memory_size
        self._insertions = np.zeros(self.batch_size, np.int64)
        self._rebuilds = 0
        self._open_log: Log | None = None
        self._moment: object = None  # where it stands among its logs; None: not known to them
        self._unlogged = np.empty((self.batch_size, 0), np.int32)
        if findable == "all":
            checks.finite_memory(self.memory, self._longest)
        # bool [B, N], the findable rows of a backend that is not reversible.
        tracked = 0 if settings.reversible else self.memory_size
        self._tracked_rows = self._zeros((self.batch_size, tracked), np.bool_)
        self._clear()
        if findable == "all":
            self._tracked_rows[:] = True
            self._fill()

    def update(self, slots: npt.ArrayLike) -> None:
        """Index anew the rows at `slots`, int64 [B, n] in [-1, N); from now on they are findable.

        -1 is padding and does nothing; duplicates are allowed. An element is rebuilt when it has
        seen `rebuild_every` insertions since it was last built. A row that is not finite, or too
        long, raises ValueError: nothing has been indexed then, and the index is as it was.
        """
        checked = checks.announced(slots, self.memory, self._longest)
        self._begin_change()
        self._note_rows(checked, findable=True)
        self._update(checked)
        if _count_insertions(checked, self._insertions, self._rebuild_every):
            for element in np.flatnonzero(self._insertions >= self._rebuild_every):
                self._rebuild_element(int(element))

    def remove(self, slots: npt.ArrayLike) -> None:
        """Make the rows at `slots`, int64 [B, n] in [-1, N), not findable; -1 is padding."""
        checked = checks.slots(slots, self.memory)
        self._begin_change()
        self._note_rows(checked, findable=False)
        self._remove(checked)

    def search(self, queries: npt.ArrayLike, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k most similar findable rows of each query, best first: (slots, similarity).

        queries: finite, [B, H, W], of the memory's dtype. slots: int64 [B, H, k]; similarity:
        [B, H, k] of the memory's dtype. Where fewer than k rows are findable the tail is -1 with
        similarity -inf.
        """
        checked = checks.queries(queries, self.memory, self._longest)
        k = checks.integer("k", k, 1, self.memory_size)
        shape = (checked.shape[0], checked.shape[1], k)
        slots = np.empty(shape, np.int64)
        similarity = np.empty(shape, self.memory.dtype)
        self._search(checked, slots, similarity)
        return slots, similarity

    def reset(self) -> None:
        """Forget every row: nothing is findable until it is updated again."""
        self._begin_change()
        if self._open_log is not None:
            self._note_reset(self._open_log)
        self._tracked_rows = self._zeros(self._tracked_rows.shape, np.bool_)
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

    def start_log(self) -> Log:
        """Note every change from now on, until `stop_log`, in the log returned; see `carry`."""
        if self._open_log is not None:
            raise RuntimeError("start_log: got an index whose log is open, expected stop_log first")
        counters = [array.copy() for array in self._all_counters()]
        self._moment = self._moment or object()
        self._open_log = Log(self, self.batch_size, counters, self._rebuilds, before=self._moment)
        return self._open_log

    def stop_log(self) -> None:
        """Note nothing more; the log is its owner's alone from now on."""
        log, self._open_log = self._open_log, None
        if log is None:
            raise RuntimeError("stop_log: got an index with no log open, expected start_log first")
        if not self.settings.reversible:
            log.entries = [Touched.joined(log.entries)]
        log.trim()
        self._moment = log.after

    def carry(self, log: Log, *, forward: bool) -> None:
        """Take back all changes of `log`, or with `forward` make those taken back again.

        The owner has put the memory's rows on the other side already. Logs are a stack: the newest
        is taken back first, and the oldest of those taken back made again first; any other order is
        refused, and so is a log after changes that no log knows. It takes time in proportion to the
        changes. A reversible backend's index is then, to the bit, what it was
        there; of another, the rows are findable that were so, announced anew.
        """
        if self._open_log is not None:
            raise RuntimeError("carry: got an index whose log is open, expected stop_log first")
        if log.index is not self:
            raise ValueError("log: got one of another index, expected one that start_log gave")
        if self._moment is not (log.before if forward else log.after):
            wanted = "made again" if forward else "taken back"
            raise ValueError(f"log: got one whose changes are not the next to be {wanted}")
        counters = [array.copy() for array in self._all_counters()]
        for entry in log.entries if forward else reversed(log.entries):
            if isinstance(entry, Snapshot):
                entry.part = self._exchange_element(entry.element, entry.part)
            else:
                self._carry_entry(entry, forward)
        if self.settings.reversible:
            for array, other in zip(self._all_counters(), log.counters, strict=True):
                array[:] = other
            log.counters = counters
            log.rebuilds, self._rebuilds = self._rebuilds, log.rebuilds
        self._moment = log.after if forward else log.before

    def _begin_change(self) -> None:
        if self._open_log is None:
            self._moment = None

    def _rebuild_element(self, element: int) -> None:
        self._begin_change()
        if self._open_log is not None:
            self._note_rebuild(element, self._open_log)
        self._rebuild(element)
        self._insertions[element] = 0
        self._rebuilds += 1

    def _note_rows(self, slots: np.ndarray, findable: bool) -> None:
        """Keep track of which rows are findable, where the backend does not for logs and copies."""
        if self.settings.reversible:
            return
        element, i = np.nonzero(slots >= 0)
        places = element * self.memory_size + slots[element, i]
        known = self._tracked_rows.reshape(-1)
        if self._open_log is not None:
            self._open_log.entries.append(Touched(places, known[places]))
        known[places] = findable

    def _log_chunk(self, numbers: int) -> np.ndarray:
        """Where kernels may note so many numbers per element (`Log.chunk`); [B, 0] for no log."""
        log = self._open_log
        return self._unlogged if log is None else log.chunk(numbers)

    def _note_reset(self, log: Log) -> None:
        if self.settings.reversible:
            for element in range(self.batch_size):
                log.entries.append(Snapshot(element, self._copy_element(element)))
        else:
            places = np.flatnonzero(self._tracked_rows)
            log.entries.append(Touched(places, np.ones(places.size, np.bool_)))

    def _copy_element(self, element: int) -> dict[str, np.ndarray]:
        """Copies of one element's arrays of `_structure`, for a log that sees it rebuilt."""
        copied = lazy_copy if self._lazy else np.copy
        return {name: copied(array[element]) for name, array in self._structure().items()}

    def _exchange_element(self, element: int, part: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Make an element what `part` says; returns what it was."""
        own = self._copy_element(element)
        self._take_element(element, part)
        return own

    def _all_counters(self) -> list[np.ndarray]:
        return [self._insertions, *self._counters()]

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

    # Hooks of reversible backends; what stands here serves the others.

    def _structure(self) -> dict[str, np.ndarray]:
        """All that answers depend on, as arrays [B, ...] by name: the index's own, not copies.

        They may depend on the element's history, on no other element, and not on its number.
        """
        return {"findable": self._tracked_rows}

    def _counters(self) -> list[np.ndarray]:
        """Arrays [B, ...] that are small, or any: a log copies them whole when it starts."""
        return []

    def _take_element(self, element: int, part: dict[str, np.ndarray]) -> None:
        """Make one element what `part` says: arrays of `_structure`, without the leading axis.

        The rows in the memory are those that belong to it, so `_copy_element` may leave out what
        follows from them. A backend whose arrays grow makes room first.
        """
        for name, array in self._structure().items():
            if name in part:
                own, given = array[element : element + 1], np.asarray(part[name])[None]
                if name in self.growing:
                    used = given.shape[1]
                    copy_changed(np.zeros_like(own[:, used:]), own[:, used:])
                    own = own[:, :used]
                copy_changed(given, own)

    def _note_rebuild(self, element: int, log: Log) -> None:
        """Note what the element is now, as it is about to be rebuilt."""
        if self.settings.reversible:
            log.entries.append(Snapshot(element, self._copy_element(element)))

    def _carry_entry(self, entry: Any, forward: bool) -> None:
        """Carry the index across an entry that the backend made; it goes on to serve the way back.

        `_counters` need not be carried: when all entries have been, they are set to what they were.
        """
        self._announce(entry)

    def _element_problem(self, element: int) -> str:
        """What is wrong with an element that came from a file; empty if it is sound.

        Whatever numbers a file holds, no search or change may go astray because of them.
        """
        slots = np.flatnonzero(self._tracked_rows[element])
        finite = np.isfinite(self.memory[element, slots]).all()
        return "" if finite else "NaN or infinite values in a findable row"


@kernel(**UNCOUNTED)
def _count_insertions(slots: np.ndarray, insertions: np.ndarray, rebuild_every: int) -> bool:
    """Add each element's slots (not -1) to `insertions` [B]; whether any element is due."""
    due = False
    for b in range(slots.shape[0]):
        for i in range(slots.shape[1]):
            insertions[b] += slots[b, i] >= 0
        due |= insertions[b] >= rebuild_every
    return due
