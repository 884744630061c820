"""Sketches: what a group scores, which lanes stand out, and the list of the best."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba import njit
from numba.core.registry import cpu_target

from ann_backends import sketch


@njit
def scored(sketches, group, prepared, worst, scores):
    return sketch.score_group(sketches, group, prepared, worst, scores)


def sketched(memory: np.ndarray) -> np.ndarray:
    """Groups of the rows of a memory [N, W], the last one filled up with zeros."""
    groups = -(-len(memory) // sketch.LANES)
    sketches = np.zeros((groups, *sketch.group_shape(memory.shape[1])), np.int8)
    for slot in range(len(memory)):
        sketch.write_lane(sketches, slot // sketch.LANES, slot % sketch.LANES, memory, slot)
    return sketches


def prepared_for(query: np.ndarray) -> tuple[np.ndarray, float]:
    prepared = np.full((sketch.group_shape(query.size)[0] + 1, sketch.QUERY_NUMBERS), -1, np.int16)
    return prepared, sketch.prepare_query(query, prepared)


def similarities(memory: np.ndarray, query: np.ndarray) -> np.ndarray:
    words, asked = memory.astype(np.float64), query.astype(np.float64)
    norms = np.sqrt((words**2).sum(1) + 1e-6) * np.sqrt((asked**2).sum() + 1e-6)
    return words @ asked / norms


@pytest.mark.parametrize("word_size", [1, 3, 4, 7, 32, 130])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_scores_are_within_the_slack_of_similarities(word_size: int, dtype: str) -> None:
    rng = np.random.default_rng(word_size)
    memory = (rng.standard_normal((48, word_size)) * 10.0 ** rng.integers(-5, 5, (48, 1))).astype(
        dtype
    )
    memory[7] = 0
    sketches, scores = sketched(memory), np.empty(sketch.LANES, np.float32)
    for query in (memory[3], memory[40] + 1, -memory[9], 0 * memory[0]):
        prepared, slack = prepared_for(query)
        assert slack <= 0.5 / 127 * np.sqrt(word_size) + word_size / 65_024 + 2e-6
        expected = similarities(memory, query)
        for group in range(3):
            worst = np.float32(np.median(expected))
            mask = scored(sketches, group, prepared, worst, scores)
            off = scores - expected[16 * group : 16 * group + 16]
            assert abs(off).max() <= slack
            assert [bool(mask >> lane & 1) for lane in range(16)] == (scores > worst).tolist()


def test_scores_are_sums_of_integers() -> None:
    rng = np.random.default_rng(0)
    memory, query = rng.standard_normal((16, 30)), rng.standard_normal(30)
    words = np.rint(memory / np.sqrt((memory**2).sum(1, keepdims=True) + 1e-6) * sketch.SCALE)
    asked = np.rint(query / np.sqrt((query**2).sum() + 1e-6) * sketch.QUERY_SCALE)
    scores = np.empty(sketch.LANES, np.float32)
    scored(sketched(memory), 0, prepared_for(query)[0], np.float32(0), scores)
    scale = sketch.SCALE * sketch.QUERY_SCALE
    np.testing.assert_allclose(scores, words @ asked / scale, rtol=1e-6)


SCORES = """
import json, sys
import numpy as np
from tests.ann_backends.test_ann_sketch import prepared_for, scored, sketch, sketched
rng = np.random.default_rng(6)
memory, queries = rng.standard_normal((16, 33)), rng.standard_normal((9, 33))
queries[:3] = 1e3 * np.eye(3, 33) - 1  # the largest numbers that there are
scores = np.empty((9, sketch.LANES), np.float32)
for query, own in zip(queries, scores):
    scored(sketched(memory), 0, prepared_for(query)[0], np.float32(0), own)
json.dump(scores.tolist(), sys.stdout)
"""


@pytest.mark.slow
def test_processors_with_products_of_bytes_and_without_score_alike(tmp_path: Path) -> None:
    features = cpu_target.target_context.codegen().magic_tuple()[2]
    without = features.replace("+avx512vnni", "-avx512vnni")
    scores = []
    for name, own in (("with", features), ("without", without)):
        settings = {"NUMBA_CPU_NAME": "host", "NUMBA_CPU_FEATURES": own}
        settings["NUMBA_CACHE_DIR"] = str(tmp_path / name)
        done = subprocess.run(
            [sys.executable, "-c", SCORES],
            env=os.environ | settings,
            capture_output=True,
            text=True,
            check=True,
        )
        scores.append(json.loads(done.stdout))
    assert scores[0] == scores[1]


def test_a_lane_is_copied_whole() -> None:
    memory = np.random.default_rng(1).standard_normal((32, 10))
    sketches = sketched(memory)
    sketch.copy_lane(sketches, 0, 3, 1, 5)
    memory[21] = memory[3]
    assert (sketches == sketched(memory)).all()


@pytest.mark.parametrize("size", [1, 2, 5, 16])
def test_the_best_are_kept_once_each_and_the_worst_comes_first(size: int) -> None:
    rng = np.random.default_rng(size)
    slots, scores = np.full(size, -1), np.full(size, -np.inf, np.float32)
    own = rng.permutation(60).astype(np.float32)
    for slot in rng.integers(0, 60, 300):
        if own[slot] > scores[0]:
            sketch.keep(slot, own[slot], slots, scores)
        assert scores[0] == scores.min()
    seen = np.flatnonzero(np.isin(np.arange(60), slots))
    assert sorted(slots) == sorted(np.argsort(own)[-size:].tolist()) == sorted(seen.tolist())
    assert (own[slots] == scores).all()
