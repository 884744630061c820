"""Under autocast a model computes in its own dtype."""

import pytest
import torch
from torch import nn

import sam
from sam.models import MODELS

every_model = pytest.mark.parametrize("name", MODELS)
memory_models = pytest.mark.parametrize("name", [name for name in MODELS if name != "lstm"])
DTYPES = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)


def make(name, **settings):
    torch.manual_seed(0)
    sizes = {} if name == "lstm" else {"memory_size": 8, "word_size": 5, "num_heads": 2}
    settings = {"hidden_size": 7, **sizes, **settings}
    return sam.build(name, input_size=3, output_size=2, **settings)


def autocast(dtype):
    return torch.autocast("cpu", dtype=dtype)


def tensors(state):
    return [part for part in vars(state).values() if torch.is_tensor(part)]


@every_model
@DTYPES
@pytest.mark.parametrize("inside", [False, True], ids=["backward outside", "backward inside"])
@pytest.mark.parametrize("settings", [{}, {"checkpoint": "dp", "checkpoint_mib": 0.1}], ids=str)
def test_outputs_states_and_gradients_are_those_without(name, dtype, inside, settings):
    model, inputs = make(name, **settings), torch.randn(40, 2, 3)
    expected, last = model(inputs)
    expected.square().mean().backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    model.zero_grad(set_to_none=True)
    with autocast(dtype):
        outputs, state = model(inputs)
        loss = outputs.square().mean()
        if inside:
            loss.backward()
    if not inside:
        loss.backward()
    assert torch.equal(outputs, expected)
    for part, other in zip(tensors(state), tensors(last), strict=True):
        assert part.dtype == other.dtype
        assert torch.equal(part, other)
    # Torch's own layers cast where their backward pass runs under autocast.
    near = 0.03 if inside else 0
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        assert parameter.grad.dtype == torch.float32
        torch.testing.assert_close(
            parameter.grad, gradient, rtol=0, atol=float(near * gradient.abs().max())
        )


@every_model
@DTYPES
def test_between_other_layers_and_after_it(name, dtype):
    """Inputs come in autocast's dtype; states go from with to without, and back."""
    model, before, after = make(name), nn.Linear(3, 3), nn.Linear(2, 2)
    with autocast(dtype):
        hidden = before(torch.randn(4, 2, 3))
        assert hidden.dtype == dtype
        outputs, state = model(hidden)
        after(outputs).sum().backward()
    assert outputs.dtype == torch.float32
    assert torch.equal(outputs, model(hidden.float())[0])
    assert before.weight.grad.abs().max() > 0
    _, state = model(torch.randn(4, 2, 3), state.detach())
    with autocast(dtype), torch.no_grad():
        model(torch.randn(4, 2, 3), state)


@memory_models
@DTYPES
def test_a_memory_that_a_layer_has_made(name, dtype):
    model, encoder, words = make(name), nn.Linear(4, 5), torch.randn(8, 4)
    with autocast(dtype):
        memory = encoder(words)
        outputs, _ = model(torch.randn(4, 2, 3), model.initial_state(2, memory))
    outputs.square().sum().backward()
    assert encoder.weight.grad.abs().max() > 0
    with pytest.raises(TypeError, match=f"memory: got dtype {dtype}, expected torch.float32"):
        model.initial_state(2, memory)


@every_model
def test_a_model_in_double_precision_stays_so(name):
    model, inputs = make(name).double(), torch.randn(4, 2, 3, dtype=torch.float64)
    expected = model(inputs)[0]
    with autocast(torch.bfloat16):
        outputs, state = model(inputs)
    assert torch.equal(outputs, expected)
    assert state.hidden.dtype == torch.float64


@every_model
def test_called_layers_are_in_its_own_dtype_too(name):
    model, seen = make(name), []
    model.controller.register_forward_hook(lambda *_: seen.append(torch.is_autocast_enabled("cpu")))
    model.output.register_forward_hook(lambda *given: seen.append(given[2].dtype))
    with autocast(torch.bfloat16):
        model(torch.randn(4, 2, 3))[0].sum().backward()
    assert set(seen) == {False, torch.float32}


@every_model
def test_without_autocast_another_dtype_is_refused(name):
    with pytest.raises(TypeError, match=r"inputs: got dtype torch\.bfloat16, expected torch\.flo"):
        make(name)(torch.randn(4, 2, 3).bfloat16())
