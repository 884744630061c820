import pytest
import torch

from sam.lstm import LSTM
from tests.models.oracle_lstm import lstm
from tests.models.small_models import assert_agree, build, random


@pytest.mark.parametrize("steps", [1, 2, 9])
def test_agrees_with_the_loop(steps):
    model, inputs = build("lstm"), random(steps, 4, 3, requires_grad=True)
    ours, _ = model(inputs)
    assert_agree(model, [inputs], (ours,), (lstm(dict(model.named_parameters()), inputs),))


def test_forget_gate_starts_open():
    model = LSTM(3, 2, hidden_size=4)
    bias = model.controller.bias_ih_l0 + model.controller.bias_hh_l0
    assert torch.equal(bias[4:8], torch.ones(4))


def test_has_no_memory_to_start_with():
    with pytest.raises(ValueError, match="memory: got one, expected None"):
        build("lstm").initial_state(2, random(6, 5))
