"""Threads that only search one index get what each would get alone."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

from ann_backends import Exact, KDForest, Settings

THREADS = 4


@pytest.fixture(autouse=True)
def threads_take_turns_often():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize(
    ("settings", "k"),
    [
        (KDForest(checks=512), 4),
        (KDForest(checks=64, trees=8), 64),
        (KDForest(sketch=True, checks=512), 4),
        (KDForest(sketch=True, checks=512, trees=3), 200),
        (KDForest(principal_axes=True), 4),
        (Exact(), 4),
        (Exact(), 300),
    ],
    ids=str,
)
@pytest.mark.parametrize("findable", ["all", "none"])
def test_threads_find_what_each_finds_alone(settings: Settings, k: int, findable: str) -> None:
    rng = np.random.default_rng(0)
    memory = rng.standard_normal((1, 4096, 8)).astype(np.float32)
    index = settings.build(memory, findable=findable)
    index.update(np.arange(4096)[None])
    queries = [rng.standard_normal((1, 4, 8)).astype(np.float32) for _ in range(12)]
    alone = [[part.tobytes() for part in index.search(query, k)] for query in queries]
    start = Barrier(THREADS)

    def work(first: int) -> int:
        start.wait()
        wrong = 0
        for turn in range(150):
            at = (first + turn) % len(queries)
            got = [part.tobytes() for part in index.search(queries[at], k)]
            wrong += got != alone[at]
        return wrong

    with ThreadPoolExecutor(THREADS) as pool:
        assert sum(pool.map(work, range(THREADS))) == 0
    assert [[part.tobytes() for part in index.search(q, k)] for q in queries] == alone


def test_threads_share_no_working_space_and_leave_little() -> None:
    """As many spaces as searches at once, no more."""
    index = KDForest().build(np.random.default_rng(0).standard_normal((1, 512, 4)))
    queries = np.random.default_rng(1).standard_normal((1, 4, 4))
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda _: index.search(queries, 4), range(400)))
    assert 1 <= len(index._spaces) <= THREADS
