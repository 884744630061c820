"""How much a step keeps for backward: what the models promise in their docstrings."""

import pytest
import torch
from torch.profiler import ProfilerActivity

from tests.models.small_models import build, random

NUM_HEADS, WORD_SIZE, MEMORY_SIZE, STEPS = 4, 32, 512, 10


def kept_bytes(run):
    storages = {}

    def pack(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept = run()  # holds the graph, so that no storage is counted under another's address
    del kept
    return sum(storages.values())


def numbers_per_step(name, memory_size):
    """Numbers that one more step adds for each element of the batch."""
    model = build(name, memory_size=memory_size, word_size=WORD_SIZE, num_heads=NUM_HEADS)
    inputs = random(1 + STEPS, 2, 3)
    first, last = (kept_bytes(lambda x=x: model(x)) for x in (inputs[:1], inputs))
    return (last - first) / STEPS / (8 * 2)


@pytest.mark.parametrize(
    ("name", "weights"), [("dam", 2), ("dam-l2", 2), ("dam-least-recent", 2), ("ntm", 4)]
)
def test_buffers_per_step(name, weights):
    # What does not grow with N cancels.
    growth = numbers_per_step(name, 2 * MEMORY_SIZE) - numbers_per_step(name, MEMORY_SIZE)
    # The new memory, what the similarity needs of its rows, and so many weights of all heads.
    promised = 1 + weights * NUM_HEADS / WORD_SIZE + 1 / WORD_SIZE
    assert growth / (MEMORY_SIZE * WORD_SIZE) == pytest.approx(promised, rel=1e-6)


def test_the_dnc_keeps_one_link_matrix_per_step():
    one, two, three = (numbers_per_step("dnc", n * MEMORY_SIZE) for n in (1, 2, 3))
    matrices = (three - 2 * two + one) / (2 * MEMORY_SIZE**2)
    vectors = (two - one) / MEMORY_SIZE - 3 * MEMORY_SIZE * matrices
    assert matrices == pytest.approx(1, rel=1e-6)
    assert vectors == pytest.approx(WORD_SIZE + 8 * NUM_HEADS + 11, rel=1e-6)


def test_a_step_of_the_dnc_makes_one_link_matrix_and_one_gradient(monkeypatch):
    slots = 64
    monkeypatch.setattr("sam.linkage.BLOCK", 8 * slots)
    model, inputs = build("dnc", memory_size=slots), random(4, 2, 3)
    with torch.profiler.profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profile:
        outputs, _ = model(inputs)
        outputs.sum().backward()
    made = [event.self_cpu_memory_usage >= 2 * 8 * slots**2 for event in profile.events()]
    # The links before the first step are a constant, those after the last have no gradient.
    assert sum(made) == 4 + 3


def test_nothing_is_kept_without_gradients():
    for name in ("dam", "ntm", "dnc", "lstm"):
        model = build(name)
        with torch.no_grad():
            assert kept_bytes(lambda m=model: m(random(3, 2, 3))) == 0
