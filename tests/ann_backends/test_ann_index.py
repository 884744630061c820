"""The contract's edges: tensors, views, error messages, lazily resident memory, speed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numba import njit

import ann_backends


def test_tensors_are_taken_like_arrays() -> None:
    memory = torch.randn(2, 16, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    index = ann_backends.create("exact", memory)
    with torch.no_grad():
        memory[1, 3] = 5.0
    index.update(torch.tensor([[0], [3]]))
    slots, similarity = index.search(torch.full((2, 1, 4), 5.0), 2)
    assert isinstance(slots, np.ndarray)
    assert slots[1, 0, 0] == 3
    assert similarity[1, 0, 0] == pytest.approx(1)


@pytest.mark.parametrize(
    ("memory", "message"),
    [
        (np.zeros((2, 3)), r"memory: got shape \[2, 3\], expected \[B, N, W\]"),
        (np.zeros((2, 0, 3)), r"memory: got shape \[2, 0, 3\]"),
        (np.zeros((1, 2, 3), int), "memory: got dtype int64, expected float32 or float64"),
        (np.zeros((1, 3, 2)).transpose(0, 2, 1), "memory: got an array that is not C-contiguous"),
        ([[[1.0]]], "memory: got list, expected a NumPy array or a CPU tensor"),
        (torch.zeros(1, 2, 3, dtype=torch.bfloat16), "memory: got Tensor that NumPy cannot view"),
        (torch.zeros(1, 2, 3, device="meta"), "memory: got Tensor that NumPy cannot view"),
        (torch.zeros(1, 3, 2).transpose(1, 2), "memory: got an array that is not C-contiguous"),
        (np.full((1, 2, 3), np.inf), "memory: got NaN or infinite values"),
    ],
)
def test_bad_memory_is_named(memory: object, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        ann_backends.create("exact", memory)  # type: ignore[arg-type]


def test_messages_say_what_came_and_what_was_expected() -> None:
    index = ann_backends.create("exact", np.ones((2, 8, 4)))
    queries = np.ones((2, 1, 4))
    with pytest.raises(ValueError, match="k: got 9, expected an integer from 1 to 8"):
        index.search(queries, 9)
    with pytest.raises(TypeError, match="queries: got dtype float32, expected float64"):
        index.search(queries.astype(np.float32), 1)
    with pytest.raises(ValueError, match=r"queries: got shape \[1, 1, 4\], expected \[2, H, 4\]"):
        index.search(queries[:1], 1)
    with pytest.raises(ValueError, match="queries: got NaN or infinite"):
        index.search(queries * np.nan, 1)
    with pytest.raises(ValueError, match=r"slots: got values from 0 to 8, expected slots from 0"):
        index.update(np.array([[0], [8]]))
    with pytest.raises(ValueError, match=r"slots: got shape \[3\], expected \[2, n\]"):
        index.remove(np.arange(3))
    with pytest.raises(ValueError, match="metric: got 'dot', expected one of 'cosine', 'l2'"):
        ann_backends.create("exact", np.ones((1, 2, 2)), metric="dot")


def test_strided_queries_and_slots_are_welcome() -> None:
    memory = np.random.default_rng(0).standard_normal((2, 8, 4))
    index = ann_backends.create("exact", memory, findable="none")
    index.update(np.arange(8).reshape(4, 2).T)
    queries = np.ascontiguousarray(memory.transpose(2, 1, 0)).transpose(2, 1, 0)
    own = np.array([[0, 2, 4, 6], [1, 3, 5, 7]])
    found = index.search(queries, 1)[0][..., 0]
    assert (np.take_along_axis(found, own, 1) == own).all()


def test_rebuilds_come_after_as_many_insertions_as_rows() -> None:
    index = ann_backends.create("exact", np.ones((2, 8, 4)))
    for _ in range(2):
        index.update(np.array([[0, 1, 2], [3, -1, -1]]))
    assert index.stats()["updates"] == [6, 2]
    index.update(np.array([[0, 1], [3, -1]]))
    assert index.stats()["updates"] == [0, 3]
    assert index.stats()["rebuilds"] == 1


RESIDENT = """
import mmap, numpy as np, ann_backends
def resident():
    fields = open("/proc/self/statm").read().split()
    return int(fields[1]) * mmap.PAGESIZE
def create(memory_size):
    return ann_backends.create("exact", np.zeros((1, memory_size, 32), np.float32), findable="none")
queries, slot = np.ones((1, 4, 32), np.float32), np.array([[77]])
index = create(64)
index.update(slot - 70), index.search(queries, 4), index.reset()
before = resident()
index = create(1048576)
created = resident() - before
for slot in range(0, 1048576, 65536):
    index.update(np.array([[slot]]))
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


@njit(nogil=True, fastmath=True)
def total(values: np.ndarray) -> float:
    """Reads everything once, as fast as this machine does."""
    result = values.dtype.type(0)
    for i in range(values.size):
        result += values[i]
    return result


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


@pytest.mark.slow
def test_a_search_takes_at_most_twice_the_reading_of_the_memory() -> None:
    rng = np.random.default_rng(0)
    memory = rng.standard_normal((1, 1_048_576, 32), np.float32)
    queries = rng.standard_normal((1, 4, 32), np.float32)
    index = ann_backends.create("exact", memory)
    flat = memory.reshape(-1)
    index.search(queries, 4), total(flat)
    # Taken in turns, so that a busy moment of the machine meets both.
    pairs = [
        (seconds(lambda: index.search(queries, 4)), seconds(lambda: total(flat))) for _ in range(25)
    ]
    search, reading = np.median(pairs, axis=0)
    assert search <= 2 * reading, f"search {search * 1e3:.1f} ms, reading {reading * 1e3:.1f} ms"


@pytest.mark.slow
def test_a_step_of_a_small_memory_costs_microseconds() -> None:
    rng = np.random.default_rng(0)
    memory = rng.standard_normal((8, 64, 32), np.float32)
    queries, slots = rng.standard_normal((8, 4, 32), np.float32), rng.integers(0, 64, (8, 20))
    index = ann_backends.create("exact", memory)

    def step() -> None:
        index.update(slots)
        index.search(queries, 4)

    step()
    assert np.median([seconds(step) for _ in range(2000)]) < 100e-6
