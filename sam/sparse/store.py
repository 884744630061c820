"""Memories that change in place, yet whose every state is a value.

A `Store` is the one owner of what changes: the rows of B memories, their usage rings, their links,
the index over them. A `Version` names their content at one moment. The store stands at one
version; every other points to its neighbour in the direction of that one, with the journal between
the two (the persistent arrays of Baker 1991, "Shallow binding makes functional arrays fast"). So an
old version can be stood at again, and one that nobody refers to is freed together with its journal.
The store is kept by its versions and keeps none of them: as every version leads to the one stood
at, that one lives as long as any, and with the last of them goes the memory, at once.
"""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import torch

import ann_backends
from sam.sparse import ring
from sam.sparse.gradient import SparseGradient
from sam.sparse.journal import NONE, Journal
from sam.sparse.links import Links

MakeIndex = Callable[[np.ndarray, str], ann_backends.Index]


@dataclasses.dataclass(eq=False)
class Version:
    """The content of a store between two passes.

    time: how many passes lie before it. towards: the journal to, and the version of, the
    neighbour in whose direction the store stands; None if it stands here.
    gradient: dL/dM at this version, while a backward pass is under way.
    """

    store: Store
    time: int = 0
    towards: tuple[Journal, Version] | None = None
    gradient: SparseGradient | None = None


