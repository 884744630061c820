"""Replays of traces, against a slow account of what each step should have met."""

import dataclasses
import importlib
import itertools
from typing import ClassVar

import numpy as np
import pytest

import ann_backends
from ann_backends import replay
from ann_backends.exact import ExactIndex
from ann_backends.recall import recall_of
from tests.ann_backends import traces

# `ann_backends.replay` is the function.
MODULE = importlib.import_module("ann_backends.replay")
BACKENDS = ["exact", "kd_forest", "lsh"]


@dataclasses.dataclass(frozen=True)
class Told(ann_backends.Settings):
    """`exact`, with a log of all that its indexes are told; forgets the second best row.

    constant: whether it answers every query with the slots 0, 1, 2 ... instead.
    """

    name: ClassVar[str] = "told"
    constant: bool = False
    log: list = dataclasses.field(default_factory=list)

    def build(self, memory, *, seed=0, metric="cosine", findable="all"):
        self.log.append(("build", findable, seed))
        return ToldIndex(self, memory, seed=seed, metric=metric, findable=findable)


class ToldIndex(ExactIndex):
    def update(self, slots):
        self.settings.log.append(("update", np.array(slots), self.memory.copy()))
        super().update(slots)

    def search(self, queries, k):
        slots, similarity = super().search(queries, k)
        slots[..., 1:2] = slots[..., :1]
        if self.settings.constant:
            slots[:] = range(k)
        self.settings.log.append(("search", queries.copy(), self.memory.copy(), slots))
        return slots, similarity

    def reset(self):
        self.settings.log.append(("reset",))
        super().reset()

    def rebuild(self):
        self.settings.log.append(("rebuild",))
        super().rebuild()


def similarity_of(query, row, metric):
    q, m = np.float64(query), np.float64(row)
    if metric == "l2":
        return -sum((m - q) ** 2)
    return m @ q / np.sqrt((q @ q + 1e-6) * (m @ m + 1e-6))


def slow_recall(content, queries, found, k, metric):
    """Mean share of the k nearest of each memory's rows that are among `found` [B, H, k]."""
    shares = []
    for own, its_queries, its_found in zip(content, queries, found, strict=True):
        for query, slots in zip(its_queries, its_found, strict=True):
            similar = {slot: similarity_of(query, row, metric) for slot, row in own.items()}
            nearest = sorted(similar, key=similar.get)[-k:]
            shares.append(len(set(nearest) & set(slots.tolist())) / len(nearest) if own else 1)
    return sum(shares) / len(shares)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("constant", [False, True])
def test_every_step_meets_the_traced_rows_and_recall_is_that_of_a_slow_count(
    metric, dtype, constant
):
    trace, told = traces.make(metric, dtype), Told(constant=constant)
    replayed = replay(trace, told)
    # What is told in the rounds for recall and for time, without the episodes' starts.
    steps = [
        (*update[1:], *search[1:])
        for update, search in itertools.pairwise(told.log)
        if (update[0], search[0]) == ("update", "search")
    ]
    expected = list(traces.memories(trace))
    assert len(steps) == 2 * len(expected)
    rounds = zip(steps, [*range(traces.T)] * 2, expected * 2, strict=True)
    for (slots, at_update, queries, at_search, found), t, content in rounds:
        assert np.array_equal(slots, trace.slots[t])
        assert np.array_equal(queries, trace.queries[t])
        for memory in (at_update, at_search):
            whole = np.zeros((traces.B, traces.N, traces.W), dtype)
            for own, words in zip(content, whole, strict=True):
                words[[*own]] = np.array([*own.values()]).reshape(-1, traces.W)
            assert np.array_equal(memory, whole)
        recall = slow_recall(content, queries, found, traces.K, metric)
        assert replayed.recall[t] == pytest.approx(recall, abs=1e-12)
    assert (0.1 if constant else 0.5) < replayed.mean_recall < (0.4 if constant else 0.8)


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_an_index_finds_among_the_findable_rows_of_a_trace(backend):
    replayed = replay(traces.make(), backend)
    if backend == "exact":
        assert (replayed.recall == 1).all()
    assert replayed.mean_recall > 0.9
    assert replayed.backend.name == replayed.stats["name"] == backend
    assert replayed.bytes == replayed.stats["bytes"] > 0
    assert 0 < replayed.search_us < replayed.access_us
    assert replayed.update_us > 0


