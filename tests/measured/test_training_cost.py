"""What training SAM costs per time step, beside the loop over torch's LSTMCell of its controller.

Ratios of medians taken in one run, on one thread. What they are compared with is the one public
SAM, pytorch-dnc's: its forward and backward pass at batch 8 with a full memory, in milliseconds
per step, on a machine where the loop took 0.20.
"""

import pytest
import torch

from asv_bench.benchmarks import grid, passes
from tests.measured.test_cost import lstm_cell_loop, medians

pytestmark = pytest.mark.slow

PUBLIC_LOOP = 0.20
# By N and T.
PUBLIC_SAM = {(1024, 10): 2.9, (65_536, 1): 432.0, (65_536, 10): 438.0}
LOOP_LENGTH = 100


class Training:
    """Calls train by one minibatch: forward, backward, clipped gradients, a step of Adam."""

    def __init__(self, model, sequence_length, batch_size):
        self.model = model
        self.inputs = torch.randn(sequence_length, batch_size, grid.INPUT_SIZE)
        self.targets = torch.rand(sequence_length, batch_size, grid.OUTPUT_SIZE)
        self.optimiser = torch.optim.Adam(model.parameters(), lr=1e-4)

    def train(self, state):
        self.optimiser.zero_grad()
        outputs, state = self.model(self.inputs, state)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(outputs, self.targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 10)
        self.optimiser.step()
        return state


class OnFullMemory(Training):
    """Each minibatch goes on from the last one's memory, at first random rows."""

    def __init__(self, memory_size, sequence_length, batch_size):
        model = passes.build("sam-kd_forest", memory_size)
        super().__init__(model, sequence_length, batch_size)
        self.state = model.initial_state(batch_size, torch.randn(memory_size, grid.WORD_SIZE))

    def __call__(self):
        self.state = self.train(self.state).detach()


class FromEmptyMemory(Training):
    """Each minibatch begins with a memory of its own, and leaves none behind."""

    def __init__(self, ann, memory_size, sequence_length, batch_size):
        super().__init__(passes.build(f"sam-{ann}", memory_size), sequence_length, batch_size)
        self.batch_size = batch_size

    def __call__(self):
        self.train(self.model.initial_state(self.batch_size))


@pytest.mark.parametrize(("memory_size", "share"), [(1024, 1 / 2), (65_536, 1 / 100)])
def test_training_costs_a_fraction_of_a_pass_of_the_public_sam(memory_size, share):
    trained = medians(30, OnFullMemory(memory_size, 10, 8), lstm_cell_loop(LOOP_LENGTH, 8))
    assert_share(share, memory_size, 10, *trained)


def test_a_single_step_costs_a_hundredth_of_the_public_one():
    """Forward and backward: a step of the optimiser takes as long, whatever the model does.

    Many in a row, as in training: the loop in between leaves nothing of a step in the caches.
    """
    single = passes.Pass("sam-kd_forest", 65_536, 1, 8, warm_ups=2)

    def many():
        for _ in range(LOOP_LENGTH):
            single()

    seconds, loop_seconds = medians(15, many, lstm_cell_loop(LOOP_LENGTH, 8))
    assert_share(1 / 100, 65_536, 1, seconds / LOOP_LENGTH, loop_seconds)


def assert_share(share, memory_size, sequence_length, seconds, loop_seconds):
    """That a step takes at most this share of the public SAM's, both in steps of the loop."""
    ours, loop = seconds / sequence_length * 1e3, loop_seconds / LOOP_LENGTH * 1e3
    ratio, public = ours / loop, PUBLIC_SAM[memory_size, sequence_length] / PUBLIC_LOOP
    print(
        f"N = {memory_size}, T = {sequence_length}: {ours:.3f} ms per step, that is {ratio:.2f} of "
        f"the LSTMCell's ({loop:.3f} ms); the public SAM {public:.1f}, {public / ratio:.1f} times"
    )
    assert ratio < share * public


@pytest.mark.parametrize("ann", ["exact", "kd_forest", "lsh"])
def test_a_minibatch_from_an_empty_memory_costs_the_same_with_two_million_words(ann):
    sizes = 65_536, 1_048_576, 2_097_152
    times = medians(10, *(FromEmptyMemory(ann, size, 50, 8) for size in sizes))
    print(ann, [f"{seconds * 1e3:.1f} ms" for seconds in times])
    assert max(times) < 1.3 * min(times)
