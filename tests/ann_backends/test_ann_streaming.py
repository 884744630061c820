"""Random interleavings of all that an index can do are answered truthfully; no fault is missed."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np
import pytest

import ann_backends
from ann_backends.testing import CHECKS, copies, trials
from tests.ann_backends.streaming import drive

STREAM = CHECKS["any_history_is_answered_truthfully"]
Answer = tuple[np.ndarray, np.ndarray]


def backends(quick: bool) -> list[Any]:
    """Every backend that is known; one that cannot be used is skipped, and says why."""
    marks = {
        name: [pytest.mark.skip(reason=state)] if state != "ready" else []
        for name, state in ann_backends.available().items()
    }
    if quick:  # it compiles for a minute in a new process
        marks["nn_descent"].append(pytest.mark.slow)
    return [pytest.param(name, marks=own) for name, own in marks.items()]


@pytest.mark.parametrize("backend", backends(quick=True))
def test_any_history_is_answered_truthfully(backend: str) -> None:
    assert drive(backend, rounds=1, steps=40) > 300


@pytest.mark.slow
@pytest.mark.parametrize("backend", backends(quick=False))
def test_ten_thousand_operations_are_answered_truthfully(backend: str) -> None:
    assert drive(backend, rounds=16, steps=50) >= 10_000


class Sound:
    """An index that passes everything on; each fault below overrides one thing.

    It always counts right, so that a fault has to show in what a search answers.
    """

    def __init__(self, index: ann_backends.Index) -> None:
        self.whole = index
        full = index.stats()["findable"][0] > 0
        self.findable = np.full(index.memory.shape[:2], full)
        self.removed = np.zeros_like(self.findable)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.whole, name)

    def update(self, slots: np.ndarray) -> None:
        self._announce(slots)
        self._mark(slots, findable=True)

    def remove(self, slots: np.ndarray) -> None:
        self.whole.remove(slots)
        self._mark(slots, findable=False)

    def search(self, queries: np.ndarray, k: int) -> Answer:
        return self.whole.search(queries, k)

    def reset(self) -> None:
        self.whole.reset()
        self.findable[:] = self.removed[:] = False

    def stats(self) -> dict[str, Any]:
        return self.whole.stats() | {"findable": self.findable.sum(axis=1).tolist()}

    def _announce(self, slots: np.ndarray) -> None:
        self.whole.update(slots)

    def _mark(self, slots: np.ndarray, findable: bool) -> None:
        for b, own in enumerate(slots):
            own = own[own >= 0]
            self.removed[b, own] |= not findable and self.findable[b, own]
            self.removed[b, own] &= not findable
            self.findable[b, own] = findable


class OffByOne(Sound):
    def search(self, queries: np.ndarray, k: int) -> Answer:
        slots, similarity = super().search(queries, k)
        return np.where(slots < 0, -1, (slots + 1) % self.memory_size), similarity


class Duplicating(Sound):
    def search(self, queries: np.ndarray, k: int) -> Answer:
        slots, similarity = super().search(queries, k)
        if k > 1:
            two = slots[..., 1] >= 0
            slots[two, 1], similarity[two, 1] = slots[two, 0], similarity[two, 0]
        return slots, similarity


class Unsorted(Sound):
    def search(self, queries: np.ndarray, k: int) -> Answer:
        slots, similarity = super().search(queries, k)
        full = (slots >= 0).all(axis=-1)
        slots[full], similarity[full] = slots[full][:, ::-1], similarity[full][:, ::-1]
        return slots, similarity


class Unpadded(Sound):
    """Where rows are too few, some row makes up the number."""

    def search(self, queries: np.ndarray, k: int) -> Answer:
        slots, similarity = super().search(queries, k)
        return np.maximum(slots, 0), similarity


class Mixing(Sound):
    """Every batch element is asked what the last one is."""

    def search(self, queries: np.ndarray, k: int) -> Answer:
        return super().search(np.repeat(queries[-1:], self.batch_size, axis=0), k)


class Stale(Sound):
    """Goes on ranking a row by the words that it was first announced with."""

    def __init__(self, index: ann_backends.Index) -> None:
        super().__init__(index)
        self.owners, index.memory = index.memory, index.memory.copy()

    def _announce(self, slots: np.ndarray) -> None:
        for b, own in enumerate(slots):
            new = own[(own >= 0) & ~self.findable[b, own]]
            self.whole.memory[b, new] = self.owners[b, new]
        self.whole.update(slots)


class Forgetting(Sound):
    """Rows that are findable are not indexed anew."""

    def _announce(self, slots: np.ndarray) -> None:
        self.whole.update(np.where(np.take_along_axis(self.findable, slots, 1), -1, slots))


class Lagging(Sound):
    """Rows are indexed when the next ones come."""

    waiting: np.ndarray | None = None

    def _announce(self, slots: np.ndarray) -> None:
        if self.waiting is not None:
            self.whole.update(self.waiting)
        self.waiting = slots


class NeverRemoving(Sound):
    def remove(self, slots: np.ndarray) -> None:
        self._mark(slots, findable=False)


class Resurrecting(Sound):
    """A rebuild takes in the rows that were removed before."""

    def rebuild(self) -> None:
        for b, slot in np.argwhere(self.removed):
            slots = np.full((self.batch_size, 1), -1)
            slots[b] = slot
            self.whole.update(slots)
        self.whole.rebuild()


class Losing(Sound):
    """A rebuild forgets the last row."""

    def rebuild(self) -> None:
        self.whole.rebuild()
        self.whole.remove(np.full((self.batch_size, 1), self.memory_size - 1))


class Everlasting(Sound):
    """Not even a reset forgets."""

    def reset(self) -> None:
        self.findable[:] = self.removed[:] = False


FAULTS = [
    *(OffByOne, Duplicating, Unsorted, Unpadded, Mixing, Stale, Forgetting, Lagging),
    *(NeverRemoving, Resurrecting, Losing, Everlasting),
]


@dataclasses.dataclass(frozen=True)
class Broken(ann_backends.Settings):
    """A backend with a fault. Of its recall nothing is asked, so truth alone must find it."""

    name: ClassVar[str] = "broken"
    metrics: ClassVar[tuple[str, ...]] = ("cosine",)
    min_recall: ClassVar[float] = 0.0

    whole: str = "exact"
    fault: type[Sound] = Sound

    def build(self, memory: Any, **arguments: Any) -> Any:
        return self.fault(ann_backends.create(self.whole, memory, **arguments))


@pytest.mark.parametrize("whole", ["exact", "kd_forest"])
@pytest.mark.parametrize("fault", FAULTS)
def test_no_fault_gets_through(fault: type[Sound], whole: str) -> None:
    broken = Broken(whole=whole, fault=fault)
    with pytest.raises(AssertionError):
        drive(broken, rounds=2, steps=40)
    with pytest.raises(AssertionError):
        STREAM(trials(broken)[0])
    with pytest.raises(AssertionError, match="broken-cosine-float32 fails"):
        ann_backends.testing.check_backend(broken)


def test_what_carries_the_faults_is_sound() -> None:
    broken = Broken(whole="kd_forest")
    drive(broken, rounds=2, steps=40)
    for check in CHECKS.values():
        if check not in copies.CHECKS:  # these are for an `Index`, not for what wraps one
            check(trials(broken)[0])
