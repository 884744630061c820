"""SAM against a dense oracle and against numerical gradients, in float64."""

import itertools

import pytest
import torch

from sam.sam import SAM
from tests.sam import oracle_sam

WORD_SIZE = 5


def make(memory_size, num_heads, k, **settings):
    """A small float64 SAM with parameters far from their initial values."""
    model = SAM(
        3,
        2,
        memory_size=memory_size,
        word_size=WORD_SIZE,
        num_heads=num_heads,
        k=k,
        hidden_size=7,
        **settings,
    ).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return model


def given_memory(kind, memory_size, batch_size):
    shapes = {"shared": (memory_size,), "batched": (batch_size, memory_size)}
    if kind == "empty":
        return None
    return torch.randn(*shapes[kind], WORD_SIZE, dtype=torch.double, requires_grad=True)


def agrees_with_oracle(model, num_steps, memory_kind, batch_size=2, **oracle_settings):
    inputs = torch.randn(num_steps, batch_size, 3, dtype=torch.double, requires_grad=True)
    memory = given_memory(memory_kind, model.memory_size, batch_size)
    outputs, state = model(inputs, model.initial_state(batch_size, memory))
    sizes = (model.memory_size, model.word_size, model.num_heads, model.k)
    parameters = dict(model.named_parameters())
    expected, oracles = oracle_sam.run(parameters, sizes, inputs, memory, **oracle_settings)
    torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-9)
    for b, oracle in enumerate(oracles):
        torch.testing.assert_close(state.memory[b], oracle.memory.detach(), rtol=0, atol=1e-9)
    loss_weights = torch.randn_like(outputs)
    leaves = [inputs, *parameters.values(), *([] if memory is None else [memory])]
    memory_weights = torch.randn_like(state.memory)
    loss = (outputs * loss_weights).sum() + (state.memory * memory_weights).sum()
    gradients = torch.autograd.grad(loss, leaves)
    at_end = torch.stack([oracle.memory for oracle in oracles])
    expected_loss = (expected * loss_weights).sum() + (at_end * memory_weights).sum()
    expected_gradients = torch.autograd.grad(expected_loss, leaves)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        # Over 60 steps some reach thousands: by rounding alone one of 5,250 is within 1e-9 on one
        # processor and 1.003e-9 off on another.
        tolerance = (1e-12 * expected_gradient.abs()).clamp(min=1e-9)
        assert ((gradient - expected_gradient).abs() <= tolerance).all()
    return oracles


@pytest.mark.parametrize("memory_kind", ["empty", "shared", "batched"])
@pytest.mark.parametrize(("num_heads", "k"), list(itertools.product([1, 2, 4], [1, 4, 9])))
def test_outputs_memory_and_gradients_equal_the_oracle(num_heads, k, memory_kind):
    # 60 steps over 9 slots: each slot is recycled many times over.
    oracles = agrees_with_oracle(make(9, num_heads, k), 60, memory_kind)
    assert all(oracle.last_access.min() > 30 for oracle in oracles)


@pytest.mark.parametrize("num_steps", [1, 2, 7])
def test_short_passes_over_a_larger_memory(num_steps):
    agrees_with_oracle(make(40, 2, 4), num_steps, "batched", batch_size=3)


def test_euclidean_similarity():
    agrees_with_oracle(make(8, 2, 3, similarity="l2"), 40, "batched", kind="l2")


def test_without_key_strength():
    agrees_with_oracle(make(8, 2, 3, key_strength=False), 40, "empty")


def test_above_a_high_access_threshold_only_popped_slots_count_as_accessed():
    model = make(8, 2, 3, access_threshold=10.0)
    oracles = agrees_with_oracle(model, 40, "batched", threshold=10.0)
    assert all(
        oracle.last_access.sort().values.tolist() == [36, 36, 37, 37, 38, 38, 39, 39]
        for oracle in oracles
    )


