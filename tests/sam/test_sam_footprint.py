"""No tensor that SAM keeps or allocates grows with the memory."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from sam.sam import SAM

MEMORY_SIZE = 200_003  # of no other size here a multiple


def forward_and_backward(model, state):
    outputs, _ = model(torch.randn(10, 1, 3), state)
    outputs.sum().backward()


def given(requires_grad):
    return torch.randn(MEMORY_SIZE, 4, requires_grad=requires_grad)


@pytest.fixture
def model():
    return SAM(3, 2, memory_size=MEMORY_SIZE, word_size=4, num_heads=2, k=3, hidden_size=6)


@pytest.mark.parametrize("memory", [None, given(False), given(True)])
def test_no_saved_tensor_is_as_large_as_the_memory(model, memory):
    saved = []

    def note(tensor):
        saved.append(tensor.untyped_storage().nbytes())
        return tensor

    state = model.initial_state(1, memory)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        forward_and_backward(model, state)
    assert saved
    assert max(saved) < MEMORY_SIZE


def largest_allocation(function):
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        function()
    return max(event.self_cpu_memory_usage for event in profiler.events())


@pytest.mark.parametrize("memory", [None, given(False)])
def test_no_tensor_as_large_as_the_memory_is_allocated(model, memory):
    state = model.initial_state(1, memory)
    assert 0 < largest_allocation(lambda: forward_and_backward(model, state)) < MEMORY_SIZE


def test_the_gradient_of_a_given_memory_is_dense_because_it_was_asked_for(model):
    memory = given(True)
    forward_and_backward(model, model.initial_state(1, memory))
    assert memory.grad.shape == memory.shape
    assert 0 < (memory.grad != 0).any(dim=1).sum() < 100


def test_numpy_arrays_of_a_pass_do_not_grow_with_the_memory(model):
    """Journal and sparse gradient are NumPy's, which reports to tracemalloc."""
    import tracemalloc

    state = model.initial_state(1, given(False))
    for _ in range(2):  # the second has to go back to the state, which takes kernels of its own
        forward_and_backward(model, state)
    tracemalloc.start()
    forward_and_backward(model, state)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0 < peak < MEMORY_SIZE
