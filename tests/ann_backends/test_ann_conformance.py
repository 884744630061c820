"""Every registered backend passes every check of the suite; broken ones fail it."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import random
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


class Normalising(ExactIndex):
    """Writes into its owner's memory."""

    def _update(self, slots: np.ndarray) -> None:
        for b, own in enumerate(slots):
            rows = own[own >= 0]
            norms = np.linalg.norm(self.memory[b, rows], axis=1, keepdims=True)
            if self.metric == "cosine":
                self.memory[b, rows] /= np.maximum(norms, 1e-6)
        super()._update(slots)


class SixteenBits(ExactIndex):
    def _search(self, queries: np.ndarray, slots: np.ndarray, similarity: np.ndarray) -> None:
        super()._search(queries, slots, similarity)
        slots[:] = slots.astype(np.int16)


class SinglePrecisionSlots(ExactIndex):
    """Slots come out of an array of float32, which is exact up to 2^24."""

    def _search(self, queries: np.ndarray, slots: np.ndarray, similarity: np.ndarray) -> None:
        super()._search(queries, slots, similarity)
        slots[:] = slots.astype(np.float32).astype(np.int64)


class FirstThousand(ExactIndex):
    def _update(self, slots: np.ndarray) -> None:
        super()._update(np.where(slots < 1024, slots, -1))


class FirstFourThousandFindable(ExactIndex):
    """Has room for so many rows, and drops those that come later."""

    def _search(self, queries: np.ndarray, slots: np.ndarray, similarity: np.ndarray) -> None:
        kept = self._scale.copy()
        for own in self._scale:
            own[np.flatnonzero(own)[4096:]] = 0
        super()._search(queries, slots, similarity)
        self._scale[:] = kept


class ThreeElements(ExactIndex):
    def _search(self, queries: np.ndarray, slots: np.ndarray, similarity: np.ndarray) -> None:
        super()._search(queries, slots, similarity)
        slots[3:], similarity[3:] = slots[:1], similarity[:1]


class ThirtyTwoHeads(ExactIndex):
    """From the 33rd head on, the answer of the first."""

    def _search(self, queries: np.ndarray, slots: np.ndarray, similarity: np.ndarray) -> None:
        super()._search(queries, slots, similarity)
        slots[:, 32:], similarity[:, 32:] = slots[:, :1], similarity[:, :1]


class Reseeding(ExactIndex):
    def _clear(self) -> None:
        super()._clear()
        np.random.seed(self.seed)  # noqa: NPY002


class Drawing(ExactIndex):
    """Takes numbers from Python's global generator while it searches."""

    def _search(self, queries: np.ndarray, slots: np.ndarray, similarity: np.ndarray) -> None:
        super()._search(queries, slots, similarity)
        random.random()


class SilencingNumPy(ExactIndex):
    def _rebuild(self, element: int) -> None:
        np.seterr(all="raise")
        super()._rebuild(element)


class Counting(ExactIndex):
    """Every hundredth search is answered by halves."""

    calls = 0

    def _search(self, queries: np.ndarray, slots: np.ndarray, similarity: np.ndarray) -> None:
        super()._search(queries, slots, similarity)
        self.calls += 1
        if self.calls % 100 == 0:
            slots[..., -1], similarity[..., -1] = -1, -np.inf


class Reusing(ExactIndex):
    """Returns views of a buffer that the next search of the same shape overwrites."""

    def search(self, queries: Any, k: int) -> tuple[np.ndarray, np.ndarray]:
        slots, similarity = super().search(queries, k)
        buffers = self.__dict__.setdefault("buffers", {})
        kept = buffers.setdefault(slots.shape, (slots, similarity))
        kept[0][:], kept[1][:] = slots, similarity
        return kept