def test_an_episode_starts_with_an_index_of_its_rows_and_no_other():
    told = Told()
    replay(traces.make(), told, recall=False)
    # A warm-up over this short trace, which ends with a rebuild, and the round that is timed.
    half = len(told.log) // 2
    warm_up, (rebuild,), timed = told.log[:half], told.log[half : half + 1], told.log[half + 1 :]
    assert rebuild == ("rebuild",)
    step = ["update", "search"]
    from_some = ["reset", "update", "rebuild"]
    for log in (warm_up, timed):
        assert [entry[0] for entry in log] == [
            *["build", *step * 7],
            *[*from_some, *step * 5],
            *["build", *step * 8],
            *["reset", *step * 6],
        ]
        assert [entry[1] for entry in log if entry[0] == "build"] == ["none", "all"]
        assert log[16][1].tolist() == [[2, 3, 11, -1, -1], [0, 5, 7, 9, 23]]


@dataclasses.dataclass(frozen=True)
class Clocked(ann_backends.Settings):
    """`exact` on a clock of its own, in ns: a slow first call, a slow sixth update of each index.

    Otherwise a search takes 4,000, an update 1,000.
    """

    name: ClassVar[str] = "clocked"
    clock: list = dataclasses.field(default_factory=lambda: [0])

    def build(self, memory, *, seed=0, metric="cosine", findable="all"):
        self.clock[0] += 10**9
        index = ClockedIndex(self, memory, seed=seed, metric=metric, findable=findable)
        index.updates = 0
        return index


class ClockedIndex(ExactIndex):
    def update(self, slots):
        super().update(slots)
        self.updates += 1
        compiling = 10**12 * (self.settings.clock[0] < 10**12)
        self.settings.clock[0] += compiling + (50_000 if self.updates == 6 else 1_000)

    def search(self, queries, k):
        self.settings.clock[0] += 4_000
        return super().search(queries, k)

    def rebuild(self):
        self.settings.clock[0] += 10**9
        super().rebuild()


@pytest.mark.parametrize("recall", [True, False])
def test_times_are_of_updates_and_searches_alone_after_a_first_round(monkeypatch, recall):
    clocked = Clocked()
    monkeypatch.setattr(MODULE, "perf_counter_ns", lambda: clocked.clock[0])
    trace = traces.make()
    replayed = replay(trace, clocked, recall=recall)
    rows = sum(slot >= 0 for slot in trace.slots.flat)
    # Two indexes are built: at the first episode, which the second shares, and at the third.
    updates = 26 * 1_000 + 2 * 49_000
    assert replayed.search_us == pytest.approx(4 / 2)
    assert replayed.update_us == pytest.approx(updates / rows / 1e3)
    assert replayed.access_us == pytest.approx((updates + 26 * 4_000) / 26 / 2 / 1e3)


@pytest.mark.parametrize(("rebuild_every", "first"), [(10**6, 0), (20, None), (1, None)])
def test_rebuilds_are_those_during_the_steps(rebuild_every, first):
    trace = traces.make()
    expected = 0
    for episode in range(trace.num_episodes):
        insertions = [0, 0]
        for t in trace.steps(episode):
            for b in range(2):
                insertions[b] += sum(trace.slots[t, b] >= 0)
                if insertions[b] >= rebuild_every:
                    insertions[b], expected = 0, expected + 1
    assert replay(trace, "exact", rebuild_every=rebuild_every).rebuilds == expected
    assert expected > 4 if first is None else expected == first


def test_another_k_asks_for_that_many():
    assert (replay(traces.make(), "exact", k=1).recall == 1).all()
    assert replay(traces.make(), "exact", k=1).k == 1
    # With the second best replaced by the best, half of two are found, two of three.
    some = replay(traces.make(), Told(), k=2).recall[12:20]
    assert some.tolist() == [0.5] * 8
    assert replay(traces.make(), Told(), k=3).recall[12:20].tolist() == pytest.approx([2 / 3] * 8)


