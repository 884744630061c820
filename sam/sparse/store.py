"""Memories that change in place, yet whose every state is a value.

A `Store` owns what changes: the rows of B memories, their usage rings, their temporal links, and
the index over them. A `Version` names their content at one moment. The store stands at one version.
Every other version points to its neighbour on the way there, with the journal between the two (the
persistent arrays of Baker 1991, "Shallow binding makes functional arrays fast"). So the store can
go back to an old version, and a version that nobody refers to is freed together with its journal.

Who keeps whom alive: versions keep the store, the store keeps no version. Every version leads to
the one the store stands at, so that one lives as long as any. With the last version goes the
memory, at once.

Threads, copies and backward passes need no care from the caller:

* `Store.lock` is held wherever the store is moved or read. Each user first takes the store to the
  version that it needs, so whatever another thread, or a call in the middle of a backward pass, did
  in between does not matter.
* A backward pass rolls only the rows back. What it knows of dL/dM lives in a `_BackwardPass` of its
  own, which goes with autograd's graph task, whether that ends well or not.
* A move that is interrupted half-way, at whatever moment, leaves the store undefined; later uses
  say so. So does a use in the middle of another one, as by a signal's handler.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch

import ann_backends
from sam.sparse import after_fork, ring
from sam.sparse.gradient import SparseGradient
from sam.sparse.journal import Journal
from sam.sparse.links import Links

MakeIndex = Callable[[np.ndarray, str], ann_backends.Index]
Carry = Callable[[Journal, bool], None]  # across a journal, forward in time or not


@dataclasses.dataclass(eq=False)
class Version:
    """The content of a store between two passes.

    A deep copy, or a pickled one, is the first version of a store of its own.

    time: how many passes lie before it. towards: the journal to, and the version of, the neighbour
    in whose direction the store's rows stand; None if they stand here.
    """

    store: Store
    time: int = 0
    towards: tuple[Journal, Version] | None = None

    def copy(self) -> Version:
        """The first version of a new store with the same content."""
        return gather([self], [(0, b) for b in range(len(self.store.memory))])

    def __deepcopy__(self, memo: dict[int, Any]) -> Version:
        return self.copy()

    def __reduce__(self) -> tuple[Any, ...]:
        # Of a copy, as the arrays are written out later, when the store may stand elsewhere.
        return restore, (self.copy().store.content(),)


class _BackwardPass:
    """dL/dM at the versions of one store that one backward pass of autograd has met so far.

    Kept alive by the callback that autograd's graph task holds, so it also ends with a failed task.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.gradients: dict[Version, SparseGradient] = {}

    def end(self) -> None:
        self.gradients.clear()
        with self.store.lock:
            if self.store.defined:
                self.store.settle()


