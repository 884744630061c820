"""SDNC against a dense oracle and against numerical gradients, in float64."""

import itertools

import numpy as np
import pytest
import torch

from sam.sdnc import SDNC
from sam.sparse.modes import mix
from tests.sdnc import oracle_sdnc, slow_links

WORD_SIZE = 5


def make(memory_size, num_heads, k, hidden_size=7, **settings):
    """A small float64 SDNC with parameters far from their initial values.

    Its writes are strong and its read modes change from step to step, so that links matter.
    """
    model = SDNC(
        3,
        2,
        memory_size=memory_size,
        word_size=WORD_SIZE,
        num_heads=num_heads,
        k=k,
        hidden_size=hidden_size,
        **settings,
    ).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
        alpha, modes = 2 * WORD_SIZE, slice(2 * WORD_SIZE + 2, 2 * WORD_SIZE + 5)
        model.interface.weight.view(num_heads, -1, hidden_size)[:, modes].normal_(0, 5)
        model.interface.bias.view(num_heads, -1)[:, alpha] += 2
    return model


def given_memory(kind, memory_size, batch_size):
    shapes = {"shared": (memory_size,), "batched": (batch_size, memory_size)}
    if kind == "empty":
        return None
    return torch.randn(*shapes[kind], WORD_SIZE, dtype=torch.double, requires_grad=True)


def run_oracle(model, inputs, memory, parameters=None, temporal=None):
    return oracle_sdnc.run(
        parameters or dict(model.named_parameters()),
        (model.memory_size, model.word_size, model.num_heads, model.k),
        inputs,
        memory,
        temporal,
        link_size=model.link_size,
        strict=model.strict_paper_links,
        kind=model.similarity,
        threshold=model.access_threshold,
    )