class Caching(ExactIndex):
    """Remembers the answer to the last question, and gives that array out."""

    last: tuple[Any, ...] = (None, 0, None)

    def search(self, queries: Any, k: int) -> tuple[np.ndarray, np.ndarray]:
        asked, number, answer = self.last
        if asked is None or number != k or not np.array_equal(asked, queries):
            answer = super().search(queries, k)
            self.last = (queries.copy(), k, answer)
        return answer

    def _update(self, slots: np.ndarray) -> None:
        super()._update(slots)
        self.last = (None, 0, None)

    def _remove(self, slots: np.ndarray) -> None:
        super()._remove(slots)
        self.last = (None, 0, None)

    def _clear(self) -> None:
        super()._clear()
        self.last = (None, 0, None)


class QueryNormalising(ExactIndex):
    def _search(self, queries: np.ndarray, slots: np.ndarray, similarity: np.ndarray) -> None:
        super()._search(queries, slots, similarity)
        queries /= np.maximum(np.linalg.norm(queries, axis=-1, keepdims=True), 1e-6)


class Lazy(ExactIndex):
    """Holds on to the slots announced, and indexes them when it is asked."""

    def _clear(self) -> None:
        super()._clear()
        self.waiting: list[np.ndarray] = []

    def _update(self, slots: np.ndarray) -> None:
        self.waiting.append(slots)

    def _settle(self) -> None:
        while self.waiting:
            super()._update(self.waiting.pop(0))

    def _search(self, queries: np.ndarray, slots: np.ndarray, similarity: np.ndarray) -> None:
        self._settle()
        super()._search(queries, slots, similarity)

    def _remove(self, slots: np.ndarray) -> None:
        self._settle()
        super()._remove(slots)

    def _findable(self) -> np.ndarray:
        self._settle()
        return super()._findable()


class PaddingIsTheLast(ExactIndex):
    """Takes -1 for the last row when rows are removed."""

    def _remove(self, slots: np.ndarray) -> None:
        super()._remove(slots % self.memory_size)


class Resurrecting(ExactIndex):
    """Removed rows are only hidden until the next rebuild."""

    def _rebuild(self, element: int) -> None:
        slots = np.full((self.batch_size, self.memory_size), -1)
        slots[element] = np.arange(self.memory_size)
        super()._update(slots)


class ResettingByHalves(ExactIndex):
    """What a reset forgets comes back with the next rebuild."""

    def reset(self) -> None:
        slots = [np.flatnonzero(own) for own in self._scale]
        super().reset()
        self.ghosts = slots

    def _rebuild(self, element: int) -> None:
        for ghost in getattr(self, "ghosts", [np.array([], int)] * (element + 1))[element]:
            super()._update(np.where(np.arange(self.batch_size) == element, ghost, -1)[:, None])
        super()._rebuild(element)


class Euclidean(ExactIndex):
    """Ignores the metric."""

    def __init__(self, settings: Exact, memory: np.ndarray, **kwargs: Any) -> None:
        super().__init__(settings, memory, **kwargs | {"metric": "l2"})


class Unseeded(ExactIndex):
    """Forgets a row at random: the same seed gives other answers."""

    def _search(self, queries: np.ndarray, slots: np.ndarray, similarity: np.ndarray) -> None:
        super()._search(queries, slots, similarity)
        order = np.random.default_rng().random(slots.shape).argsort(-1)
        slots[:] = np.where(np.isfinite(similarity), np.take_along_axis(slots, order, -1), slots)


class Common(ExactIndex):
    """All indexes of one shape share their arrays."""

    arrays: ClassVar[dict[Any, Any]] = {}

    def _clear(self) -> None:
        super()._clear()
        key = (self.memory.shape, self.memory.dtype, self.metric)
        self._scale = self.arrays.setdefault(key, self._scale)
        self._scale[:] = 0


class Credulous(ExactIndex):
    """Does not look at what it is told to index."""

    def update(self, slots: Any) -> None:
        held = self.memory[np.arange(self.batch_size)[:, None], slots].copy()
        bad = ~np.isfinite(held)
        self.memory[np.arange(self.batch_size)[:, None], slots] = np.where(bad, 0, held)
        super().update(slots)
        self.memory[np.arange(self.batch_size)[:, None], slots] = held


