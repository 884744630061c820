"""What SAM costs beside what it replaces: ratios of medians taken in one run, on one thread."""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import sam
from asv_bench.benchmarks import passes

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
MIB = 2**20


def medians(repeats, *functions):
    """Median seconds of each, called in turn so that the machine's drift falls on all alike."""
    for function in functions:
        function()
    seconds = [[] for _ in functions]
    for _ in range(repeats):
        for function, own in zip(functions, seconds, strict=True):
            start = time.perf_counter()
            function()
            own.append(time.perf_counter() - start)
    return [statistics.median(own) for own in seconds]


def lstm_cell_loop(sequence_length, batch_size):
    """Forward and backward through torch's LSTMCell of the controller's sizes."""
    model = sam.SAM(8, 8, memory_size=64, word_size=32, num_heads=4, k=4)
    cell = model.controller
    inputs = torch.randn(sequence_length, batch_size, cell.input_size)

    def loop():
        cell.zero_grad()
        hidden = cell_state = torch.zeros(batch_size, cell.hidden_size)
        outputs = []
        for x in inputs:
            hidden, cell_state = cell(x, (hidden, cell_state))
            outputs.append(hidden)
        torch.stack(outputs).sum().backward()

    return loop


def test_a_step_of_sam_costs_at_most_four_of_its_controller():
    sam_pass = passes.Pass("sam-exact", 64, 100, 8, warm_ups=2)
    ours, controller = medians(15, sam_pass, lstm_cell_loop(100, 8))
    print(f"SAM {ours * 10:.3f} ms, LSTMCell {controller * 10:.3f} ms per step")
    assert ours < 4 * controller


def test_a_million_words_cost_the_ntm_fifty_times_what_they_cost_sam():
    ntm = passes.Pass("ntm", 1_048_576, 1, 8, warm_ups=1)
    ours = passes.Pass("sam-exact", 1_048_576, 1, 8, warm_ups=2)
    theirs, own = medians(3, ntm, ours)
    print(f"NTM {theirs:.2f} s, SAM (exact) {own * 1e3:.0f} ms, ratio {theirs / own:.0f}")
    assert theirs > 50 * own


def tracked(suite, method, *parameters):
    """A figure of an asv suite, in a fresh process as asv would take it."""
    code = (
        f"from asv_bench.benchmarks.{suite} import *; import json, sys; "
        f"suite = {''.join(part.title() for part in suite.split('_'))}(); "
        f"print(json.dumps(suite.{method}(*{parameters!r})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def peak(model, memory_size):
    return tracked("training_memory", "track_peak_bytes", model, memory_size)


def test_training_memory_is_small_and_does_not_depend_on_the_number_of_words():
    peaks = [peak("sam-exact", memory_size) for memory_size in (64, 4096, 65_536, 1_048_576)]
    print([f"{each / MIB:.2f} MiB" for each in peaks])
    assert max(peaks) < 4 * MIB
    assert max(peaks) < 1.1 * min(peaks)


def test_the_ntm_takes_eight_hundred_times_the_training_memory_at_65536_words():
    theirs, own = peak("ntm", 65_536), peak("sam-exact", 65_536)
    print(f"NTM {theirs / MIB:.0f} MiB, SAM {own / MIB:.2f} MiB, ratio {theirs / own:.0f}")
    assert theirs > 800 * own


def test_a_million_empty_words_take_next_to_nothing():
    resident = tracked("initial_memory", "track_resident_bytes", "sam-exact", 1_048_576)
    print(f"{resident / MIB:.2f} MiB")
    assert resident < 8 * MIB
