"""A hundred thousand steps in one pass, with a million words: full backpropagation through time."""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
GIB = 2**30
MEMORY_SIZE = 1_048_576
SHORT, LONG = 1000, 100_000


def measure(model_name, full):
    """Seconds per step of short passes and of a long one, and the process's peak in bytes.

    Each pass starts from a state of its own, made before the clock starts; its loss is over all
    outputs. To be run in a fresh process.
    """
    import torch

    from asv_bench.benchmarks import grid, passes, resident

    torch.set_num_threads(1)
    model = passes.build(model_name, MEMORY_SIZE)
    words = torch.randn(MEMORY_SIZE, grid.WORD_SIZE) if full else None

    def seconds_per_step(sequence_length):
        inputs = torch.randn(sequence_length, 1, grid.INPUT_SIZE)
        state = model.initial_state(1, words)
        model.zero_grad()
        start = time.perf_counter()
        outputs, _ = model(inputs, state)
        outputs.square().mean().backward()
        return (time.perf_counter() - start) / sequence_length

    def all_passes():
        seconds_per_step(SHORT)  # compiles
        seconds.extend(seconds_per_step(SHORT) for _ in range(5))
        seconds.append(seconds_per_step(LONG))

    seconds = []
    peak = resident.now() + resident.peak_of(all_passes)
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    *short, long = seconds
    return statistics.median(short), long, peak


def in_a_fresh_process(model_name, full):
    code = (
        "import json; from tests.measured.test_long_sequences import measure; "
        f"print(json.dumps(measure({model_name!r}, {full!r})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


# A memory that starts empty holds 4,000 words after the short pass and 400,000 after the long one:
# the index's O(log N) is part of what is compared.
@pytest.mark.parametrize(("full", "most"), [(True, 1.5), (False, 2)])
@pytest.mark.parametrize("model_name", ["sam-kd_forest", "sam-lsh"])
def test_a_hundred_thousand_steps_cost_little_more_each_than_a_thousand(model_name, full, most):
    short, long, peak = in_a_fresh_process(model_name, full)
    print(
        f"{model_name}, {'full' if full else 'empty'}: {short * 1e3:.4f} ms per step of {SHORT}, "
        f"{long * 1e3:.4f} of {LONG}, ratio {long / short:.2f}, peak {peak / GIB:.2f} GiB"
    )
    assert long < most * short
    assert peak < 8 * GIB
