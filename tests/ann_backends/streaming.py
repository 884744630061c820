"""A state machine: all that an index can do, in random order, against brute force."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from hypothesis import HealthCheck, Phase, note, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

import ann_backends
from tests.ann_backends.oracle_ann import Oracle

# Settings that make a structure deep, lean or quick to lag in the small memories used here.
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "kd_forest": [{}, {"trees": 1, "leaf_size": 1, "checks": 1}, {"leaf_size": 3, "checks": 8}],
    "lsh": [{}, {"tables": 2, "probes": 1}, {"tables": 3, "bits": 0}, {"bits": 9, "probes": 3}],
    "hnsw": [{"exact_below": 1, "M": 3, "ef": 1}, {"exact_below": 30}],
    "ivf": [{"exact_below": 1, "lists": 7, "probes": 1}, {"exact_below": 30}],
    "nn_descent": [{"exact_below": 8, "n_neighbors": 4, "epsilon": 0.0, "candidates": 1}],
}
# Switches that are for one metric only.
METRIC_OF = {"sketch": "cosine"}
# Rows announced last that must be found first: more than a step of SAM writes.
WINDOW = 32
SIZES = [1, 3, 8, 40, 300]
NUMBER = st.integers(0, 20)
WORDS = ["random", "random", "random", "equal", "zero", "near another", "opposite", "scaled"]
QUERIES = ["last written", "written", "written", "near a row", "random", "zero"]


class Streaming(RuleBasedStateMachine):
    """A memory and its index, changed and searched in any order; `operations` counts its calls."""

    backend: ClassVar[str | ann_backends.Settings]
    operations: ClassVar[int] = 0

    @initialize(number=st.integers(0, 2**32 - 1))
    def start(self, number: int) -> None:
        """Any of the backend's metrics, a memory full of rows or of NaN, 1 to 3 elements.

        Hypothesis repeats and disables what it draws; these have to meet every rule.
        """
        self.rng = np.random.default_rng(number)
        backend = self.backend
        if isinstance(backend, str):
            backend = self._settings(backend)
        metrics = [metric for name, metric in METRIC_OF.items() if getattr(backend, name, False)]
        metric, full = self._one_of(metrics or backend.metrics), self._one_of([True, True, False])
        self.batch_size = self._one_of([1, 2, 3])
        self.memory_size, self.word_size = self._one_of(SIZES), self._one_of([1, 2, 8, 13])
        shape = (self.batch_size, self.memory_size, self.word_size)
        words = self.rng.standard_normal(shape) if full else np.full(shape, np.nan)
        self.memory = words.astype(self._one_of(["float32", "float64"]))
        note(f"{backend} {metric} {'full' if full else 'empty'} {shape} {self.memory.dtype}")
        self.oracle = Oracle(self.memory, metric, full, WINDOW)
        self.exact = backend.min_recall == 1.0
        findable = "all" if full else "none"
        self.index: Any = ann_backends.create(
            backend, self.memory, seed=number, metric=metric, findable=findable
        )

    @rule(number=NUMBER, kind=st.sampled_from(WORDS))
    def overwrite(self, number: int, kind: str) -> None:
        self._overwrite(self._slots(number), kind)

    @rule(kind=st.sampled_from(WORDS))
    def overwrite_every_row(self, kind: str) -> None:
        order = [self.rng.permutation(self.memory_size) for _ in range(self.batch_size)]
        for slots in np.array_split(np.stack(order), max(1, self.memory_size // 100), axis=1):
            self._overwrite(slots, kind)

    @rule(number=NUMBER)
    def announce_what_has_not_changed(self, number: int) -> None:
        slots = self._slots(number)
        slots = np.where(np.take_along_axis(self.oracle.findable, slots, 1), slots, -1)
        self.oracle.announce(slots)
        self._call("update", slots)

    @rule(number=NUMBER, spoilt=st.booleans())
    def remove(self, number: int, spoilt: bool) -> None:
        """What a removed row holds is no more the index's business."""
        slots = self._slots(number)
        self.oracle.remove(slots)
        self._call("remove", slots)
        if spoilt:
            self.memory[~self.oracle.findable] = np.nan

    @rule(which=st.sampled_from(["rebuild"] * 7 + ["reset"]))
    def rebuild_or_reset(self, which: str) -> None:
        if which == "reset":
            self.oracle.reset()
        self._call(which)

    @invariant()
    def every_answer_is_true(self) -> None:
        """Searched after three changes in four, so that some come without one in between."""
        if self.rng.random() < 0.75:
            queries = [[self._query(b, kind) for kind in QUERIES] for b in range(self.batch_size)]
            k = min(self._one_of([1, 2, 4, 9, 1000]), self.memory_size)
            asked = np.array(queries, self.memory.dtype)
            slots, similarity = self._call("search", asked, k)
            self.oracle.judge(asked, k, slots, similarity, self.exact)

    def _overwrite(self, slots: np.ndarray, kind: str) -> None:
        words = [[self._word(b, slot, kind) for slot in own] for b, own in enumerate(slots)]
        shape = (*slots.shape, self.word_size)
        self.oracle.write(slots, np.array(words, self.memory.dtype).reshape(shape))
        self._call("update", slots)

    def _call(self, method: str, *arguments: Any) -> Any:
        type(self).operations += 1
        answer = getattr(self.index, method)(*arguments)
        assert self.index.stats()["findable"] == self.oracle.findable.sum(axis=1).tolist()
        return answer

    def _settings(self, name: str) -> ann_backends.Settings:
        """Some of `SETTINGS`, any interval between rebuilds, and every switch on or off."""
        fields = dataclasses.fields(ann_backends.resolve(name))
        switches = [field.name for field in fields if isinstance(field.default, bool)]
        chosen = {switch: self._one_of([False, True]) for switch in switches}
        chosen |= {"rebuild_every": self._one_of([None, 1, 7, 60])}
        return ann_backends.resolve(name, **chosen | self._one_of(SETTINGS.get(name, [{}])))

    def _slots(self, number: int) -> np.ndarray:
        """[B, number] slots, duplicates and padding among them."""
        shape = (self.batch_size, number)
        slots = self.rng.integers(0, self.memory_size, shape)
        return np.where(self.rng.random(shape) < 0.1, -1, slots)

    def _one_of(self, choices: Sequence[Any]) -> Any:
        return choices[self.rng.integers(len(choices))]

    def _word(self, b: int, slot: int, kind: str) -> np.ndarray:
        random = self.rng.standard_normal(self.word_size)
        return {
            "random": random,
            "equal": np.ones(self.word_size),
            "zero": 0 * random,
            "near another": self._row(b) + 1e-3 * random,
            "opposite": -np.nan_to_num(self.memory[b, slot]),
            "scaled": self._row(b) * 10.0 ** self.rng.integers(-2, 2),
        }[kind].clip(-100, 100)

    def _row(self, b: int) -> np.ndarray:
        """A findable row of an element; zeros where there is none."""
        present = np.flatnonzero(self.oracle.findable[b])
        return (
            self.memory[b, self.rng.choice(present)] if present.size else np.zeros(self.word_size)
        )

    def _query(self, b: int, kind: str) -> np.ndarray:
        recent = self.oracle.recent[b]
        random = self.rng.standard_normal(self.word_size)
        if recent and kind in ("last written", "written"):
            # Some of these words have been overwritten or removed since.
            return recent[-1 if kind == "last written" else self.rng.integers(len(recent))][1]
        return {"near a row": self._row(b) + 0.1 * random, "zero": 0 * random}.get(kind, random)


def drive(backend: str | ann_backends.Settings, rounds: int, steps: int) -> int:
    """The number of operations done in so many rounds of nine histories; all answers were true.

    Hypothesis tries mutations of its tenth history and each later one, mostly alike: hence rounds.
    """
    driven = type("Machine", (Streaming,), {"backend": backend, "operations": 0})
    chosen = settings(
        max_examples=9,
        stateful_step_count=steps,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    for number in range(rounds):
        run_state_machine_as_test(seed(number)(driven), settings=chosen)
    return driven.operations