class Store:
    """B memories of N words of W numbers, with their usage rings and the index over them.

    memory: [B, N, W]. written: bool [B, N], the rows that were given or ever written, which are
    those the index knows. num_written: int64 [B]. ring, heads: the usage rings (see `ring`).
    links: what was written after what, None where the model does not ask.

    A new one belongs to its first `Version`, which `zeros` and `full` return.
    """

    def __init__(
        self,
        memory: np.ndarray,
        written: np.ndarray,
        ring: np.ndarray,
        index: ann_backends.Index,
        links: Links | None,
    ) -> None:
        self.memory = memory
        self.written = written
        self.num_written = np.full(len(memory), memory.shape[1] if written[0, 0] else 0, np.int64)
        self.ring = ring
        self.heads = np.zeros(len(memory), np.int64)
        self.index = index
        self.links = links
        self._backward_pass: int | None = None
        self._returns_to: Version | None = None  # kept alive by a backward pass until its end
        self._with_gradient: list[Version] = []
        self._failure: Exception | None = None

    @classmethod
    def zeros(
        cls,
        shape: tuple[int, int, int],
        dtype: np.dtype,
        make_index: MakeIndex,
        links: Links | None,
    ) -> Version:
        """A store of unwritten zeros [B, N, W], at a cost that does not grow with N."""
        memory = ann_backends.lazy_zeros(shape, dtype)
        written, ring = (
            ann_backends.lazy_zeros(shape[:2], np.bool_),
            ann_backends.lazy_zeros((*shape[:2], 2), np.int32),
        )
        return cls(memory, written, ring, make_index(memory, "none"), links)._first_version()

    @classmethod
    def full(cls, memory: np.ndarray, make_index: MakeIndex, links: Links | None) -> Version:
        """A store of the given rows [B, N, W], all of them written; it takes the array over."""
        written = np.ones(memory.shape[:2], np.bool_)
        # Filled rather than lazily zeroed: any slot may be accessed, so every page will be needed.
        ring = np.full((*memory.shape[:2], 2), 0, np.int32)
        return cls(memory, written, ring, make_index(memory, "all"), links)._first_version()

    def _first_version(self) -> Version:
        version = Version(self)
        self.rows_at = self.stands_at = version
        return version

    @property
    def stands_at(self) -> Version:
        """Where everything stands, but for the rows during a backward pass."""
        return _alive(self._stands_at)

    @stands_at.setter
    def stands_at(self, version: Version) -> None:
        self._stands_at = weakref.ref(version)

    @property
    def rows_at(self) -> Version:
        """Where the rows stand: a backward pass rolls them back alone, until it ends."""
        return _alive(self._rows_at)

    @rows_at.setter
    def rows_at(self, version: Version) -> None:
        self._rows_at = weakref.ref(version)

    @property
    def in_backward(self) -> bool:
        """Whether a backward pass has the rows rolled back just now."""
        return self.rows_at is not self.stands_at

    def stand_at(self, version: Version) -> None:
        """Bring everything to `version`, in time proportional to the steps in between."""
        if self._failure is not None:
            raise RuntimeError(
                "state: got one whose memory a failed step left undefined, expected a new one "
                "from initial_state()"
            ) from self._failure
        self.settle()
        for journal, forward in self._walk_to(version):
            self._carry(journal, forward)
            self.stands_at = version

    def advance(self, journal: Journal) -> Version:
        """The version after the steps of `journal`, which the caller has just made."""
        before, after = self.stands_at, Version(self, self.stands_at.time + 1)
        before.towards = (journal, after)
        self.rows_at = self.stands_at = after
        return after

    def abandon(self, journal: Journal) -> None:
        """Take back those steps of `journal` that were made before a failure."""
        try:
            self._carry(journal, forward=False)
        except Exception as failure:
            self._failure = failure

    def begin_backward(self, version: Version) -> SparseGradient:
        """Roll the rows alone to `version`; returns what later passes gave as its dL/dM.

        The rows return when the backward pass of autograd, of which this is a part, has ended.
        """
        backward_pass = torch._C._current_graph_task_id()
        if self._backward_pass != backward_pass:
            self.settle()
            self._backward_pass, self._returns_to = backward_pass, self.stands_at
            torch.autograd.Variable._execution_engine.queue_callback(self.settle)
        self._roll_rows_to(version)
        gradient, version.gradient = version.gradient, None
        return gradient or SparseGradient(self.memory)

    def end_backward(self, version: Version, gradient: SparseGradient | None) -> None:
        """Note that the caller has rolled the rows back to `version`, where dL/dM is `gradient`."""
        for _ in self._walk_to(version):
            pass
        if version.gradient is None:
            version.gradient = gradient
            self._with_gradient.append(version)
        elif gradient is not None:
            version.gradient.add(gradient)

    def settle(self) -> None:
        """End a backward pass, a failed one too: rows where the rest stands, no gradient left."""
        self._roll_rows_to(self.stands_at)
        self._backward_pass = self._returns_to = None
        while self._with_gradient:
            self._with_gradient.pop().gradient = None

    def _roll_rows_to(self, version: Version) -> None:
        for journal, forward in self._walk_to(version):
            journal.carry_rows(self.memory, forward)

    def _walk_to(self, version: Version) -> Iterator[tuple[Journal, bool]]:
        """The journals on the way to `version`, each with whether it is passed forward in time.

        Whoever takes one must carry at least the rows across it.
        """
        path = [version]
        while path[-1].towards is not None:
            path.append(path[-1].towards[1])
        for here, there in pairwise(reversed(path)):
            assert there.towards is not None
            journal, _ = there.towards
            yield journal, there.time > here.time
            here.towards, there.towards = (journal, there), None
            self.rows_at = there

    def _carry(self, journal: Journal, forward: bool) -> None:
        """Carry rows, rings, links and index across a journal."""
        journal.carry_rows(self.memory, forward)
        if forward:
            ring.redo(self.ring, self.heads, journal.moved)
        else:
            ring.undo(self.ring, self.heads, journal.moved, journal.followed_by)
        if self.links is not None and journal.links is not None:
            self.links.carry(journal.links, forward=forward)
        t, b, i = np.nonzero(journal.fresh)
        self.written[b, journal.slots[t, b, i]] = forward
        self.num_written += np.bincount(b, minlength=len(self.heads)) * (1 if forward else -1)
        self.index.update(_by_memory(journal.slots))
        if not forward:
            self.index.remove(_by_memory(np.where(journal.fresh, journal.slots, NONE)))


def _alive(reference: weakref.ref[Version]) -> Version:
    version = reference()
    assert version is not None, "a version in use leads to every version that the store needs"
    return version


def _by_memory(slots: np.ndarray) -> np.ndarray:
    """[T, B, n] -> [B, T n]."""
    return np.ascontiguousarray(slots.swapaxes(0, 1)).reshape(slots.shape[1], -1)