class Store:
    """B memories of N words of W numbers, with their usage rings and the index over them.

    memory: [B, N, W]. written: bool [B, N], the rows that were given or ever written: those that
    the index knows. num_written: int64 [B]. usage_ring: int32 [B, N, 2] and heads: int64 [B], see
    `ring`. links: what was written after what, None where the model keeps no links.
    lock: hold it while using any of these, by `held` or `standing_at`.

    `empty`, `full`, `gather` and `restore` make a store and return its first `Version`.
    """

    def __init__(
        self,
        memory: np.ndarray,
        written: np.ndarray,
        usage_ring: np.ndarray,
        heads: np.ndarray,
        index: ann_backends.Index,
        links: Links | None,
    ) -> None:
        self.memory = memory
        self.written = written
        self.num_written = np.count_nonzero(written, axis=1).astype(np.int64)
        self.ring = usage_ring
        self.heads = heads
        self.index = index
        self.links = links
        self.lock = threading.RLock()
        after_fork.add(self)
        self._returns_to: Version | None = None  # where the rest stands, while the rows do not
        self._backward_passes: weakref.WeakValueDictionary[int, _BackwardPass] = (
            weakref.WeakValueDictionary()
        )
        self._held = False  # by a use under way
        self._divided = False  # some of it has been moved, the rest not yet
        self._failure: BaseException | None = None  # what left it so, if that is known

    def free(self) -> None:
        """Let go, in a forked child, of what a thread held that is not there."""
        self.lock, self._held = threading.RLock(), False

    def first_version(self) -> Version:
        version = Version(self)
        self.rows_at = self.stands_at = version
        return version

    def content(self) -> dict[str, Any]:
        """What `restore` makes an equal store from."""
        return {
            "memory": self.memory,
            "written": self.written,
            "usage_ring": self.ring,
            "heads": self.heads,
            "index": self.index,
            "links": self.links,
        }

    @property
    def stands_at(self) -> Version:
        """Where everything stands, except for rows that a backward pass has rolled back."""
        return _alive(self._stands_at)

    @stands_at.setter
    def stands_at(self, version: Version) -> None:
        self._stands_at = weakref.ref(version)

    @property
    def rows_at(self) -> Version:
        """Where the rows stand."""
        return _alive(self._rows_at)

    @rows_at.setter
    def rows_at(self, version: Version) -> None:
        self._rows_at = weakref.ref(version)

    @contextlib.contextmanager
    def standing_at(self, version: Version) -> Iterator[Store]:
        """Hold the store, with everything at `version`.

        Takes time proportional to the steps in between.
        """
        with self.held():
            self.settle()
            self._walk_to(version, self._carry)
            yield self

    @contextlib.contextmanager
    def held(self) -> Iterator[Store]:
        """Hold the store, for one use alone. Raises RuntimeError if it is not defined."""
        with self.lock:
            self._check_defined()
            try:
                self._held = True
                yield self
            finally:
                self._held = False

    def start_log(self) -> ann_backends.Log:
        """Begin the steps that `advance` or `abandon` ends; returns the log of the index."""
        self._divided = True
        return self.index.start_log()

    def advance(self, journal: Journal) -> Version:
        """The version after the steps of `journal`, which the caller has just made."""
        before, after = self.stands_at, Version(self, self.stands_at.time + 1)
        before.towards = (journal, after)
        self.rows_at = self.stands_at = after
        self._divided = False
        return after

    def abandon(self, journal: Journal) -> None:
        """Take back those steps of `journal` that were made before a failure."""
        # The caller raises the failure that led here, rather than one of this.
        with contextlib.suppress(BaseException), self._undivided():
            self._carry(journal, forward=False)

    def begin_backward(self, version: Version) -> SparseGradient:
        """Roll the rows alone to `version`; returns what later passes gave as its dL/dM.

        The rows return when the backward pass of autograd, of which this is a part, has ended.
        """
        gradient = self._backward_pass().gradients.pop(version, None)
        self._walk_rows_to(version, self._carry_rows)
        return gradient or SparseGradient(self.memory.shape, self.memory.dtype)

    @contextlib.contextmanager
    def rolling_back_to(self, version: Version, give_up: Callable[[], None]) -> Iterator[None]:
        """For the block in which the caller rolls the rows back to `version`.

        give_up: puts the rows back to where they stood, after a failure.
        """
        self._divided = True
        try:
            yield
        except BaseException:
            give_up()
            self._divided = False
            raise
        self._walk_rows_to(version, _already_carried)
        self._divided = False

    def add_gradient(self, version: Version, gradient: SparseGradient) -> None:
        """Add to dL/dM at `version`, in the backward pass under way."""
        gradients = self._backward_pass().gradients
        if version in gradients:
            gradients[version].add(gradient)
        else:
            gradients[version] = gradient

    def settle(self) -> None:
        """Bring the rows to where the rest stands."""
        if self._returns_to is not None:
            self._walk_rows_to(self.stands_at, self._carry_rows)

    def _backward_pass(self) -> _BackwardPass:
        """That of the backward pass of autograd which is under way in this thread."""
        task = torch._C._current_graph_task_id()
        backward_pass = self._backward_passes.get(task)
        if backward_pass is None:
            backward_pass = self._backward_passes[task] = _BackwardPass(self)
            torch.autograd.Variable._execution_engine.queue_callback(backward_pass.end)
        return backward_pass

    def _walk_rows_to(self, version: Version, carry: Carry) -> None:
        """As `_walk_to`, of the rows alone."""
        if version is self.rows_at:
            return
        # Set before they leave: the version that the rest stands at may have no other owner.
        self._returns_to = self.stands_at
        self._walk_to(version, carry, rows_alone=True)
        if version is self._returns_to:
            self._returns_to = None

    def _walk_to(self, version: Version, carry: Carry, *, rows_alone: bool = False) -> None:
        """Go from journal to journal to `version`; `carry` across each, forward in time or not."""
        path = [version]
        while path[-1].towards is not None:
            path.append(path[-1].towards[1])
        if len(path) == 1:
            return
        with self._undivided():
            for here, there in pairwise(reversed(path)):
                assert there.towards is not None
                journal, _ = there.towards
                carry(journal, there.time > here.time)
                here.towards, there.towards = (journal, there), None
                self.rows_at = there
                if not rows_alone:
                    self.stands_at = there

    def _carry_rows(self, journal: Journal, forward: bool) -> None:
        journal.carry_rows(self.memory, forward)

    def _carry(self, journal: Journal, forward: bool) -> None:
        """Carry rows, rings, links and index across a journal."""
        self._carry_rows(journal, forward)
        if forward:
            ring.redo(self.ring, self.heads, journal.moved)
        else:
            ring.undo(self.ring, self.heads, journal.moved, journal.followed_by)
        if self.links is not None and journal.links is not None:
            self.links.carry(journal.links, forward=forward)
        t, b, i = np.nonzero(journal.fresh)
        self.written[b, journal.slots[t, b, i]] = forward
        self.num_written += np.bincount(b, minlength=len(self.heads)) * (1 if forward else -1)
        self.index.carry(journal.index, forward=forward)

    @contextlib.contextmanager
    def _undivided(self) -> Iterator[None]:
        """Undefined within the block, and from then on if that is left half-way."""
        self._divided = True
        try:
            yield
        except BaseException as failure:
            self._failure = failure
            raise
        self._divided = False

    @property
    def defined(self) -> bool:
        """Whether no move is under way, or has failed half-way."""
        return not (self._divided or self._held)

    def _check_defined(self) -> None:
        if self._held:
            raise RuntimeError(
                "state: got one whose memory is in the middle of a step, expected a call after it "
                "(from a signal's handler, say, only set a flag)"
            )
        if self._divided:
            raise RuntimeError(
                "state: got one whose memory a failed step left undefined, expected a new one "
                "from initial_state()"
            ) from self._failure