def test_the_seed_reaches_every_index():
    told = Told()
    assert replay(traces.make(), told, seed=5).seed == 5
    assert [entry[2] for entry in told.log if entry[0] == "build"] == [5] * 4


def test_recall_over_time_averages_equal_parts():
    replayed = replay(traces.make(), "exact")
    replayed = dataclasses.replace(replayed, recall=np.arange(26.0))
    assert replayed.recall_over_time(1).tolist() == [12.5]
    assert replayed.recall_over_time(13).tolist() == [2 * i + 0.5 for i in range(13)]
    assert replayed.recall_over_time(4).tolist() == [3, 10, 16.5, 22.5]
    assert replayed.mean_recall == 12.5
    for windows in (0, 27):
        with pytest.raises(ValueError, match=f"windows: got {windows}, expected .* 1 to 26"):
            replayed.recall_over_time(windows)


def test_without_recall_it_is_not_a_number():
    replayed = replay(traces.make(), "exact", recall=False)
    assert np.isnan(replayed.recall).all()
    assert replayed.recall.shape == (26,)
    assert np.isnan(replayed.mean_recall)
    assert np.isnan(replayed.recall_over_time(2)).all()


def test_the_trace_is_left_as_it_was():
    trace, untouched = traces.make(), traces.make()
    replay(trace, "kd_forest")
    for name in ann_backends.Trace.ARRAYS:
        assert np.array_equal(getattr(trace, name), getattr(untouched, name))


@pytest.mark.parametrize(
    ("backend", "settings", "error", "message"),
    [
        ("exakt", {}, ValueError, "backend: got 'exakt'.*did you mean 'exact'"),
        ("exact", {"checks": 2}, TypeError, "settings: got checks"),
        ("exact", {"k": 25}, ValueError, "k: got 25"),
        ("exact", {"k": 0}, ValueError, "k: got 0"),
        ("lsh", {}, ValueError, "metric: got 'l2', expected one of 'cosine'"),
    ],
)
def test_bad_arguments_are_named(backend, settings, error, message):
    with pytest.raises(error, match=message):
        replay(traces.make(metric="l2"), backend, **settings)


# Of recall itself: four rows on a line, where the one at the query is not findable.
ROWS = np.array([[[1.0, 0], [3, 0], [3, 0], [4, 0]]])
KNOWN = np.array([[True, True, True, False]])


@pytest.mark.parametrize(
    ("found", "best", "share"),
    [
        ([1, 2], [1, 2], 1),
        ([2, 1], [1, 2], 1),
        ([2], [1], 1),  # as near as the best
        ([1, 1], [1, 2], 0.5),
        ([1, 0], [1, 2], 0.5),
        ([0, 2], [1, 2], 0.5),
        ([-1, 2], [1, 2], 0.5),
        ([2, 3], [1, 2], 0.5),
        ([2, 4], [1, 2], 0.5),
        ([2, -7], [1, 2], 0.5),
        ([1, 2, 0, 3], [1, 2, 0, -1], 1),
        ([1, 2, 3, -1], [1, 2, 0, -1], 2 / 3),
        ([3, 0, -1], [0, -1, -1], 1),
        ([-1, -1], [-1, -1], 1),
    ],
)
def test_recall_counts_findable_rows_once_and_forgives_ties(found, best, share):
    slots = (np.array([[own]]) for own in (found, best))
    got = recall_of(*slots, np.array([[[4.0, 0]]]), ROWS, KNOWN, "l2")
    assert got.tolist() == [[pytest.approx(share)]]


def test_a_missing_slot_does_not_hide_that_slot_0_was_found():
    found, best = np.array([[[-1, 0]]]), np.array([[[0, -1]]])
    got = recall_of(found, best, np.array([[[1.0, 0]]]), ROWS, KNOWN, "l2")
    assert got.tolist() == [[1]]


def test_rounding_forgives_a_millionth_and_not_a_thousandth():
    rows = np.array([[[1.0, 0.0], [1.0, 1e-4], [1.0, 0.1]]])
    known, query, best = np.ones((1, 3), bool), np.array([[[1.0, 0.0]]]), np.array([[[0]]])
    shares = [
        recall_of(np.array([[[slot]]]), best, query, rows, known, "cosine").item()
        for slot in range(3)
    ]
    assert shares == [1, 1, 0]
