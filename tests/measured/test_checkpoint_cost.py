"""What `checkpoint="dp"` saves and costs beside plain backpropagation through time."""

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
T, REPEATS = 1000, 3
# Budgets for each batch size, of what plain backpropagation keeps for all steps. Beside it there
# are, once, the gradients of the parameters and what an operation needs for the moment.
SHARES = {1: 0.035, 8: 0.044}
POINTS = [("ntm", 128, 32, 1), ("ntm", 128, 20, 8), ("ntm", 1024, 32, 1), ("ntm", 1024, 32, 8)]

at_each_point = pytest.mark.parametrize(("name", "memory_size", "word_size", "batch_size"), POINTS)


def build(name, memory_size, word_size, batch_size, share, dtype=torch.float32):
    """A model that may keep this share of what the plain one (1.0) does over T steps."""
    torch.manual_seed(0)
    sizes = {"memory_size": memory_size, "word_size": word_size}
    model = sam.build(name, input_size=8, output_size=8, **sizes).to(dtype)
    if share < 1:
        kept = T * costs.of(model, batch_size).step
        model.checkpoint, model.checkpoint_mib = "dp", share * kept / MIB
    return model


def run(model, inputs):
    model.zero_grad()
    outputs, _ = model(inputs)
    outputs.backward(torch.ones_like(outputs))


@at_each_point
def test_a_twentieth_of_the_memory_at_no_more_than_half_as_much_time_again(
    name, memory_size, word_size, batch_size
):
    point, shares = (name, memory_size, word_size, batch_size), (1.0, SHARES[batch_size])
    peaks = [peak_in_a_fresh_process(*point, share) for share in shares]
    models = [build(*point, share) for share in shares]
    inputs = torch.randn(T, batch_size, 8)
    seconds = [[], []]
    for _ in range(REPEATS):
        for model, own in zip(models, seconds, strict=True):
            start = time.perf_counter()
            run(model, inputs)
            own.append(time.perf_counter() - start)
    slower = statistics.median(own / plain for plain, own in zip(*seconds, strict=True))
    print(
        f"{point}: {peaks[0] / MIB:.1f} MiB, {peaks[1] / MIB:.2f} MiB or "
        f"{peaks[1] / peaks[0]:.3f}; {slower:.2f} of {statistics.median(seconds[0]):.1f} s"
    )
    assert peaks[1] <= 0.05 * peaks[0]
    assert slower <= 1.5


def test_gradients_over_a_thousand_steps():
    point = ("ntm", 128, 20, 1)
    plain, model = (build(*point, share, torch.float64) for share in (1.0, SHARES[1]))
    inputs = torch.randn(T, 1, 8, dtype=torch.float64)
    gradients = []
    for each in (plain, model):
        outputs, _ = each(inputs)
        gradients.append(torch.autograd.grad(outputs.square().mean(), list(each.parameters())))
    for mine, other in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("point", [("ntm", 16, 32, 1), ("dam", 128, 32, 1), ("dnc", 64, 32, 1)])
def test_what_a_step_is_said_to_keep_is_what_becomes_resident(point):
    expected = costs.of(build(*point, 1.0), 1).step * T
    peak = peak_in_a_fresh_process(*point, 1.0)
    print(f"{point}: {expected / MIB:.1f} MiB, measured {peak / MIB:.1f} MiB")
    assert peak == pytest.approx(expected, rel=0.2)


def peak_in_a_fresh_process(*arguments):
    """Bytes that one pass adds to what is resident, as `resident` measures them."""
    code = f"from tests.measured.test_checkpoint_cost import peak; print(peak(*{arguments!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    return int(done.stdout)


def peak(name, memory_size, word_size, batch_size, share):
    resident.return_freed_memory_at_once()
    torch.set_num_threads(1)
    model = build(name, memory_size, word_size, batch_size, share)
    inputs = torch.randn(T, batch_size, 8)
    run(model, inputs)  # libraries allocate workspaces when first used: not the model's
    model.zero_grad()
    return resident.peak_of(lambda: run(model, inputs))
