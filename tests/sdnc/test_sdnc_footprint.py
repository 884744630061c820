"""Nothing that SDNC keeps or allocates grows with the memory, though it has N rows of links."""

import subprocess
import sys
import tracemalloc

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from sam.sdnc import SDNC

MEMORY_SIZE = 200_003  # of no other size here a multiple


def forward_and_backward(model, state):
    outputs, _ = model(torch.randn(10, 1, 3), state)
    outputs.sum().backward()


@pytest.fixture
def model():
    return SDNC(3, 2, memory_size=MEMORY_SIZE, word_size=4, num_heads=2, k=3, hidden_size=6)


@pytest.mark.parametrize("given", [False, True])
def test_no_tensor_as_large_as_the_memory_is_saved_or_allocated(model, given):
    saved = []

    def note(tensor):
        saved.append(tensor.untyped_storage().nbytes())
        return tensor

    state = model.initial_state(1, torch.randn(MEMORY_SIZE, 4) if given else None)
    with (
        torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
        profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler,
    ):
        forward_and_backward(model, state)
    assert 0 < max(saved) < MEMORY_SIZE
    assert 0 < max(event.self_cpu_memory_usage for event in profiler.events()) < MEMORY_SIZE


def test_numpy_arrays_of_a_pass_do_not_grow_with_the_memory(model):
    """Journals and sparse gradient are NumPy's, which reports to tracemalloc."""
    state = model.initial_state(1, torch.randn(MEMORY_SIZE, 4))
    for _ in range(2):  # compiles all kernels, the second time those that go back to the state
        forward_and_backward(model, state)
    tracemalloc.start()
    forward_and_backward(model, state)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0 < peak < MEMORY_SIZE


RESIDENT = """
import mmap, torch
from sam.sdnc import SDNC
torch.set_num_threads(1)
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * mmap.PAGESIZE
def run(model, state, steps):
    with torch.no_grad():
        return model(torch.zeros(steps, 1, 3), state)[1]
model = SDNC(3, 2, memory_size=1_048_576)
run(model, model.initial_state(1), 10)
before = resident()
state = model.initial_state(1)
created = resident() - before
state = run(model, state, 10)
print(created, resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_empty_state_of_a_million_words_is_not_resident():
    done = subprocess.run([sys.executable, "-c", RESIDENT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    created, used = map(int, done.stdout.split())
    # Links alone would be 96 MiB, and the words 128.
    assert created < 1 << 20
    assert used < 4 << 20
