"""A model and one forward and backward pass of it, ready to be measured."""

from __future__ import annotations

import torch

import sam
from sam.recompute import costs

from . import grid


def build(name: str, memory_size: int) -> torch.nn.Module:
    """A model of the grid in the paper's size; "sam-exact" is SAM with the index `exact`."""
    torch.manual_seed(0)
    sizes = {"input_size": grid.INPUT_SIZE, "output_size": grid.OUTPUT_SIZE}
    sizes["hidden_size"] = grid.HIDDEN_SIZE
    model, ann = name.partition("-")[0], grid.backend_of(name)
    if model == "lstm":
        return sam.build(model, **sizes)
    sizes |= {
        "memory_size": memory_size,
        "word_size": grid.WORD_SIZE,
        "num_heads": grid.NUM_HEADS,
    }
    return sam.build(model, **sizes, **({"k": grid.K, "ann": ann} if ann else {}))


def budget_mib(model: torch.nn.Module, batch_size: int) -> float:
    """The MiB that `grid.RECOMPUTING` may keep: SAM's, or somewhat above the least that works."""
    own = costs.of(model, batch_size)
    least = (own.least + grid.MORE_STATES * own.state) / costs.MIB
    return max(grid.BUDGET_MIB * batch_size, least)


class Pass:
    """Calls run one forward and backward pass over T steps, each going on from the last.

    full: the memory starts as random rows, all of them written and indexed; else as the model's
    own. `warm_ups` passes are made at once, so that nothing is compiled or allocated for the first
    time later.
    """

    def __init__(
        self,
        name: str,
        memory_size: int,
        sequence_length: int,
        batch_size: int,
        *,
        warm_ups: int,
        full: bool = True,
    ) -> None:
        torch.set_num_threads(1)
        self.model = build(name, memory_size)
        if name == grid.RECOMPUTING:
            self.model.checkpoint = "dp"
            self.model.checkpoint_mib = budget_mib(self.model, batch_size)
        self.inputs = torch.randn(sequence_length, batch_size, grid.INPUT_SIZE)
        self.gradient = torch.ones(sequence_length, batch_size, grid.OUTPUT_SIZE)
        full = full and name != "lstm"
        self._words = torch.randn(memory_size, grid.WORD_SIZE) if full else None
        self._keeps_words = not grid.is_sparse(name)
        self.start()
        for _ in range(warm_ups):
            self()

    def start(self) -> None:
        """Begin anew from an initial state that holds words of its own."""
        words = self._words
        # Sparse models copy what they are given; dense ones hold on to it.
        if words is not None and self._keeps_words:
            words = words.clone()
        self.state = self.model.initial_state(self.inputs.shape[1], words)

    def __call__(self) -> None:
        self.model.zero_grad()
        outputs, state = self.model(self.inputs, self.state)
        outputs.backward(self.gradient)
        self.state = state.detach()
