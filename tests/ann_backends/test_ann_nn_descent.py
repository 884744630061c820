"""The nn_descent backend: a snapshot, and beside it what has changed since.

pynndescent compiles itself for tens of seconds, once for all tests here.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ann_backends

pytest.importorskip("pynndescent", reason="not installed: pip install pynndescent")
from ann_backends.nn_descent import RECENT, NNDescent, NNDescentIndex, prepare


def built(memory: np.ndarray, metric: str = "cosine", **chosen: object) -> NNDescentIndex:
    return NNDescent(**chosen).build(memory, metric=metric)  # type: ignore[arg-type]


def recall(index: NNDescentIndex, queries: np.ndarray) -> float:
    exact = ann_backends.create("exact", index.memory, metric=index.metric)
    least = exact.search(queries, 4)[1][..., -1:]
    return float((index.search(queries, 4)[1] >= least - 1e-6).mean())


def test_compiling_is_told_and_done_once(caplog: pytest.LogCaptureFixture) -> None:
    prepare.cache_clear()
    with caplog.at_level(logging.INFO, "ann_backends"):
        index = built(np.ones((1, 4, 3)))
        built(np.ones((1, 4, 3)))
    assert len(caplog.records) == 2, "one line before compiling, one after"
    assert index.stats()["compile_seconds"] == prepare()


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_rows_are_found_in_the_snapshot_and_beside_it(metric: str) -> None:
    rng = np.random.default_rng(0)
    memory = rng.standard_normal((2, 2000, 8)).astype(np.float32)
    index = built(memory, metric)
    queries = rng.standard_normal((2, 40, 8)).astype(np.float32)
    assert recall(index, queries) > 0.97
    for _ in range(20):
        slots = np.stack([rng.permutation(2000)[:20] for _ in range(2)])
        np.put_along_axis(memory, slots[..., None], rng.standard_normal((2, 20, 8)), 1)
        index.update(slots)
        first = index.search(np.take_along_axis(memory, slots[..., None], 1), 2)[0][..., 0]
        assert (first == slots).all()
    assert index.stats()["rebuilds"] == 0
    assert recall(index, queries) > 0.97
    assert index.scans == 0


def test_it_is_built_anew_when_too_many_rows_have_changed() -> None:
    rng = np.random.default_rng(1)
    memory = rng.standard_normal((1, 4000, 6)).astype(np.float32)
    index = built(memory)
    for turn in range(80):
        slots = np.arange(turn * 16, turn * 16 + 32)[None]  # each row is written twice
        memory[0, slots[0]] = rng.standard_normal((32, 6))
        index.update(slots)
        changed = index._structures[0].changed
        assert np.unique(changed).size == changed.size
        assert index.stats()["rebuilds"] == int(turn >= 63), "more than 1,024 distinct rows"
        if turn == 63:
            assert changed.tolist() == list(range(1040 - RECENT, 1040)), "those written last"
        first = index.search(memory[:, slots[0]], 1)[0]
        assert (first[..., 0] == slots).all()


def test_a_search_leaves_no_trace() -> None:
    """pynndescent draws random numbers where a query is on neither side of a plane."""
    memory = np.random.default_rng(2).standard_normal((1, 3000, 1)) * np.ones(8)
    index = built(memory, epsilon=0.0, candidates=4)
    zeros = np.zeros((1, 100, 8))
    before = index.search(zeros, 4)[0]
    index.search(zeros[:, :33], 4)
    assert (index.search(zeros, 4)[0] == before).all()


def test_search_settings_may_be_assigned() -> None:
    rng = np.random.default_rng(3)
    memory = rng.standard_normal((1, 4000, 32)).astype(np.float32)
    queries = rng.standard_normal((1, 64, 32)).astype(np.float32)
    index = built(memory, epsilon=0.0, candidates=1)
    found = [recall(index, queries)]
    index.epsilon = 0.3
    found.append(recall(index, queries))
    index.candidates = 64
    found.append(recall(index, queries))
    assert found[0] + 0.1 < found[1] < found[2]
    index.rebuild()
    assert recall(index, queries) == pytest.approx(found[2], abs=0.05)
    for bad in (-0.1, "0.1", True, float("nan")):
        with pytest.raises(ValueError, match="epsilon: got"):
            index.epsilon = bad  # type: ignore[assignment]
    assert index.epsilon == 0.3
    with pytest.raises(ValueError, match="exact_below: got 20"):
        NNDescent(exact_below=20)


@pytest.mark.parametrize("rows", ["equal", "zero"])
def test_rows_all_alike_make_no_trouble(rows: str) -> None:
    memory = np.full((1, 1500, 8), float(rows == "equal"))
    index = built(memory)
    slots, similarity = index.search(memory[:, :3], 5)
    assert all(np.unique(own).size == 5 for own in slots[0])
    np.testing.assert_allclose(similarity, float(rows == "equal"), atol=1e-6)


FORKED = """
import multiprocessing, numpy as np
import ann_backends
from numba import njit, prange, threading_layer

@njit(parallel=True)
def total(x):
    t = 0.0
    for i in prange(x.size):
        t += x[i]
    return t

def child(queue):
    import ann_backends.nn_descent
    memory = np.ones((1, 600, 3))
    try:
        ann_backends.create("nn_descent", memory, findable="none").update(np.arange(600)[None])
    except RuntimeError as error:
        queue.put(str(error))
    queue.put("alive")

if __name__ == "__main__":
    total(np.ones(9))
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=child, args=(queue,))
    process.start()
    process.join()
    print(threading_layer(), process.exitcode, queue.get() if process.exitcode == 0 else "ended")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="GNU OpenMP and fork are Linux's defaults")
def test_building_in_a_process_forked_after_numbas_threads_ran_is_an_error_not_its_end(
    tmp_path: Path,
) -> None:
    script = tmp_path / "forked.py"
    script.write_text(FORKED)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    layer, status, said = done.stdout.split(maxsplit=2)
    if layer != "omp":
        pytest.skip(f"numba runs its threads by {layer} here, which survives a fork")
    assert (status, done.stderr) == ("0", "")
    assert said.startswith("nn_descent: this process was forked after numba's OpenMP threads")
    assert "'spawn' or 'forkserver'" in said