class SinglePrecision(ExactIndex):
    """Ranks in single precision what it then tells the right similarity of."""

    def _search(self, queries: np.ndarray, slots: np.ndarray, similarity: np.ndarray) -> None:
        rows = self.memory.astype(np.float32)
        single = Exact().build(rows, metric=self.metric, findable="none")
        for b, own in enumerate(self._scale):
            known = np.full((self.batch_size, self.memory_size), -1)
            known[b, : np.count_nonzero(own)] = np.flatnonzero(own)
            single.update(known)
        slots[:] = single.search(queries.astype(np.float32), slots.shape[2])[0]
        right = ann_backends.similarity(queries, self.memory, self.metric)
        similarity[:] = np.take_along_axis(right, slots, -1)
        similarity[slots < 0] = -np.inf
        order = np.argsort(-similarity, axis=-1, kind="stable")
        slots[:] = np.take_along_axis(slots, order, -1)
        similarity[:] = np.take_along_axis(similarity, order, -1)


class CopiedByReference(ExactIndex):
    """A deep copy goes on with the original's memory."""

    def __deepcopy__(self, memo: dict[int, Any]) -> ExactIndex:
        return copy.copy(self)


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
        (Normalising, "a_written_row_is_found_first"),
        (SixteenBits, "any_slot_is_found"),
        (SinglePrecisionSlots, "any_slot_is_found"),
        (FirstThousand, "any_slot_is_found"),
        (FirstFourThousandFindable, "rows_of_a_larger_memory_are_recalled"),
        (ThreeElements, "large_batches_and_many_heads_are_answered"),
        (ThirtyTwoHeads, "large_batches_and_many_heads_are_answered"),
        (Reseeding, "a_single_row_is_found"),
        (Drawing, "a_single_row_is_found"),
        (SilencingNumPy, "rebuilding_keeps_the_rows"),
        (Counting, "asking_changes_nothing"),
        (Reusing, "a_written_row_is_found_first"),
        (Caching, "indexes_share_nothing"),
        (QueryNormalising, "answers_are_well_formed"),
        (Lazy, "a_written_row_is_found_first"),
        (PaddingIsTheLast, "what_is_gone_stays_gone"),
        (Resurrecting, "what_is_gone_stays_gone"),
        (ResettingByHalves, "what_is_gone_stays_gone"),
        (Euclidean, "answers_are_well_formed"),
        (Unseeded, "answers_are_well_formed"),
        (Common, "indexes_share_nothing"),
        (Credulous, "bad_rows_are_refused"),
        (CopiedByReference, "a_copy_follows_its_own_memory"),
    ],
)
def test_broken_backend_fails(kind: type[ExactIndex], caught_by: str) -> None:
    with pytest.raises(AssertionError, match="broken-cosine-float32 fails"):
        ann_backends.testing.check_backend(Broken(kind=kind))
    trial = ann_backends.testing.trials(Broken(kind=kind))[0]
    with pytest.raises(AssertionError):
        CHECKS[caught_by](trial)


def test_double_precision_is_asked_for() -> None:
    trials = ann_backends.testing.trials(Broken(kind=SinglePrecision))
    for trial in trials:
        if trial.dtype == "float64":
            with pytest.raises(AssertionError, match="first slots for rows just written"):
                CHECKS["double_precision_decides"](trial)


def test_the_suite_leaves_the_process_as_it_was() -> None:
    np.random.seed(5)  # noqa: NPY002
    random.seed(5)
    before = random.getstate(), np.geterr()
    for kind in (ExactIndex, Reseeding, Drawing, SilencingNumPy):
        with contextlib.suppress(AssertionError):
            ann_backends.testing.check_backend(Broken(kind=kind))
    assert (random.getstate(), np.geterr()) == before
    assert np.random.random() == np.random.RandomState(5).random()  # noqa: NPY002


def test_the_unbroken_form_of_the_broken_ones_passes() -> None:
    ann_backends.testing.check_backend(Broken())


def test_min_recall_may_be_lowered() -> None:
    trial = ann_backends.testing.trials(Broken(kind=Halfhearted), min_recall=0.2)[0]
    CHECKS["nearest_rows_are_recalled"](trial)
