"""One backend under test, and a world of rows that verifies everything it answers."""

from __future__ import annotations

import dataclasses
import os
import pickle
import random
from collections.abc import Callable
from typing import Any

import numpy as np

from ann_backends import registry
from ann_backends.index import Index, Settings
from ann_backends.metric import METRICS, NORM_EPSILON

DTYPES = ("float32", "float64")
TOLERANCE = {"float32": 2e-4, "float64": 1e-9}


@dataclasses.dataclass(frozen=True)
class Trial:
    """A backend, in one metric and precision; `min_recall` in [0, 1] is what it has to reach."""

    settings: Settings
    metric: str
    dtype: str
    seed: int
    min_recall: float

    def __str__(self) -> str:
        return f"{self.settings.name}-{self.metric}-{self.dtype}"

    def build(self, memory: Any, findable: str = "all") -> Index:
        """An index over `memory` [B, N, W]."""
        return registry.create(
            self.settings, memory, seed=self.seed, metric=self.metric, findable=findable
        )

    def random(self, *shape: int) -> np.ndarray:
        """Gaussian numbers of the trial's precision, the same for the same seed and shape."""
        return np.random.default_rng(self.seed).standard_normal(shape).astype(self.dtype)


def trials(
    backend: str | Settings, *, seed: int = 0, min_recall: float | None = None
) -> list[Trial]:
    """`backend` in each of its metrics and both precisions."""
    settings = registry.resolve(backend)
    metrics = getattr(settings, "metrics", METRICS)
    recall = getattr(settings, "min_recall", 1.0) if min_recall is None else min_recall
    return [Trial(settings, metric, dtype, seed, recall) for metric in metrics for dtype in DTYPES]


class World:
    """A memory [B, N, W] that this harness owns, its index, and what should be findable in it."""

    def __init__(self, trial: Trial, memory: np.ndarray, findable: str = "all") -> None:
        self.trial = trial
        self.memory = memory
        self.findable = np.full(memory.shape[:2], findable == "all")
        self.rng = np.random.default_rng(trial.seed + 1)
        # What the last search returned, and what it was then.
        self._answers: tuple[np.ndarray, ...] = ()
        self._answers_then: tuple[np.ndarray, ...] = ()
        self.index = leaving_alone(self.memory, lambda: trial.build(memory, findable))

    def __copy__(self) -> World:
        """The same memory and index; the last answer is the original's own."""
        world = object.__new__(World)
        vars(world).update(vars(self), _answers=(), _answers_then=())
        return world

    def write(self, slots: np.ndarray, words: np.ndarray | None = None) -> None:
        """Overwrite the rows at `slots` [B, n], with random words unless given, and announce it.

        -1 is padding. Of a slot given twice the last words stay.
        """
        for b, own in enumerate(slots):
            shape = (own.size, self.memory.shape[2])
            new = self.rng.standard_normal(shape) if words is None else words[b]
            self.memory[b, own[own >= 0]] = new[own >= 0]
            self.findable[b, own[own >= 0]] = True
        self.update(slots)

    def update(self, slots: np.ndarray) -> None:
        """Announce rows, findable ones or just written; the slots [B, n] are used up afterwards."""
        self._call(self.index.update, slots.copy())

    def remove(self, slots: np.ndarray) -> None:
        """Make the rows at `slots` [B, n] not findable; -1 is padding."""
        for b, own in enumerate(slots):
            self.findable[b, own[own >= 0]] = False
        self._call(self.index.remove, slots.copy())

    def reset(self) -> None:
        """Make every row not findable."""
        self.findable[:] = False
        self._call(self.index.reset)

    def rebuild(self) -> None:
        """Build the index anew."""
        self._call(self.index.rebuild)

    def random_slots(self, n: int) -> np.ndarray:
        """[B, n] distinct slots per batch element."""
        batch_size, memory_size, _ = self.memory.shape
        return np.stack(
            [self.rng.permutation(memory_size)[:n].astype(np.int64) for _ in range(batch_size)]
        )

    def search(self, queries: np.ndarray, k: int) -> np.ndarray:
        """The index's slots [B, H, k], after everything about them and their similarity held."""
        slots, similarity = self._call(self.index.search, queries.copy(), k)
        for returned, then in zip(self._answers, self._answers_then, strict=True):
            expect((returned == then).all(), "an earlier answer was overwritten by a later search")
            returned[...] = 0  # its owner may do that, and no later answer depends on it
        expected = (*queries.shape[:2], k)
        expect_equal("shape of slots", slots.shape, expected)
        expect_equal("shape of similarity", similarity.shape, expected)
        expect_equal("dtype of slots", slots.dtype, np.dtype(np.int64))
        expect_equal("dtype of similarity", similarity.dtype, self.memory.dtype)
        for b in range(queries.shape[0]):
            for h in range(queries.shape[1]):
                self._verify(b, queries[b, h], slots[b, h], similarity[b, h])
        self._answers, self._answers_then = (slots, similarity), (slots.copy(), similarity.copy())
        return self._answers_then[0]

    def recall(self, queries: np.ndarray, k: int) -> float:
        """Share of the k nearest found, over all queries; equally near rows count alike."""
        slots = self.search(queries, k)
        shares = [
            self._share(int(b), queries[b, h], slots[b, h])
            for b in np.flatnonzero(self.findable.any(axis=1))
            for h in range(queries.shape[1])
        ]
        return float(np.mean(shares)) if shares else 1.0

    def expect_nearest(self, queries: np.ndarray, rows: np.ndarray, found: np.ndarray) -> None:
        """The slots `found` [B, H] are as near to `queries` as `rows`, wherever those are not -1.

        queries: [B, H, W], or with more heads, which do not matter.
        """
        for b, h in np.argwhere(rows >= 0):
            words = self.memory[b, [rows[b, h], found[b, h]]]
            least, got = similarity_of(queries[b, h], words, self.trial.metric)
            if not got >= least - self._tolerance(least):
                raise AssertionError(
                    f"element {b}: got slot {found[b, h]} first, similarity {got}, "
                    f"for the words of row {rows[b, h]}, similarity {least}"
                )

    def _call(self, method: Callable[..., Any], *arguments: Any) -> Any:
        """Its result; the arrays given are another's afterwards, who writes other things there."""
        given = [a for a in arguments if isinstance(a, np.ndarray)]
        held = [array.copy() for array in given]
        result = leaving_alone(self.memory, lambda: method(*arguments))
        for array, was in zip(given, held, strict=True):
            expect((array == was).all(), "the caller's slots or queries were written to")
            array[...] = 0
        return result

    def _verify(self, b: int, query: np.ndarray, slots: np.ndarray, similarity: np.ndarray) -> None:
        problem = self._problem(b, query, slots, similarity)
        if problem:  # found first and told then: to print each answer would take most of the time
            raise AssertionError(
                f"element {b}, {int(self.findable[b].sum())} rows findable: "
                f"got slots {slots.tolist()}, similarity {similarity.tolist()}, expected {problem}"
            )

    def _problem(self, b: int, query: np.ndarray, slots: np.ndarray, similarity: np.ndarray) -> str:
        """What should have been different in one answer [k]; empty if nothing."""
        found = min(slots.size, int(self.findable[b].sum()))
        if (slots[found:] != -1).any():
            return f"-1 after {found} slots"
        if (similarity[found:] != -np.inf).any():
            return f"-inf as similarity after {found} slots"
        slots, similarity = slots[:found], similarity[:found]
        if ((slots < 0) | (slots >= self.memory.shape[1])).any():
            return f"{found} slots of the memory"
        if len(set(slots.tolist())) < found:
            return "distinct slots"
        if not self.findable[b, slots].all():
            return "findable slots only"
        if not (similarity[1:] <= similarity[:-1]).all():
            return "the best first"
        present = similarity_of(query, self.memory[b, slots], self.trial.metric)
        if not (abs(similarity - present) <= self._tolerance(present)).all():
            return f"the similarity of the present rows, {present.tolist()}"
        return ""

    def _tolerance(self, similarity: np.ndarray) -> np.ndarray:
        return TOLERANCE[self.trial.dtype] * (1 + abs(similarity))

    def _share(self, b: int, query: np.ndarray, slots: np.ndarray) -> float:
        rows = np.flatnonzero(self.findable[b])
        k = min(slots.size, rows.size)
        exact = similarity_of(query, self.memory[b, rows], self.trial.metric)
        least = np.sort(exact)[-k]
        found = similarity_of(query, self.memory[b, slots[:k]], self.trial.metric)
        return float(np.mean(found >= least - self._tolerance(least)))