def assert_near(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


def agrees_with_oracle(model, num_steps, memory_kind, batch_size=2):
    inputs = torch.randn(num_steps, batch_size, 3, dtype=torch.double, requires_grad=True)
    memory = given_memory(memory_kind, model.memory_size, batch_size)
    outputs, state = model(inputs, model.initial_state(batch_size, memory))
    expected, oracles = run_oracle(model, inputs, memory)
    assert_near(outputs, expected)
    for b, oracle in enumerate(oracles):
        assert_near(state.memory[b], oracle.memory.detach())
        if model.link_size > 0:
            assert_near(state.links.to_dense()[b], oracle.links)
            assert_near(state.precedence.to_dense()[b], oracle.precedence)
    loss_weights = torch.randn_like(outputs)
    leaves = [inputs, *model.parameters(), *([] if memory is None else [memory])]
    gradients = torch.autograd.grad((outputs * loss_weights).sum(), leaves)
    expected_gradients = torch.autograd.grad((expected * loss_weights).sum(), leaves)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        assert_near(gradient, expected_gradient)
    return oracles


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("memory_kind", ["empty", "shared", "batched"])
@pytest.mark.parametrize(("num_heads", "k"), list(itertools.product([1, 2, 4], [1, 4])))
def test_outputs_memory_links_and_gradients_equal_the_oracle(num_heads, k, memory_kind, strict):
    # 60 steps over 9 slots: each slot is recycled many times over.
    model = make(9, num_heads, k, link_size=3, strict_paper_links=strict)
    oracles = agrees_with_oracle(model, 60, memory_kind)
    assert all(oracle.last_access.min() > 30 for oracle in oracles)
    assert sum(oracle.followed for oracle in oracles) > 0


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("link_size", [1, 8, 20])
def test_link_sizes(link_size, strict):
    model = make(12, 2, 3, link_size=link_size, strict_paper_links=strict)
    for oracle in agrees_with_oracle(model, 60, "batched"):
        assert (oracle.links > 0).sum(1).max() >= min(link_size, 8)


@pytest.mark.parametrize("num_steps", [1, 2, 7])
def test_short_passes_over_a_larger_memory(num_steps):
    agrees_with_oracle(make(40, 2, 4), num_steps, "batched", batch_size=3)


@pytest.mark.parametrize("strict", [False, True])
def test_heads_that_write_more_than_once_in_all(strict):
    """With open write gates the summed write weights pass 1, per slot and over the slots."""
    model = make(9, 4, 2, strict_paper_links=strict)
    with torch.no_grad():
        heads = model.interface.bias.view(4, -1)
        heads[:, 2 * WORD_SIZE] += 4
        heads[:, 2 * WORD_SIZE + 1] += torch.tensor([4.0, 4.0, -4.0, -4.0])
    agrees_with_oracle(model, 40, "batched")


def test_euclidean_similarity():
    agrees_with_oracle(make(8, 2, 3, similarity="l2"), 40, "batched")


def test_without_key_strength():
    agrees_with_oracle(make(8, 2, 3, key_strength=False), 40, "empty")


def test_above_a_high_access_threshold_only_popped_slots_count_as_accessed():
    oracles = agrees_with_oracle(make(8, 2, 3, access_threshold=10.0), 40, "batched")
    for oracle in oracles:
        assert oracle.last_access.sort().values.tolist() == [36, 36, 37, 37, 38, 38, 39, 39]


@pytest.mark.parametrize("memory_size", [1, 4])
@pytest.mark.parametrize("memory_kind", ["empty", "batched"])
def test_as_many_heads_and_reads_as_words(memory_size, memory_kind):
    agrees_with_oracle(make(memory_size, memory_size, memory_size), 10, memory_kind)


@pytest.mark.parametrize("memory_kind", ["empty", "batched"])
def test_without_links_what_is_read_is_content_times_its_mode(memory_kind):
    oracles = agrees_with_oracle(make(8, 2, 3, link_size=0), 40, memory_kind)
    for oracle in oracles:
        assert oracle.followed == 0
        assert (oracle.w.sum(1) < 1).all()


@pytest.mark.parametrize("memory_kind", ["empty", "batched"])
def test_read_weights_are_k_of_the_mixture_and_not_renormalised(memory_kind):
    model = make(9, 2, 3)
    inputs = torch.randn(30, 2, 3, dtype=torch.double)
    memory = given_memory(memory_kind, 9, 2)
    _, state = model(inputs, model.initial_state(2, memory))
    assert state.read_weights.shape == (2, 2, 3)
    assert state.read_weights.min() >= 0
    assert (state.read_weights.sum(-1) < 1 - 1e-6).all()
    _, oracles = run_oracle(model, inputs, memory)
    reads = torch.stack([oracle.w for oracle in oracles])
    assert_near(state.read_weights, reads.gather(-1, state.read_slots))


def test_of_equal_parts_of_a_mixture_the_lower_slots_are_read():
    """pi = (1/4, 1/2, 1/4); slot 5 is both retrieved and linked to, all others weigh 1/8."""
    interface = np.array([[[0.25, 0.5, 0.25]]])
    content = np.array([[[7, 5, 2]]]), np.full((1, 1, 3), 0.25)
    linked = np.array([[[9, 3, 5, -1]]]), np.array([[[[0.5, 0], [0, 0.5], [0, 0.5], [0, 0]]]])
    slots, weights, parts = np.empty((1, 1, 3), int), np.empty((1, 1, 3)), np.empty((1, 1, 3, 3))
    mix(interface, 0, content, linked, slots, weights, parts)
    assert dict(zip(slots.flat, weights.flat, strict=True)) == {5: 0.25, 2: 0.125, 3: 0.125}
    assert dict(zip(slots.flat, parts[0, 0].tolist(), strict=True)) == {
        5: [0, 0.25, 0.5],
        2: [0, 0.25, 0],
        3: [0, 0, 0.5],
    }


def gradcheck(model, inputs, memory, outputs, fast=False):
    """Gradients of outputs(inputs, memory, parameters by name) against numerical differences.

    fast: along a random direction of each leaf, instead of each number by itself.
    """
    names, parameters = zip(*model.named_parameters(), strict=True)

    def of_leaves(inputs, memory, *parameters):
        return outputs(inputs, memory, dict(zip(names, parameters, strict=True)))

    assert torch.autograd.gradcheck(of_leaves, (inputs, memory, *parameters), fast_mode=fast)


def call(model, inputs, memory, parameters):
    state = model.initial_state(inputs.shape[1], memory)
    return torch.func.functional_call(model, parameters, (inputs, state))[0]


class _ValuesOfTheOracle(torch.autograd.Function):
    """The model's outputs with the gradient of the model, but as values those given."""

    @staticmethod
    def forward(ctx, outputs, values):
        torch.testing.assert_close(outputs, values, rtol=0, atol=1e-4)
        return values.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


@pytest.mark.parametrize(("num_heads", "k"), [(1, 1), (2, 3), (1, 4)])
@pytest.mark.parametrize("similarity", ["cosine", "l2"])
def test_gradcheck_with_what_the_links_give_held_constant(num_heads, k, similarity):
    """f and b are constants to the gradient, but do change with what they are made from.

    So the differences are taken of the oracle, with b and f of every step as they are at the
    point in question; its values there are the model's.
    """
    model = make(5, num_heads, k, similarity=similarity, link_size=2)
    inputs = torch.randn(12, 2, 3, dtype=torch.double, requires_grad=True)
    memory = torch.randn(5, WORD_SIZE, dtype=torch.double, requires_grad=True)
    with torch.no_grad():
        _, oracles = run_oracle(model, inputs, memory)
    temporal = torch.stack([torch.stack(oracle.temporal) for oracle in oracles])
    assert sum(oracle.followed for oracle in oracles) > 0

    def outputs(inputs, memory, parameters):
        with torch.no_grad():
            values, _ = run_oracle(model, inputs, memory, parameters, temporal)
        return _ValuesOfTheOracle.apply(call(model, inputs, memory, parameters), values)

    gradcheck(model, inputs, memory, outputs, fast=True)


@pytest.mark.parametrize(("num_heads", "k"), [(1, 1), (2, 3)])
@pytest.mark.parametrize("settings", [{}, {"similarity": "l2", "key_strength": False}])
def test_gradcheck_without_links(num_heads, k, settings):
    """Where f and b are 0 the model itself is what the gradient is of."""
    model = make(4, num_heads, k, hidden_size=4, link_size=0, **settings)
    inputs = torch.randn(6, 1, 3, dtype=torch.double, requires_grad=True)
    memory = torch.randn(4, WORD_SIZE, dtype=torch.double, requires_grad=True)

    def outputs(inputs, memory, parameters):
        return call(model, inputs, memory, parameters)

    gradcheck(model, inputs, memory, outputs)


def one_hot_writer(memory_size, **settings):
    """A model of one head that writes with weight 1 to the popped slot, and to no other.

    Only what is popped counts as accessed, so slots are popped in order.
    """
    model = make(memory_size, 1, 3, access_threshold=10.0, **settings)
    with torch.no_grad():
        alpha, gamma = 2 * WORD_SIZE, 2 * WORD_SIZE + 1
        model.interface.weight[[alpha, gamma]] = 0
        model.interface.bias[alpha], model.interface.bias[gamma] = 100, -1000
    return model


@pytest.mark.parametrize("memory_kind", ["empty", "batched"])
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("link_size", [1, 3, 8])
def test_one_hot_writes_to_fresh_slots_link_as_in_the_dnc(link_size, strict, memory_kind):
    model = one_hot_writer(12, link_size=link_size, strict_paper_links=strict)
    state = model.initial_state(2, given_memory(memory_kind, 12, 2))
    for t in range(1, 13):
        _, state = model(torch.randn(1, 2, 3, dtype=torch.double), state)
        links, precedence = slow_links.dnc_links(torch.eye(12)[:t].double().numpy())
        for b in range(2):
            assert torch.equal(state.links.to_dense()[b], torch.from_numpy(links))
            assert torch.equal(state.precedence.to_dense()[b], torch.from_numpy(precedence))
    assert state.links.to_dense().diagonal(-1, 1, 2).eq(1).all()


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
    model = make(7, 2, 3, link_size=3)
    inputs = torch.randn(30, 4, 3, dtype=torch.double) * torch.tensor([0.1, 1, 2, 5])[:, None]
    memory = torch.randn(4, 7, WORD_SIZE, dtype=torch.double)
    together, state = model(inputs, model.initial_state(4, memory))
    for b in range(4):
        alone, own = model(inputs[:, [b]], model.initial_state(1, memory[b]))
        torch.testing.assert_close(together[:, [b]], alone, rtol=0, atol=1e-12)
        links, own_links = state.links.to_dense()[b], own.links.to_dense()[0]
        torch.testing.assert_close(links, own_links, rtol=0, atol=1e-12)
        precedence, own_precedence = state.precedence.to_dense()[b], own.precedence.to_dense()[0]
        torch.testing.assert_close(precedence, own_precedence, rtol=0, atol=1e-12)


@pytest.mark.parametrize("memory_size", [1, 6])
def test_a_memory_of_zeros_gives_finite_gradients(memory_size):
    model = make(memory_size, 1, 1)
    memory = torch.zeros(memory_size, WORD_SIZE, dtype=torch.double, requires_grad=True)
    inputs = torch.randn(5, 2, 3, dtype=torch.double, requires_grad=True)
    outputs, _ = model(inputs, model.initial_state(2, memory))
    outputs.sum().backward()
    for tensor in (outputs, inputs.grad, memory.grad, *(p.grad for p in model.parameters())):
        assert torch.isfinite(tensor).all()
