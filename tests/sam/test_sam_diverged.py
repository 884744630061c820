"""A model whose words grow beyond any similarity says so, and its state is as it was."""

from __future__ import annotations

import pytest
import torch

import sam


@pytest.mark.parametrize("ann", ["exact", "kd_forest", "lsh"])
@pytest.mark.parametrize("size", [2e37, 3e38])
def test_words_that_diverge_are_told_and_leave_the_state_alone(ann: str, size: float) -> None:
    torch.manual_seed(0)
    model = sam.SAM(
        input_size=3, output_size=2, memory_size=32, word_size=8, num_heads=2, k=2, ann=ann
    )
    inputs = torch.randn(4, 2, 3)
    with torch.no_grad():
        _, state = model(inputs)
        memory = state.memory.clone()
        expected, _ = model(inputs, state)
        bias = model.interface.bias.clone()
        for diverged in (torch.full_like(bias, size), -torch.full_like(bias, size)):
            model.interface.bias.copy_(diverged)
            with pytest.raises(FloatingPointError, match="have the model's parameters diverged"):
                model(inputs, state)
            assert torch.equal(state.memory, memory)
        model.interface.bias.copy_(bias)
        again, _ = model(inputs, state)
    assert torch.equal(again, expected)


def test_the_words_written_are_named_where_they_are_what_diverged() -> None:
    torch.manual_seed(0)
    model = sam.SAM(
        input_size=3, output_size=2, memory_size=32, word_size=8, num_heads=1, k=2, ann="exact"
    )
    with torch.no_grad():
        model.interface.bias[8:16] = 3e38  # a_t, which follows the key
        with pytest.raises(
            FloatingPointError, match=r"memory: got .* in row \d+ of elem.* at step \d"
        ):
            model(torch.randn(9, 1, 3))
