"""What `checkpoint="dp"` saves and costs SAM and SDNC."""

import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import sam
from asv_bench.benchmarks import resident
from sam.recompute import costs
from sam.recompute.costs import MIB

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
T, SHARE, REPEATS = 2000, 0.05, 5
# Of a pass whole: the journal, the words read and the sparse gradient are outside the budget.
MOST_MEMORY, MOST_TIME = {"sam": 0.5, "sdnc": 0.6}, {1: 1.5, 8: 1.2}

each_model = pytest.mark.parametrize("name", ["sam", "sdnc"])


def build(name, batch_size, share):
    """A model that may keep this share of what the plain one (1.0) computes over T steps."""
    torch.manual_seed(0)
    model = sam.build(name, input_size=8, output_size=8, memory_size=1024)
    if share < 1:
        kept = T * costs.of(model, batch_size).step
        model.checkpoint, model.checkpoint_mib = "dp", share * kept / MIB
    return model


def run(model, inputs, state):
    outputs, _ = model(inputs, state)
    outputs.backward(torch.ones_like(outputs))


@each_model
def test_memory(name):
    kept, peaks = zip(*(in_a_fresh_process(name, share) for share in (1.0, SHARE)), strict=True)
    budget = build(name, 1, SHARE).checkpoint_mib
    print(
        f"{name}, T = {T}, budget {budget:.2f} MiB: kept {kept[0] / MIB:.2f} and "
        f"{kept[1] / MIB:.2f} MiB, peak {peaks[0] / MIB:.2f} and {peaks[1] / MIB:.2f} MiB"
    )
    assert peaks[1] <= MOST_MEMORY[name] * peaks[0]
    assert kept[1] < kept[0]


@each_model
@pytest.mark.parametrize("batch_size", MOST_TIME)
def test_time(name, batch_size):
    models = [build(name, batch_size, share) for share in (1.0, SHARE)]
    inputs, words = torch.randn(T, batch_size, 8), torch.randn(1024, 32)
    seconds = [[], []]
    for _ in range(REPEATS):
        for model, own in zip(models, seconds, strict=True):
            state = model.initial_state(batch_size, words)
            model.zero_grad()
            start = time.process_time()
            run(model, inputs, state)
            own.append(time.process_time() - start)
    ratio = statistics.median(own / plain for plain, own in zip(*seconds, strict=True))
    step = statistics.median(seconds[0]) / T * 1e3
    print(f"{name}, batch {batch_size}: {ratio:.2f} of {step:.3f} ms a step")
    assert ratio <= MOST_TIME[batch_size]


def in_a_fresh_process(*arguments):
    """Bytes that stay after the way ahead, and the peak of a pass."""
    code = f"from tests.sam.test_sam_recompute_cost import measure; print(*measure(*{arguments!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    return tuple(map(int, done.stdout.split()))


def measure(name, share):
    resident.return_freed_memory_at_once()
    torch.set_num_threads(1)
    model, inputs = build(name, 1, share), torch.randn(T, 1, 8)
    words = torch.randn(1024, 32)
    run(model, inputs, model.initial_state(1, words))  # compiles, and allocates workspaces
    model.zero_grad()
    state = model.initial_state(1, words)
    before = resident.now()
    results = model(inputs, state)
    kept = resident.now() - before
    del results, state
    state = model.initial_state(1, words)
    return kept, resident.peak_of(lambda: run(model, inputs, state))
