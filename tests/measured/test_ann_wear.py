"""What three lives of a memory do to an index: search time and recall beside a fresh build's."""

import time

import numpy as np
import pytest

import ann_backends

pytestmark = pytest.mark.slow

MEMORY_SIZE, WORD_SIZE, NUM_HEADS, K = 65_536, 32, 4, 4
CENTRES = MEMORY_SIZE // 256
ROWS_PER_STEP = 20
QUERIES, ROUNDS = 500, 9


def clustered(rng, centres, count):
    """Rows [count, W] around randomly chosen centres."""
    spread = 0.3 * rng.standard_normal((count, WORD_SIZE), dtype=np.float32)
    return centres[rng.integers(0, len(centres), count)] + spread


def worn_and_fresh(backend, lives, rng, **settings):
    """An index whose rows have been overwritten `lives` times, and one just built; the memory."""
    centres = rng.standard_normal((CENTRES, WORD_SIZE), dtype=np.float32)
    memory = clustered(rng, centres, MEMORY_SIZE)[None]
    worn = ann_backends.create(backend, memory, **settings)
    order = np.concatenate([rng.permutation(MEMORY_SIZE) for _ in range(int(np.ceil(lives)))])
    order = order[: int(lives * MEMORY_SIZE)]
    words = clustered(rng, centres, order.size)
    for first in range(0, order.size, ROWS_PER_STEP):
        slots = order[first : first + ROWS_PER_STEP]
        memory[0, slots] = words[first : first + ROWS_PER_STEP]
        worn.update(slots[None])
    return worn, ann_backends.create(backend, memory, seed=1, **settings), memory


def recall(found, queries, memory):
    """The share of the K best that were found, over queries [Q, H, W] and slots [Q, H, K]."""
    words = memory[0].astype(np.float64)
    words /= np.linalg.norm(words, axis=1, keepdims=True)
    near = queries.reshape(-1, WORD_SIZE) @ words.T
    least = np.partition(near, -K, axis=1)[:, -K:].min(axis=1)
    return (np.take_along_axis(near, found.reshape(-1, K), 1) >= least[:, None] - 1e-6).mean()


def seconds(index, call):
    start = time.perf_counter()
    index.search(call, K)
    return time.perf_counter() - start


# By default the index is built anew at every N-th row: half a life later it is at its oldest.
# Without that it has to do without.
@pytest.mark.parametrize(("lives", "rebuild_every"), [(3.5, None), (3, 2**62)])
@pytest.mark.parametrize("backend", ["kd_forest", "lsh"])
def test_an_index_does_not_wear(backend, lives, rebuild_every):
    rng = np.random.default_rng(0)
    worn, fresh, memory = worn_and_fresh(backend, lives, rng, rebuild_every=rebuild_every)
    assert worn.stats()["rebuilds"] == (3 if rebuild_every is None else 0)
    near = memory[0, rng.integers(0, MEMORY_SIZE, QUERIES * NUM_HEADS)]
    near = near + 0.1 * rng.standard_normal(near.shape, dtype=np.float32)
    queries = near.reshape(QUERIES, 1, NUM_HEADS, WORD_SIZE)
    # In turns, so that what else the machine does meets both.
    taken = [[(seconds(worn, q), seconds(fresh, q)) for q in queries] for _ in range(ROUNDS)]
    worn_time, fresh_time = np.median(np.median(taken, axis=0), axis=0)
    worn_recall, fresh_recall = (
        recall(np.stack([index.search(q, K)[0] for q in queries]), queries, memory)
        for index in (worn, fresh)
    )
    figures = (
        f"{backend}: worn {worn_time * 1e6:.1f} us at {worn_recall:.3f}, "
        f"fresh {fresh_time * 1e6:.1f} us at {fresh_recall:.3f}"
    )
    print(figures)
    assert worn_time < 1.2 * fresh_time, figures
    assert worn_recall > 0.8 * fresh_recall, figures
