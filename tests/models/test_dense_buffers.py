"""How much a step keeps for backward: what the models promise in their docstrings."""

import pytest
import torch

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


def buffers_per_step(name):
    """Buffers [B, N, W] that one more step adds, without what does not grow with N."""
    totals = {}
    for memory_size in (MEMORY_SIZE, 2 * MEMORY_SIZE):
        model = build(name, memory_size=memory_size, word_size=WORD_SIZE, num_heads=NUM_HEADS)
        for steps in (1, 1 + STEPS):
            inputs = random(steps, 2, 3)
            totals[memory_size, steps] = kept_bytes(lambda m=model, x=inputs: m(x))
    growth = [totals[n, 1 + STEPS] - totals[n, 1] for n in (MEMORY_SIZE, 2 * MEMORY_SIZE)]
    return (growth[1] - growth[0]) / STEPS / (8 * 2 * MEMORY_SIZE * WORD_SIZE)


@pytest.mark.parametrize(
    ("name", "weights"), [("dam", 2), ("dam-l2", 2), ("dam-least-recent", 2), ("ntm", 4)]
)
def test_buffers_per_step(name, weights):
    # The new memory, what the similarity needs of its rows, and so many weights of all heads.
    promised = 1 + weights * NUM_HEADS / WORD_SIZE + 1 / WORD_SIZE
    assert buffers_per_step(name) == pytest.approx(promised, rel=1e-6)


def test_nothing_is_kept_without_gradients():
    for name in ("dam", "ntm", "lstm"):
        model = build(name)
        with torch.no_grad():
            assert kept_bytes(lambda m=model: m(random(3, 2, 3))) == 0
