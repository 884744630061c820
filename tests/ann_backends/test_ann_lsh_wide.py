"""lsh with sketches: its structure, what it promises of fresh rows, crowds, recall and wear."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ann_backends
from ann_backends import LSH
from ann_backends.lsh_wide import WideLSHIndex
from ann_backends.lsh_wide_search import _codes_within, _nearest_codes
from ann_backends.lsh_wide_tables import (
    AXES,
    BITS,
    BLOCK,
    CODES,
    FINDABLE,
    FREE,
    LARGEST,
    LISTED,
    LOAD,
    NEWEST,
    RECENT,
    SIZE,
    USED,
)
from ann_backends.sketch import LANES


def built(memory: np.ndarray, findable: str = "all", seed: int = 0, **chosen: Any) -> WideLSHIndex:
    settings = {"tables": 1, "probes": 16} | chosen
    return LSH(sketch=True, **settings).build(memory, findable=findable, seed=seed)


def check_structure(index: WideLSHIndex, findable: np.ndarray) -> None:
    """Every array of the index agrees with the others and with what should be findable [B, N]."""
    for b, own in enumerate(findable):
        check_members(index, b, np.flatnonzero(own))
        blocks = [
            check_bucket(index, b, bucket) for bucket in np.ndindex(index._tables.buckets.shape[1])
        ]
        check_blocks(index, b, list(itertools.chain(*blocks)))


def check_members(index: WideLSHIndex, b: int, expected: np.ndarray) -> None:
    tables = index._tables
    members = tables.members[b, : tables.state[b, FINDABLE]]
    assert sorted(members) == expected.tolist()
    assert (tables.records[b, members, LISTED] == np.arange(1, members.size + 1)).all()
    assert np.count_nonzero(tables.records[b, :, LISTED]) == members.size
    places = tables.records[b, :, CODES + index.settings.tables :]
    assert (places[np.setdiff1d(np.arange(index.memory_size), members)] == 0).all()
    assert tables.buckets[b, :, SIZE].sum() == np.count_nonzero(places)
    if members.size <= LARGEST:
        assert (places[members] > 0).all(), "a row is missing in a table"


def check_bucket(index: WideLSHIndex, b: int, bucket: tuple[int, ...]) -> list[int]:
    """Its rows stand there by their own account, with their sketches; the bucket's blocks."""
    tables, number = index._tables, index.settings.tables
    t, code = divmod(bucket[0], tables.buckets.shape[1] // number)
    blocks, block = [], int(tables.buckets[b, bucket[0], NEWEST])
    while block:
        blocks.append(block)
        block = int(tables.older[b, block])
    size = int(tables.buckets[b, bucket[0], SIZE])
    assert len(blocks) == -(-size // BLOCK)
    assert size == 0 or code < 1 << tables.state[b, BITS]
    for i, block in enumerate(blocks):
        fill = (size - 1) % BLOCK + 1 if i == 0 else BLOCK
        slots = lanes_of(index, b, block, tables.slots)[:fill, -1]
        records = tables.records[b, slots]
        assert (records[:, CODES + t] == code).all()
        assert (records[:, CODES + number + t] == block * BLOCK + np.arange(fill)).all()
        assert (sketches_of(index, b, block)[:fill] == expected_sketches(index, b, slots)).all()
    return blocks


def sketches_of(index: WideLSHIndex, b: int, block: int) -> np.ndarray:
    """[BLOCK, W], as they stand."""
    return lanes_of(index, b, block, index._tables.sketches)[:, : index.word_size]


def lanes_of(index: WideLSHIndex, b: int, block: int, groups: np.ndarray) -> np.ndarray:
    """What `groups` holds of each row of a block: [BLOCK, ...]."""
    own = groups.reshape(index.batch_size, -1, BLOCK // LANES, *groups.shape[1:])[b, block]
    return np.moveaxis(own, 2, 1).reshape(BLOCK, -1)


def expected_sketches(index: WideLSHIndex, b: int, slots: np.ndarray) -> np.ndarray:
    words = index.memory[b, slots].astype(np.float64)
    return np.rint(words * (127 / np.sqrt((words**2).sum(1, keepdims=True) + 1e-6)))


def check_blocks(index: WideLSHIndex, b: int, blocks: list[int]) -> None:
    """Every block in use is in one bucket or waits to be used again."""
    waiting, block = [], int(index._tables.state[b, FREE])
    while block:
        waiting.append(block)
        block = int(index._tables.older[b, block])
    assert sorted(blocks + waiting) == list(range(1, index._tables.state[b, USED] + 1))


steps = st.lists(
    st.tuples(
        st.sampled_from(["update", "update", "remove", "reset", "rebuild"]),
        st.lists(st.integers(-1, 399), min_size=1, max_size=150),
        st.sampled_from(["random", "duplicate", "zero"]),
    ),
    max_size=10,
)


@settings(max_examples=40, deadline=None)
@given(
    steps=steps,
    tables=st.integers(1, 3),
    bits=st.sampled_from([None, 0, 6]),
    start=st.sampled_from(["all", "none"]),
    rebuild_every=st.sampled_from([None, 70]),
    dtype=st.sampled_from(["float32", "float64"]),
    seed=st.integers(0, 2**16),
)
def test_any_history_leaves_a_sound_structure(
    steps: list[tuple[str, list[int], str]],
    tables: int,
    bits: int | None,
    start: str,
    rebuild_every: int | None,
    dtype: str,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    memory = rng.standard_normal((2, 400, 6)).astype(dtype)
    findable = np.full((2, 400), start == "all")
    index = built(memory, start, tables=tables, bits=bits, rebuild_every=rebuild_every)
    check_structure(index, findable)
    for action, given_slots, word in steps:
        slots = np.array([given_slots, [(s + 1) % 400 for s in given_slots]])
        rows = [own[own >= 0] for own in slots]
        if action == "update":
            for b, own in enumerate(rows):
                memory[b, own] = {
                    "random": rng.standard_normal((own.size, 6)),
                    "duplicate": memory[b, 0].copy(),
                    "zero": -0.0,
                }[word]
                findable[b, own] = True
            index.update(slots)
        elif action == "remove":
            for b, own in enumerate(rows):
                findable[b, own] = False
            index.remove(slots)
        elif action == "reset":
            findable[:] = False
            index.reset()
        else:
            index.rebuild()
        check_structure(index, findable)


@pytest.mark.parametrize("seed", [0, 5])
@pytest.mark.parametrize(
    "chosen",
    [
        {"tables": 2, "probes": 16},
        {"tables": 1, "probes": 64, "bits": 7, "rebuild_every": 40},
        {"tables": 2, "probes": 64, "reach": 0.3},
    ],
)
def test_it_conforms(chosen: dict[str, Any], seed: int) -> None:
    ann_backends.testing.check_backend(LSH(sketch=True, **chosen), seed=seed)


def vertices(coordinates: np.ndarray, bits: int) -> list[tuple[int, np.ndarray]]:
    """Per cross-polytope, the bits of its part of a code and the query's coordinate at each."""
    parts = []
    while bits > 0:
        size = min(bits, 4)
        axes, coordinates = coordinates[: 2 ** (size - 1)], coordinates[AXES:]
        parts.append((size, np.stack([-axes, axes], 1).ravel()))
        bits -= size
    return parts


@pytest.mark.parametrize("bits", [0, 1, 3, 4, 7, 11])
def test_codes_are_the_nearest_vertices_and_probes_the_next_nearest(bits: int) -> None:
    rng = np.random.default_rng(bits)
    memory = rng.standard_normal((1, 50, 20))
    index = built(memory, bits=bits)
    for slot, word in enumerate(memory[0]):
        coordinates = word @ index._tables.axes / np.linalg.norm(word)
        own, distances = 0, np.zeros(1)
        for size, values in vertices(coordinates, bits):
            own = own << size | int(values.argmax())
            gaps = (values.max() - values) ** 2
            distances = (distances[:, None] + gaps).ravel()
        assert index._tables.records[0, slot, CODES] == own
        for probes in (1, 7, 64, 5000):
            codes, _ = _nearest_codes(coordinates, bits, probes)
            assert codes[0] == own
            assert np.unique(codes).size == codes.size == min(probes, 1 << bits)
            nearest = np.sort(distances)[: codes.size]
            np.testing.assert_allclose(np.sort(distances[codes]), nearest, atol=1e-6)


@pytest.mark.parametrize("farthest", [0.0, 0.01, 0.1, 0.5, np.inf])
@pytest.mark.parametrize("bits", [0, 2, 4, 11])
def test_the_codes_within_a_distance_are_all_that_are_no_farther(
    bits: int, farthest: float
) -> None:
    rng = np.random.default_rng(bits)
    for _ in range(20):
        coordinates = rng.standard_normal(3 * AXES).astype(np.float32) / 5
        own, distances = 0, np.zeros(1)
        for size, values in vertices(coordinates, bits):
            own = own << size | int(values.argmax())
            distances = (distances[:, None] + (values.max() - values) ** 2).ravel()
        within = np.flatnonzero(distances <= farthest)
        for probes in (1, 7, 3000):
            codes, given = _codes_within(coordinates, bits, probes, farthest)
            assert codes[0] == own
            np.testing.assert_allclose(given, distances[codes], atol=1e-6)
            if within.size <= probes:
                assert sorted(codes) == within.tolist()
            else:
                nearest = np.sort(distances)[: codes.size]
                assert codes.size == probes
                np.testing.assert_allclose(np.sort(given), nearest, atol=1e-6)


def test_of_buckets_equally_near_no_more_are_probed_than_asked_for() -> None:
    codes, _ = _nearest_codes(np.zeros(3 * AXES), 9, 7)
    assert codes[0] == 0
    assert np.unique(codes).size == codes.size == 7


@pytest.mark.parametrize("word_size", [3, 16, 32])
def test_the_axes_of_a_table_are_orthogonal(word_size: int) -> None:
    index = built(np.zeros((1, 4096, word_size)), findable="none", tables=2)
    for axes in np.split(index._tables.axes, 2, axis=1):
        for first in range(0, axes.shape[1], word_size):
            some = axes[:, first : first + word_size]
            np.testing.assert_allclose(some.T @ some, np.eye(some.shape[1]), atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("tables", [1, 3])
def test_looking_everywhere_finds_everything(dtype: str, tables: int) -> None:
    rng = np.random.default_rng(0)
    memory = rng.standard_normal((2, 3000, 16)).astype(dtype)
    queries = rng.standard_normal((2, 8, 16)).astype(dtype)
    index = built(memory, tables=tables, probes=128)
    exact = ann_backends.create("exact", memory)
    for _ in range(5):
        slots = rng.integers(0, 3000, (2, 400))
        for b in range(2):
            memory[b, slots[b]] = rng.standard_normal((400, 16))
        index.update(slots)
        exact.update(slots)
        # The best 16 by their sketches hold the best 4.
        assert (index.search(queries, 4)[0] == exact.search(queries, 4)[0]).all()


def clustered(rng: np.random.Generator, memory_size: int) -> np.ndarray:
    """Rows [1, N, 32] around N / 256 centres."""
    centres = rng.standard_normal((memory_size // 256, 32), np.float32)
    chosen = centres[rng.integers(0, len(centres), memory_size)]
    return (chosen + np.float32(0.3) * rng.standard_normal(chosen.shape, np.float32))[None]


def near(rng: np.random.Generator, memory: np.ndarray, number: int) -> np.ndarray:
    """Queries [number, 1, 4, W], each close to a row."""
    rows = memory[0, rng.integers(0, memory.shape[1], (number, 1, 4))]
    return rows + np.float32(0.1) * rng.standard_normal(rows.shape, np.float32)


def recall(index: Any, memory: np.ndarray, queries: np.ndarray) -> float:
    """Recall@4; equally near rows count alike."""
    exact = ann_backends.create("exact", memory)
    least = np.concatenate([exact.search(own, 4)[1][..., -1:] for own in queries])
    found = np.concatenate([index.search(own, 4)[1] for own in queries])
    return float((found >= least - 1e-5).mean())


@pytest.mark.parametrize("tables", [1, 2])
def test_a_reach_leaves_out_what_is_far_for_what_was_found(tables: int) -> None:
    rng = np.random.default_rng(7)
    memory = clustered(rng, 16_384)
    queries = near(rng, memory, 50)
    index = built(memory, tables=tables, bits=10, probes=256)
    without = [
        recall(index, memory, queries),
        *(index.search(own, 4)[0].tolist() for own in queries),
    ]
    found = []
    for index.reach in (0.01, 0.1, 0.5):
        found.append(recall(index, memory, queries))
    assert found[0] < found[1] < found[2]
    assert found[2] > without[0] - 0.01
    for index.reach in (None, 1e9):
        again = [recall(index, memory, queries)]
        assert [*again, *(index.search(own, 4)[0].tolist() for own in queries)] == without
    with pytest.raises(ValueError, match="reach: got 0, expected a number above 0"):
        index.reach = 0
    assert index.reach == 1e9
    index.reset()
    assert index.reach == 1e9
    index.reach = np.float32(0.5)
    assert type(index.reach) is float
    assert index.reach == 0.5


def test_recall_grows_with_probes_and_with_tables() -> None:
    rng = np.random.default_rng(1)
    memory = clustered(rng, 16_384)
    queries = near(rng, memory, 50)
    index = built(memory)
    by_probes = []
    for index.probes in (1, 2, 4, 16):
        by_probes.append(recall(index, memory, queries))
    by_tables = [recall(built(memory, tables=t, probes=2), memory, queries) for t in (1, 2, 4)]
    for found in (by_probes, by_tables):
        assert (np.diff(found) > 0.02).all(), found
    assert by_probes[-1] > 0.97


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("distance", [0, 1e-6, 1e-4, 3e-3])
def test_a_row_is_found_first_in_a_crowd(dtype: str, distance: float) -> None:
    """Thousands of rows with the same sketches or nearly so, and each found by its own words."""
    rng = np.random.default_rng(2)
    memory = (rng.standard_normal(16) + distance * rng.standard_normal((1, 6000, 16))).astype(dtype)
    index = built(memory, probes=1)
    for _ in range(3):
        slots = rng.permutation(6000)[None, :20]
        memory[0, slots[0]] = memory[0, 0] + distance * rng.standard_normal((20, 16))
        index.update(slots)
    asked = rng.permutation(6000)[:50]
    found, similarity = index.search(memory[:, asked], 4)
    # Otherwise several are equally near, as far as a similarity can tell.
    if distance >= (3e-3 if dtype == "float32" else 1e-6):
        assert (found[0, :, 0] == asked).all()
    assert (similarity[0, :, 0] > 1 - 1e-6).all()


@pytest.mark.parametrize("tables", [1, 2])
def test_the_rows_written_last_are_found_first_though_a_bucket_overflows(tables: int) -> None:
    rng = np.random.default_rng(3)
    memory_size = LARGEST + 2000
    base = 100 * rng.standard_normal(4)
    memory = base + 0.1 * rng.standard_normal((1, memory_size, 4))
    index = built(memory, tables=tables, bits=1, probes=1)
    assert index._tables.buckets[..., SIZE].max() == LARGEST
    for _ in range(30):
        slots = rng.permutation(memory_size)[None, :RECENT]
        memory[0, slots[0]] = base + 0.1 * rng.standard_normal((RECENT, 4))
        index.update(slots)
        assert (index.search(memory[:, slots[0]], 4)[0][..., 0] == slots).all()
    check_structure(index, np.ones((1, memory_size), bool))
    # Where there is room again a rebuild finds places for the rows that had none.
    index.remove(np.arange(3000)[None])
    index.rebuild()
    check_structure(index, np.arange(memory_size)[None] >= 3000)
    asked = np.arange(3000, memory_size, 50)
    assert (index.search(memory[:, asked], 1)[0][0, :, 0] == asked).all()


def test_codes_lengthen_as_rows_come_and_none_is_lost() -> None:
    rng = np.random.default_rng(4)
    memory = np.full((1, 4096, 8), np.nan)
    index = built(memory, findable="none", tables=2)
    for first in range(0, 4096, 64):
        slots = (np.arange(first, first + 64) * 5) % 4096
        memory[0, slots] = rng.standard_normal((64, 8))
        index.update(slots[None])
        known = np.flatnonzero(np.isfinite(memory[0, :, 0]))
        asked = rng.choice(known, 10)
        assert (index.search(memory[:, asked], 1)[0][0, :, 0] == asked).all()
    assert index.stats()["findable"] == [4096]
    assert index._tables.state[0, BITS] == np.log2(4096 / LOAD)
    check_structure(index, np.ones((1, 4096), bool))


def test_a_lonely_query_still_gets_k_rows() -> None:
    """Every row is in one place and the query opposite, where all probed buckets are empty."""
    memory = np.tile(np.ones(8), (1, 1000, 1)) + np.random.default_rng(5).random((1, 1000, 8)) / 100
    index = built(memory, probes=1)
    for k in (1, 4, 700, 1000):
        slots, similarity = index.search(-np.ones((1, 1, 8)), k)
        assert np.unique(slots).size == k
        assert (slots >= 0).all()
        expected = ann_backends.similarity(-np.ones((1, 1, 8)), memory[:, slots[0, 0]])
        np.testing.assert_allclose(similarity, expected)


@pytest.mark.parametrize("length", [1e-30, 1e15, 1e30])
def test_cosine_survives_extreme_lengths(length: float) -> None:
    memory = np.random.default_rng(2).standard_normal((1, 20, 8)).astype(np.float32)
    queries = memory[:, :4] * np.float32(1e15)
    memory[0, 4:] *= np.float32(length)
    slots, similarity = built(memory).search(queries, 20)
    assert (np.sort(slots) == np.arange(20)).all()
    words = memory[0, slots].astype(np.float64)
    expected = ann_backends.similarity(queries.astype(np.float64)[:, :, None], words)[0, :, 0]
    np.testing.assert_allclose(similarity[0], expected, atol=1e-6)


def test_the_seed_decides_the_answers() -> None:
    memory = np.random.default_rng(6).standard_normal((1, 8000, 32), np.float32)
    queries = memory[:, :50] + 1
    found = [built(memory, seed=seed, probes=4).search(queries, 4)[0] for seed in (0, 0, 1)]
    assert (found[0] == found[1]).all()
    assert (found[0] != found[2]).any()


def test_rebuilding_takes_the_rows_as_they_are() -> None:
    memory = np.random.default_rng(7).standard_normal((1, 2000, 16))
    index = built(memory, probes=1)
    memory[:] = memory[:, ::-1].copy()
    index.rebuild()
    assert (index.search(memory[:, :100], 1)[0][0, :, 0] == np.arange(100)).all()


def test_what_removed_rows_leave_behind_hides_nothing() -> None:
    rng = np.random.default_rng(11)
    memory = rng.standard_normal((1, 400, 8))
    query = rng.standard_normal((1, 1, 8))
    memory[0, 257:] = query[0, 0] + 0.01 * rng.standard_normal((143, 8))
    index, exact = built(memory, bits=0), ann_backends.create("exact", memory)
    removed = np.arange(399, 256, -1)[None]
    for each in (index, exact):
        each.remove(removed)
    assert index._tables.state[0, FINDABLE] % LANES == 1, "a group of 1 row and 15 that are gone"
    assert (index.search(query, 4)[0] == exact.search(query, 4)[0]).all()


def test_probes_may_be_assigned_and_outlive_a_reset() -> None:
    index = built(np.random.default_rng(8).standard_normal((1, 500, 8)))
    index.probes = 3
    index.reset()
    assert index.probes == 3
    with pytest.raises(ValueError, match="probes: got 0, expected an integer from 1 to 65536"):
        index.probes = 0
    assert index.probes == 3


RESIDENT = """
import mmap, numpy as np, ann_backends
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * mmap.PAGESIZE
def create(memory_size):
    memory = np.zeros((1, memory_size, 32), np.float32)
    settings = ann_backends.LSH(tables=2, probes=32, sketch=True)
    return ann_backends.create(settings, memory, findable="none")
queries, slot = np.ones((1, 4, 32), np.float32), np.array([[7]])
index = create(1048576)
index.update(slot), index.search(queries, 4), index.reset()
before = resident()
index = create(1048576)
created = resident() - before
for slot in range(0, 1048576, 65536):
    index.update(np.array([[slot]]))
    index.search(queries, 4)
used = resident() - before
index.reset()
print(created, used, resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_empty_index_of_a_million_words_is_not_resident() -> None:
    done = subprocess.run([sys.executable, "-c", RESIDENT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    created, used, after_reset = map(int, done.stdout.split())
    assert created < 1 << 20
    assert after_reset < 1 << 20
    assert used < 2 << 20


def median_seconds(index: WideLSHIndex, queries: np.ndarray) -> float:
    """The median over the queries of the best of five, which a busy machine disturbs least."""
    best = np.full(len(queries), np.inf)
    for _ in range(5):
        for i, own in enumerate(queries):
            start = time.perf_counter()
            index.search(own, 4)
            best[i] = min(best[i], time.perf_counter() - start)
    return float(np.median(best))


@pytest.mark.slow
def test_overwriting_everything_three_times_changes_neither_recall_nor_time() -> None:
    """A memory of 65,536 words, 20 rows a call, no rebuild: as good and as fast as a new index."""
    rng = np.random.default_rng(9)
    memory = clustered(rng, 65_536)
    worn = built(memory, probes=64, rebuild_every=2**62)
    for _ in range(3):
        words, order = clustered(rng, 65_536), rng.permutation(65_536)
        for first in range(0, order.size, 20):
            slots = order[first : first + 20]
            memory[0, slots] = words[0, slots]
            worn.update(slots[None])
    check_structure(worn, np.ones((1, 65_536), bool))
    queries = near(rng, memory, 200)
    fresh = built(memory, probes=64)
    found = [recall(index, memory, queries) for index in (fresh, worn)]
    taken = [median_seconds(index, queries) for index in (fresh, worn)]
    print(f"recall fresh, worn: {found}; us: {np.array(taken) * 1e6}")
    assert found[1] >= 0.9 * found[0]
    assert taken[1] <= 1.2 * taken[0]


@pytest.mark.slow
@pytest.mark.parametrize(("memory_size", "access"), [(65_536, 150e-6), (1_048_576, 300e-6)])
def test_an_access_at_high_recall_costs_a_fraction_of_a_millisecond(
    memory_size: int, access: float
) -> None:
    """Recall@4 of 0.95 near clustered rows; the bounds are over twice a quiet machine's times."""
    rng = np.random.default_rng(10)
    memory = clustered(rng, memory_size)
    queries = near(rng, memory, 200)
    index = built(memory, probes=512, reach=0.4)
    found = recall(index, memory, queries)
    search = median_seconds(index, queries)
    taken = []
    for _ in range(200):
        slots = rng.integers(0, memory_size, (1, 20))
        memory[0, slots[0]] = memory[0, rng.integers(0, memory_size, 20)]
        start = time.perf_counter()
        index.update(slots)
        taken.append(time.perf_counter() - start)
    update = float(np.median(taken))
    print(f"recall {found:.3f}, search {search * 1e6:.0f} us, row {update / 20 * 1e6:.2f} us")
    assert found >= 0.95
    assert update <= 20 * 8e-6
    assert search + update <= access