@pytest.mark.parametrize("memory_size", [1, 4])
@pytest.mark.parametrize("memory_kind", ["empty", "batched"])
def test_as_many_heads_and_reads_as_words(memory_size, memory_kind):
    agrees_with_oracle(make(memory_size, memory_size, memory_size), 10, memory_kind)


@pytest.mark.parametrize("memory_size", [1, 6])
def test_a_memory_of_zeros_gives_finite_gradients(memory_size):
    model = make(memory_size, 1, 1)
    memory = torch.zeros(memory_size, WORD_SIZE, dtype=torch.double, requires_grad=True)
    inputs = torch.randn(5, 2, 3, dtype=torch.double, requires_grad=True)
    outputs, _ = model(inputs, model.initial_state(2, memory))
    outputs.sum().backward()
    for tensor in (outputs, inputs.grad, memory.grad, *(p.grad for p in model.parameters())):
        assert torch.isfinite(tensor).all()


@pytest.mark.parametrize(("num_heads", "k"), [(1, 1), (2, 3), (1, 4)])
@pytest.mark.parametrize("similarity", ["cosine", "l2"])
def test_gradcheck(num_heads, k, similarity):
    model = make(4, num_heads, k, similarity=similarity)
    inputs = torch.randn(6, 2, 3, dtype=torch.double, requires_grad=True)
    memory = torch.randn(4, WORD_SIZE, dtype=torch.double, requires_grad=True)
    names, parameters = zip(*model.named_parameters(), strict=True)

    def outputs(inputs, memory, *parameters):
        own = dict(zip(names, parameters, strict=True))
        state = model.initial_state(2, memory)
        return torch.func.functional_call(model, own, (inputs, state))[0]

    assert torch.autograd.gradcheck(outputs, (inputs, memory, *parameters))


def test_the_state_carries_gradients_between_passes():
    model = make(6, 2, 3)
    inputs = torch.randn(20, 2, 3, dtype=torch.double, requires_grad=True)
    memory = given_memory("batched", 6, 2)
    leaves = [inputs, memory, *model.parameters()]

    def gradients(pieces):
        state, outputs = model.initial_state(2, memory), []
        for piece in inputs.split(pieces):
            output, state = model(piece, state)
            outputs.append(output)
        parts = (state.hidden, state.cell, state.read_words, state.read_weights)
        loss = (torch.cat(outputs) ** 2).sum() + sum((part**2).sum() for part in parts)
        return torch.autograd.grad(loss, leaves)

    whole = gradients(20)
    for pieces in (1, 7, 10):
        for gradient, expected in zip(gradients(pieces), whole, strict=True):
            torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-10)


def test_every_batch_element_equals_its_own_run():
    model = make(7, 2, 3)
    inputs = torch.randn(30, 4, 3, dtype=torch.double) * torch.tensor([0.1, 1, 2, 5])[:, None]
    memory = torch.randn(4, 7, WORD_SIZE, dtype=torch.double)
    together, _ = model(inputs, model.initial_state(4, memory))
    for b in range(4):
        alone, _ = model(inputs[:, [b]], model.initial_state(1, memory[b]))
        torch.testing.assert_close(together[:, [b]], alone, rtol=0, atol=1e-12)


def test_the_controller_sees_the_input_and_the_words_read_before():
    model = make(6, 2, 3)
    inputs = torch.randn(5, 1, 3, dtype=torch.double)
    state = model.initial_state(1, torch.randn(6, WORD_SIZE, dtype=torch.double))
    for x in inputs:
        seen = torch.cat([x, state.read_words.flatten(1)], dim=1)
        expected_hidden, expected_cell = model.controller(seen, (state.hidden, state.cell))
        assert state.read_words.abs().sum() > 0 or torch.equal(x, inputs[0])
        _, state = model(x[None], state)
        torch.testing.assert_close(state.hidden, expected_hidden, rtol=0, atol=1e-12)
        torch.testing.assert_close(state.cell, expected_cell, rtol=0, atol=1e-12)