def similarity_of(query: np.ndarray, words: np.ndarray, metric: str) -> np.ndarray:
    """Similarity of query [W] to words [n, W] in double precision: [n]. The harness's own code."""
    q, m = query.astype(np.float64), words.astype(np.float64)
    if metric == "l2":
        return -((m - q) ** 2).sum(axis=1)
    lengths = np.sqrt((m * m).sum(axis=1) + NORM_EPSILON)
    return (m / lengths[:, None]) @ (q / np.sqrt(q @ q + NORM_EPSILON))


def leaving_alone(memory: np.ndarray, call: Callable[[], Any]) -> Any:
    """What `call` returns; it may change neither the memory nor what belongs to the process."""
    before, generators = memory.tobytes(), (np.random.get_state(), random.getstate())  # noqa: NPY002
    errors, folder = np.geterr(), os.getcwd()
    # From a state that no seed gives, so that seeding is seen as a change.
    np.random.random(), random.random()  # noqa: NPY002
    process = _process_state()
    try:
        result = call()
        expect(memory.tobytes() == before, "the memory was written to, which is its owner's")
        for what, state in _process_state().items():
            expect(state == process[what], f"{what} was changed, which is the whole process's")
    finally:
        np.random.set_state(generators[0])  # noqa: NPY002
        random.setstate(generators[1])
        np.seterr(**errors)
        os.chdir(folder)
    return result


def _process_state() -> dict[str, Any]:
    return {
        "NumPy's global generator": pickle.dumps(np.random.get_state()),  # noqa: NPY002
        "Python's global generator": random.getstate(),
        "NumPy's way with floating-point errors": np.geterr(),
        "the working directory": os.getcwd(),
    }


def expect(holds: bool, message: str) -> None:
    """Raise AssertionError with `message` unless it `holds`; unlike `assert`, under -O too."""
    if not holds:
        raise AssertionError(message)


def expect_equal(what: str, got: object, expected: object) -> None:
    """`got` equals `expected`."""
    expect(got == expected, f"{what}: got {got}, expected {expected}")
