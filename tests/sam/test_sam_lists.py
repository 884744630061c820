"""Ranks and lists of slots beside NumPy's and Python's own."""

import numpy as np
import pytest

from sam.sparse.lists import collect
from sam.sparse.ranks import LANES, rank, room

COUNTS = [0, 1, 2, LANES - 1, LANES, LANES + 1, 3 * LANES - 5]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("count", COUNTS)
def test_a_rank_is_how_many_are_larger(count, dtype):
    rng = np.random.default_rng(count)
    numbers = rng.integers(-9, 9, room(count)).astype(dtype)  # with many that are equal
    numbers[count:] = np.iinfo(np.int64).max if dtype == np.int64 else np.nan  # belong to no list
    ranks = np.empty(room(count), np.int32)
    rank(numbers, count, ranks)
    own = numbers[:count]
    assert ranks[:count].tolist() == [(own > number).sum() for number in own]


def test_room_is_whole_vectors():
    assert [room(count) for count in (0, 1, LANES, LANES + 1)] == [0, LANES, LANES, 2 * LANES]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", COUNTS)
def test_a_list_has_each_slot_once_in_order_with_its_weights_added_in_theirs(count, dtype):
    rng = np.random.default_rng(count)
    slots, weights = rng.integers(0, 2 * count + 1, count), rng.random(count).astype(dtype)
    expected = {}
    for slot, weight in zip(slots.tolist(), weights, strict=True):
        expected[slot] = expected[slot] + weight if slot in expected else weight
    listed, totals = np.empty(count, np.int64), np.empty(count, dtype)
    size = collect(slots, weights, count, listed, totals)
    assert listed[:size].tolist() == sorted(expected)
    assert totals[:size].tolist() == [expected[slot] for slot in sorted(expected)]
