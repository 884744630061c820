"""Every registered backend passes every check of the suite; broken ones fail it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
import pytest

import ann_backends
from ann_backends.exact import Exact, ExactIndex
from ann_backends.testing import CHECKS, Trial

# Beside the defaults, settings that search in another way, or under which the small memories of the
# suite have a library's object.
FURTHER: dict[str, dict[str, Any]] = {
    "kd_forest": {"trees": 1, "leaf_size": 31, "sketch": True, "principal_axes": True},
    "lsh": {"tables": 2, "probes": 16, "sketch": True},
    "hnsw": {"exact_below": 8, "rebuild_every": 60},
    "ivf": {"exact_below": 8, "rebuild_every": 60},
    "nn_descent": {"exact_below": 20, "rebuild_every": 60, "n_neighbors": 8},
}


def members() -> Iterator[Any]:
    """The trials of every registered backend, or its name where something is to be installed."""
    for name, state in ann_backends.available().items():
        if state != "ready":
            yield pytest.param(name, marks=pytest.mark.skip(reason=f"not installed: {state}"))
            continue
        # It compiles for about a minute.
        marks = [pytest.mark.slow] if name == "nn_descent" else []
        for trial in ann_backends.testing.trials(name):
            yield pytest.param(trial, id=str(trial), marks=marks)
        if name in FURTHER:
            settings = ann_backends.resolve(name, **FURTHER[name])
            for trial in ann_backends.testing.trials(settings):
                if trial.metric == "cosine" or not getattr(settings, "sketch", False):
                    yield pytest.param(trial, id=f"{trial}-further", marks=marks)


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS.keys())
@pytest.mark.parametrize("trial", list(members()))
def test_backend_conforms(trial: Trial, check: Callable[[Trial], None]) -> None:
    check(trial)


def test_every_backend_of_ours_is_among_the_tested() -> None:
    named = {getattr(case.values[0], "settings", None) or case.values[0] for case in members()}
    ours = {"exact", "kd_forest", "lsh", "nn_descent", "hnsw", "ivf"}
    assert {getattr(each, "name", each) for each in named} >= ours


def test_exact_conforms_with_frequent_rebuilds() -> None:
    ann_backends.testing.check_backend(Exact(rebuild_every=3), seed=7)


class OffByOne(ExactIndex):
    def _search(self, queries: np.ndarray, slots: np.ndarray, similarity: np.ndarray) -> None:
        super()._search(queries, slots, similarity)
        slots[slots >= 0] = (slots[slots >= 0] + 1) % self.memory_size


class Stale(ExactIndex):
    """Indexes a row once and goes on ranking it by what it held then."""

    def _clear(self) -> None:
        super()._clear()
        self.owners, self.memory = self.memory, self.memory.copy()
        self.known = np.zeros((self.batch_size, self.memory_size), bool)

    def _update(self, slots: np.ndarray) -> None:
        for b, own in enumerate(slots):
            new = own[(own >= 0) & ~self.known[b, own]]
            self.memory[b, new], self.known[b, new] = self.owners[b, new], True
        super()._update(slots)


class Duplicating(ExactIndex):
    def _search(self, queries: np.ndarray, slots: np.ndarray, similarity: np.ndarray) -> None:
        super()._search(queries, slots, similarity)
        slots[..., 1:], similarity[..., 1:] = slots[..., :1], similarity[..., :1]


class Unsorted(ExactIndex):
    def _search(self, queries: np.ndarray, slots: np.ndarray, similarity: np.ndarray) -> None:
        super()._search(queries, slots, similarity)
        slots[:], similarity[:] = slots[..., ::-1].copy(), similarity[..., ::-1].copy()


class NeverRemoving(ExactIndex):
    def _remove(self, slots: np.ndarray) -> None:
        pass


class Copying(ExactIndex):
    def __init__(self, settings: Exact, memory: np.ndarray, **kwargs: Any) -> None:
        super().__init__(settings, memory.copy(), **kwargs)


class Forgetful(ExactIndex):
    """A rebuild loses the last row."""

    def _rebuild(self, element: int) -> None:
        slots = np.full((self.batch_size, 1), -1)
        slots[element] = np.flatnonzero(self._scale[element])[-1]
        self._remove(slots)


class Mixing(ExactIndex):
    """Every batch element is searched with the first one's queries."""

    def _search(self, queries: np.ndarray, slots: np.ndarray, similarity: np.ndarray) -> None:
        super()._search(np.tile(queries[:1], (len(queries), 1, 1)), slots, similarity)


class Halfhearted(ExactIndex):
    """Looks only at even slots as long as those suffice."""

    def _search(self, queries: np.ndarray, slots: np.ndarray, similarity: np.ndarray) -> None:
        kept = self._scale.copy()
        if (self._scale[:, ::2] != 0).sum(axis=1).min() > 64:
            self._scale[:, 1::2] = 0
        super()._search(queries, slots, similarity)
        self._scale = kept


class Unchecked(ExactIndex):
    """Counts what is wrong with an update only after it has acted on it."""

    def update(self, slots: Any) -> None:
        if isinstance(slots, np.ndarray) and slots.size:
            self._insertions += 1
        super().update(slots)


@dataclasses.dataclass(frozen=True)
class Broken(Exact):
    name: ClassVar[str] = "broken"

    kind: type[ExactIndex] = ExactIndex

    def build(self, memory: Any, **kwargs: Any) -> ExactIndex:
        return self.kind(self, memory, **kwargs)


@pytest.mark.parametrize(
    ("kind", "caught_by"),
    [
        (OffByOne, "a_written_row_is_found_first"),
        (Stale, "a_written_row_is_found_first"),
        (Duplicating, "answers_are_well_formed"),
        (Unsorted, "answers_are_well_formed"),
        (NeverRemoving, "a_removed_row_is_gone"),
        (Copying, "the_memory_is_a_view"),
        (Forgetful, "rebuilding_keeps_the_rows"),
        (Mixing, "batch_elements_are_independent"),
        (Halfhearted, "nearest_rows_are_recalled"),
        (Unchecked, "bad_input_changes_nothing"),
    ],
)
def test_broken_backend_fails(kind: type[ExactIndex], caught_by: str) -> None:
    with pytest.raises(AssertionError, match="broken-cosine-float32 fails"):
        ann_backends.testing.check_backend(Broken(kind=kind))
    trial = ann_backends.testing.trials(Broken(kind=kind))[0]
    with pytest.raises(AssertionError):
        CHECKS[caught_by](trial)


def test_the_unbroken_form_of_the_broken_ones_passes() -> None:
    ann_backends.testing.check_backend(Broken())


def test_min_recall_may_be_lowered() -> None:
    trial = ann_backends.testing.trials(Broken(kind=Halfhearted), min_recall=0.2)[0]
    CHECKS["nearest_rows_are_recalled"](trial)
