"""Exact search by sketches gives, to the bit, what a scan of every row gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ann_backends
from ann_backends.exact import BLOCK, SKETCHED_FROM, STRETCH, ExactIndex
from tests.ann_backends.test_ann_exact import compare

# Enough rows to have sketches, and to begin a third stretch with them.
SIZE = 2 * STRETCH + BLOCK + 7


def built(memory: np.ndarray, **arguments: str) -> ExactIndex:
    index = ann_backends.create("exact", memory, **arguments)
    assert isinstance(index, ExactIndex)
    return index


def scanned(index: ExactIndex, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The answer of the same index when it reads every row."""
    plain = index._huge.copy()
    index._huge[:] = True
    answer = index.search(queries, k)
    index._huge[:] = plain
    return answer


def same(index: ExactIndex, queries: np.ndarray, k: int) -> None:
    for got, want in zip(index.search(queries, k), scanned(index, queries, k), strict=True):
        np.testing.assert_array_equal(got, want)


def rows(kind: str, count: int, word_size: int, rng: np.random.Generator) -> np.ndarray:
    """Rows that are hard to tell apart, or to hold in 8 bits: [count, W]."""
    random = rng.standard_normal((count, word_size))
    base = np.ones(word_size)
    made = {
        "random": random,
        "alike": base + 1e-3 * random,  # all within the slack
        "equal but for a digit": base + 1e-6 * random,
        "walk": random.cumsum(axis=0),
        "few": random[rng.integers(0, max(1, count // 40), count)],
        "one-hot": np.eye(word_size)[rng.integers(0, word_size, count)],
        "signs": np.sign(random),
        "zero": np.where(rng.random((count, 1)) < 0.5, 0 * random, random),
        "minus zero": np.where(rng.random((count, 1)) < 0.5, -0.0, random),
        "minute": random * 1e-30,
        "scaled": random * 10.0 ** rng.integers(-20, 20, (count, 1)),
        "huge": random * np.where(rng.random((count, 1)) < 0.1, 1e36, 1),
    }
    return made[kind].astype(np.float32)


KINDS = [
    *("random", "alike", "equal but for a digit", "walk", "few", "one-hot", "signs", "zero"),
    *("minus zero", "minute", "scaled", "huge"),
]


@pytest.mark.parametrize("word_size", [1, 5, 32, 33])
@pytest.mark.parametrize("kind", KINDS)
def test_sketches_change_no_answer(kind: str, word_size: int) -> None:
    rng = np.random.default_rng(word_size)
    memory = np.stack([rows(kind, SIZE, word_size, rng) for _ in range(2)])
    index = built(memory)
    near = memory[:, rng.integers(0, SIZE, 5)] * np.float32(0.5)
    far = rng.standard_normal((2, 4, word_size)).astype(np.float32)
    queries = np.concatenate([near, far, 0 * far[:, :1], -near[:, :1]], axis=1)
    for num_heads in (1, 4, 11):
        for k in (1, 4, 40, SIZE):
            same(index, queries[:, -num_heads:], k)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "huge"])
def test_answers_with_sketches_are_those_of_double_precision(kind: str) -> None:
    rng = np.random.default_rng(7)
    memory = rows(kind, SIZE, 20, rng)[None]
    queries = rng.standard_normal((1, 3, 20)).astype(np.float32)
    compare(built(memory), memory, np.ones((1, SIZE), bool), queries, 6)


def test_a_sketch_may_be_off_by_its_whole_slack() -> None:
    # A better row comes again and again, in two stretches. Its numbers are nearly half-way between
    # two of 8 bits and rounded down, so that its sketch scores less than the best row so far by
    # almost the slack.
    word_size, better = 64, 60 + 400 * np.arange(5)
    numbers = np.tile(np.arange(word_size) % 8 + 1.49, (SIZE, 1))
    numbers[better] += 3 + 0.0018 * np.arange(1, 6)[:, None]
    memory = np.zeros((1, SIZE, word_size + 1), np.float32)
    memory[0, :, :-1] = numbers / 127
    # All norms are 1, and so the factor from a number to its 8 bits is 127.
    memory[0, :, -1] = np.sqrt(1 - (memory[0, :, :-1].astype(float) ** 2).sum(1))
    query = np.ones((1, 1, word_size + 1), np.float32)
    query[..., -1] = 0
    index = built(memory)
    assert index.search(query, 1)[0] == better[-1]
    off = numbers - np.moveaxis(index._sketches[0], 2, 1).reshape(-1, 68)[:SIZE, :word_size]
    assert off.min() > 0.48
    assert off.max() < 0.5


def test_rows_that_are_equal_come_lowest_slot_first_wherever_they_stand() -> None:
    rng = np.random.default_rng(1)
    for word_size in (3, 16, 33):
        memory = rng.standard_normal((1, SIZE, word_size)).astype(np.float32)
        twins = np.sort(rng.choice(SIZE, 12, replace=False))
        memory[0, twins] = memory[0, twins[0]]
        index = built(memory)
        for query in (memory[:, twins[:1]], rng.standard_normal((1, 1, word_size))):
            found = index.search(query.astype(np.float32), SIZE)[0][0, 0]
            assert found[np.isin(found, twins)].tolist() == twins.tolist()
        assert index.search(memory[:, twins[:1]], 5)[0].tolist() == [[twins[:5].tolist()]]


def test_a_query_finds_what_only_its_own_head_asks_for() -> None:
    # Each head's best row lies in a block where the other heads' have nothing.
    rng = np.random.default_rng(2)
    memory = 0.1 * rng.standard_normal((1, SIZE, 16)).astype(np.float32)
    slots = 128 + 37 * np.arange(9)
    memory[0, slots, np.arange(9)] = 5
    queries = np.eye(9, 16, dtype=np.float32)[None]
    assert built(memory).search(queries, 1)[0][0, :, 0].tolist() == slots.tolist()


@settings(max_examples=25, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=2, max_size=4),
    actions=st.lists(st.sampled_from(["write", "remove", "rebuild", "reset"]), max_size=25),
    word_size=st.sampled_from([1, 4, 5, 32, 33]),
    num_heads=st.sampled_from([1, 2, 4, 5]),
    k=st.sampled_from([1, 4, 64]),
    start=st.sampled_from(["all", "none"]),
    seed=st.integers(0, 2**16),
)
def test_any_history_gives_the_scans_answers(
    kinds: list[str],
    actions: list[str],
    word_size: int,
    num_heads: int,
    k: int,
    start: str,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    memory = np.stack([rows(kind, SIZE, word_size, rng) for kind in kinds[:2]])
    index = built(memory, findable=start)
    for action in ["write", *actions, "rebuild"]:
        slots = rng.integers(-1, SIZE, (2, int(rng.integers(1, 300))))
        if action == "write":
            for b, own in enumerate(slots):
                own = own[own >= 0]
                memory[b, own] = rows(str(rng.choice(kinds)), own.size, word_size, rng)
            index.update(slots)
        elif action == "remove":
            index.remove(slots)
        elif action == "rebuild":
            index.rebuild()
        else:
            index.reset()
        queries = memory[:, rng.integers(0, SIZE, num_heads)]
        queries += rng.standard_normal(queries.shape).astype(np.float32) / 4
        same(index, queries, k)
        # An index that is new, but for the rows it may find, knows no less.
        fresh = built(memory, findable="none")
        findable = [np.flatnonzero(own) for own in index._scale]
        for b, own in enumerate(findable):
            announced = np.full((2, own.size), -1)
            announced[b] = own
            fresh.update(announced)
        np.testing.assert_array_equal(fresh.search(queries, k)[0], index.search(queries, k)[0])


def test_thousands_of_steps_give_the_scans_answers() -> None:
    rng = np.random.default_rng(3)
    memory = np.zeros((2, SIZE, 24), np.float32)
    index = built(memory, findable="none")
    word = rng.standard_normal((2, 1, 24))
    for step in range(3000):
        slots = rng.integers(-1, min(SIZE, step + 1), (2, 3))
        word = 0.99 * word + 0.1 * rng.standard_normal((2, 1, 24))
        for b, own in enumerate(slots):
            memory[b, own[own >= 0]] = word[b]
        index.update(slots)
        if step % 7 == 0:
            index.remove(rng.integers(-1, SIZE, (2, 2)))
        same(index, (word + 0.2 * rng.standard_normal((2, 4, 24))).astype(np.float32), 4)


def test_rows_outside_what_is_findable_may_hold_anything() -> None:
    rng = np.random.default_rng(4)
    memory = rng.standard_normal((1, SIZE, 8)).astype(np.float32)
    index = built(memory)
    gone = np.arange(0, SIZE, 3)
    index.remove(gone[None])
    queries = memory[:, gone[100:104]].copy()
    memory[0, gone] = np.nan
    slots, similarity = index.search(queries, SIZE)
    kept = SIZE - gone.size
    assert not np.isin(slots[..., :kept], gone).any()
    assert np.isfinite(similarity[..., :kept]).all()
    assert (slots[..., kept:] == -1).all()
    same(index, queries, 5)


@pytest.mark.parametrize("num_heads", [1, 3, 4])
def test_rows_are_passed_over_by_their_sketches(num_heads: int) -> None:
    # A change that is not announced shows which rows are read. All lengths are equal.
    memory = np.sign(np.random.default_rng(5).standard_normal((1, SIZE, 32))).astype(np.float32)
    queries = np.ones((1, num_heads, 32), np.float32)
    index = built(memory)
    memory[0, STRETCH:] = 1
    assert (scanned(index, queries, 1)[0] == STRETCH).all()
    assert (index.search(queries, 1)[0] > STRETCH).all()


def test_a_huge_row_keeps_the_sketches_aside_until_the_next_rebuild() -> None:
    memory = np.ones((2, SIZE, 4), np.float32)
    index = built(memory)
    memory[1, 3] = 4e36
    index.update([[-1], [3]])
    assert index._huge.tolist() == [False, True]
    memory[1, 3] = 1
    index.update([[-1], [3]])
    index.rebuild()
    assert index._huge.tolist() == [False, False]


@pytest.mark.parametrize(
    ("dtype", "metric", "size", "per_row"),
    [
        ("float32", "cosine", SKETCHED_FROM, 4 + 32),
        ("float32", "cosine", SKETCHED_FROM - 1, 4),
        ("float32", "l2", SKETCHED_FROM, 4),
        ("float64", "cosine", SKETCHED_FROM, 8),
        ("float64", "l2", SKETCHED_FROM, 8),
    ],
)
def test_bytes_tell_of_the_sketches(dtype: str, metric: str, size: int, per_row: int) -> None:
    memory = np.random.default_rng(6).standard_normal((2, size, 30)).astype(dtype)
    told = built(memory, metric=metric).stats()["bytes"]
    assert 0 <= told - 2 * size * per_row < 64