def empty(
    shape: tuple[int, int, int], dtype: np.dtype, make_index: MakeIndex, links: Links | None
) -> Version:
    """A store of unwritten zeros [B, N, W], at a cost that does not grow with N."""
    memory = ann_backends.lazy_zeros(shape, dtype)
    written = ann_backends.lazy_zeros(shape[:2], np.bool_)
    usage_ring = ann_backends.lazy_zeros((*shape[:2], 2), np.int32)
    heads = np.zeros(shape[0], np.int64)
    index = make_index(memory, "none")
    return Store(memory, written, usage_ring, heads, index, links).first_version()


def full(memory: np.ndarray, make_index: MakeIndex, links: Links | None) -> Version:
    """A store of the given rows [B, N, W], all of them written; it takes the array over."""
    written = np.ones(memory.shape[:2], np.bool_)
    # Filled rather than lazily zeroed: any slot may be accessed, so every page will be needed.
    usage_ring = np.full((*memory.shape[:2], 2), 0, np.int32)
    heads = np.zeros(len(memory), np.int64)
    index = make_index(memory, "all")
    return Store(memory, written, usage_ring, heads, index, links).first_version()


def restore(content: dict[str, Any]) -> Version:
    """The first version of a store with the `content` of another, which it takes over."""
    return Store(**content).first_version()


def gather(versions: Sequence[Version], sources: Sequence[tuple[int, int] | None]) -> Version:
    """The first version of a new store, each of whose memories is a copy of another store's.

    versions: of stores of equal sizes and dtype. sources: for each new memory, which version and
    which of its memories; None for an empty one.
    """
    if len(versions) > 1:
        # A store cannot stand at two of its versions at once.
        versions = [version.copy() for version in versions]
    with contextlib.ExitStack() as stack:
        stores = [stack.enter_context(each.store.standing_at(each)) for each in versions]
        return _gather([source and (stores[source[0]], source[1]) for source in sources], stores[0])


def _gather(sources: Sequence[tuple[Store, int] | None], like: Store) -> Version:
    """As `gather`, of stores as they stand."""
    shape = (len(sources), *like.memory.shape[1:])
    memory = ann_backends.lazy_zeros(shape, like.memory.dtype)
    written = ann_backends.lazy_zeros(shape[:2], np.bool_)
    usage_ring = ann_backends.lazy_zeros((*shape[:2], 2), np.int32)
    heads = np.zeros(shape[0], np.int64)
    links = None if like.links is None else like.links.empty(shape[0])
    for i, source in enumerate(sources):
        if source is None:
            continue
        store, b = source
        ann_backends.copy_changed(store.memory[b], memory[i])
        ann_backends.copy_changed(store.written[b], written[i])
        ann_backends.copy_changed(store.ring[b], usage_ring[i])
        heads[i] = store.heads[b]
        if links is not None and store.links is not None:
            links.copy_from(store.links, b, i)
    index = ann_backends.gather(
        memory, [source and (source[0].index, source[1]) for source in sources], like.index
    )
    return Store(memory, written, usage_ring, heads, index, links).first_version()


def _already_carried(journal: Journal, forward: bool) -> None:
    pass


def _alive(reference: weakref.ref[Version]) -> Version:
    version = reference()
    assert version is not None, "a version in use leads to every version that the store needs"
    return version
