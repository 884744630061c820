"""Bad input is refused with its name, what came and what was expected."""

import dataclasses

import pytest
import torch

from tests.models.small_models import MEMORY_NAMES, NAMES, build, random

every_model = pytest.mark.parametrize("name", NAMES)
memory_models = pytest.mark.parametrize("name", MEMORY_NAMES)


@every_model
@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        (random(4, 2, 5), ValueError, r"inputs: got shape \[4, 2, 5\], expected \[T, B, 3\]"),
        (random(4, 3), ValueError, r"inputs: got shape \[4, 3\]"),
        (random(0, 2, 3), ValueError, r"inputs: got shape \[0, 2, 3\]"),
        (random(4, 2, 3).float(), TypeError, "inputs: got dtype torch.float32"),
        (random(4, 2, 3) / 0.0, ValueError, "inputs: got NaN or infinite"),
        (random(4, 2, 3).where(torch.tensor(False), torch.nan), ValueError, "inputs: got NaN"),
        ([[[0.0]]], TypeError, "inputs: got list"),
        (random(4, 2, 3).to_sparse(), TypeError, r"inputs: got a torch.sparse_coo tensor, exp"),
        (
            torch.nested.nested_tensor([random(4, 3), random(2, 3)], layout=torch.jagged),
            TypeError,
            "inputs: got a nested tensor",
        ),
    ],
)
def test_inputs(name, inputs, error, message):
    with pytest.raises(error, match=message):
        build(name)(inputs)


@every_model
def test_states(name):
    model, inputs = build(name), random(4, 2, 3)
    with pytest.raises(TypeError, match="state: got tuple"):
        model(inputs, (inputs, inputs))
    with pytest.raises(ValueError, match="state: got batch size 3, expected 2"):
        model(inputs, model.initial_state(3))
    with pytest.raises(ValueError, match=r"state: got one made for .*hidden_size=8"):
        model(inputs, build(name, hidden_size=8).initial_state(2))
    with pytest.raises(ValueError, match=r"state: got one made for .*float32"):
        model(inputs, build(name).float().initial_state(2))
    other = build("ntm" if name != "ntm" else "dam")
    with pytest.raises(ValueError, match="state: got one made for"):
        model(inputs, other.initial_state(2))


@every_model
@pytest.mark.parametrize(
    ("batch_size", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError)]
)
def test_batch_size(name, batch_size, error):
    with pytest.raises(error, match=f"batch_size: got {batch_size}"):
        build(name).initial_state(batch_size)


@memory_models
@pytest.mark.parametrize(
    ("memory", "error", "message"),
    [
        (random(5, 5), ValueError, r"memory: got shape \[5, 5\], expected \[6, 5\]"),
        (random(3, 6, 5), ValueError, r"memory: got shape \[3, 6, 5\], expected \[2, 6, 5\]"),
        (random(6), ValueError, r"memory: got shape \[6\]"),
        (random(6, 5).float(), TypeError, "memory: got dtype torch.float32"),
        (random(6, 5) / 0.0, ValueError, "memory: got NaN or infinite"),
        ([0.0], TypeError, "memory: got list"),
    ],
)
def test_memory(name, memory, error, message):
    with pytest.raises(error, match=message):
        build(name).initial_state(2, memory)


@memory_models
@pytest.mark.parametrize("size", ["memory_size", "word_size", "num_heads", "hidden_size"])
def test_sizes(name, size):
    with pytest.raises(ValueError, match=f"{size}: got 0"):
        build(name, **{size: 0})
    with pytest.raises(TypeError, match=f"{size}: got 2.0"):
        build(name, **{size: 2.0})


@every_model
def test_a_refused_call_leaves_the_state(name):
    model = build(name)
    _, state = model(random(2, 2, 3))
    parts = {f.name: getattr(state, f.name) for f in dataclasses.fields(state)}
    kept = {part: value.clone() for part, value in parts.items() if torch.is_tensor(value)}
    with pytest.raises(ValueError, match="inputs"):
        model(random(2, 2, 4), state)
    assert all(torch.equal(parts[part], value) for part, value in kept.items())


@every_model
@pytest.mark.filterwarnings("ignore:Complex modules:UserWarning")
def test_a_model_of_complex_numbers(name):
    model = build(name).to(torch.complex64)
    with pytest.raises(ValueError, match=r"model: got torch\.complex64"):
        model(torch.randn(4, 2, 3, dtype=torch.complex64))


@memory_models
def test_views_of_complex_numbers_are_read_as_they_look(name):
    """Torch keeps the minus of an imaginary part aside, where arrays do not see it."""
    model, inputs = build(name), random(4, 2, 3)
    words = torch.complex(random(6, 5), random(6, 5, seed=3)).conj().imag
    assert words.is_neg()
    outputs, _ = model(inputs, model.initial_state(2, words))
    assert torch.equal(outputs, model(inputs, model.initial_state(2, words.resolve_neg()))[0])
    gradients = [
        torch.autograd.grad(
            (torch.complex(words, words).conj().imag * sign).square().sum(), model.interface.weight
        )[0]
        for words, sign in ((model(inputs)[1].read_words, 1), (-model(inputs)[1].read_words, -1))
    ]
    torch.testing.assert_close(*gradients)
