"""A call of the model while a backward pass is under way, and passes that were interrupted."""

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from tests.states.models_of import ALL, SPARSE, make, random, words_for

model_name = pytest.mark.parametrize("name", ALL)
sparse_name = pytest.mark.parametrize("name", SPARSE)


def flat_gradient(model, loss, *more):
    leaves = [*model.parameters(), *(part for part in more if part is not None)]
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, leaves)])


def assert_near(left, right):
    assert float((left - right).norm() / right.norm()) < 1e-12


@pytest.mark.parametrize("given", [False, True], ids=["empty", "given"])
@pytest.mark.parametrize("pieces", [1, 2, 3, 6])
@model_name
def test_checkpointed_pieces_of_a_sequence(name, pieces, given):
    model, inputs = make(name), random(12, 3, 5)
    words = words_for(name, 3) if given else None

    def loss(recomputed):
        total = 0
        state = model.initial_state(3, words)
        for piece in inputs.chunk(pieces):
            if recomputed:
                outputs, state = checkpoint(model, piece, state, use_reentrant=False)
            else:
                outputs, state = model(piece, state)
            total = total + outputs.square().sum()
        return total

    if words is not None:
        words.requires_grad_(True)
    plain = flat_gradient(model, loss(False), words)
    assert_near(flat_gradient(model, loss(True), words), plain)
    assert_near(flat_gradient(model, loss(False), words), plain)


def forward(model, state):
    model(random(5, 3, 5, seed=8), state)


def forward_without_gradient(model, state):
    with torch.no_grad():
        model(random(5, 3, 5, seed=8), state)


def forward_and_backward(model, state):
    with torch.enable_grad():
        outputs, _ = model(random(5, 3, 5, seed=8), state.detach())
        torch.autograd.grad(outputs.sum(), model.interface.weight)


def look(model, state):
    state.memory  # noqa: B018


def copy_one(model, state):
    state.select([1])


@pytest.mark.parametrize("where", [0, 1, 2])
@pytest.mark.parametrize(
    "what", [forward, forward_without_gradient, forward_and_backward, look, copy_one]
)
@sparse_name
def test_what_a_hook_does_in_a_backward_pass_does_not_matter(name, what, where):
    model, inputs = make(name), random(3, 4, 3, 5)

    def gradient(hooked):
        words = words_for(name, 3).requires_grad_(True)
        states, total = [model.initial_state(3, words)], 0
        for piece in inputs:
            outputs, state = model(piece, states[-1])
            states.append(state)
            total = total + outputs.square().sum()
        if hooked:
            for state in states[1:]:
                state.hidden.register_hook(lambda _: what(model, states[where]))
        found = flat_gradient(model, total, words)
        return found, states

    plain, _ = gradient(False)
    found, states = gradient(True)
    assert_near(found, plain)
    expected = gradient(False)[1]
    for state, other in zip(states, expected, strict=True):
        assert torch.equal(state.memory, other.memory)


@sparse_name
def test_two_backward_passes_within_each_other(name):
    """The inner one goes through the same passes as the outer."""
    model, inputs = make(name), random(2, 4, 3, 5)
    words = words_for(name, 3).requires_grad_(True)
    first, state = model(inputs[0], model.initial_state(3, words))
    second, _ = model(inputs[1], state)
    (plain,) = torch.autograd.grad(second.sum(), words, retain_graph=True)
    of_first = first.square().sum()
    (other,) = torch.autograd.grad(of_first, words, retain_graph=True)
    inner = []

    def again(_):
        inner.append(torch.autograd.grad(of_first, words, retain_graph=True)[0])

    handle = state.hidden.register_hook(again)
    (found,) = torch.autograd.grad(second.sum(), words, retain_graph=True)
    handle.remove()
    assert torch.equal(found, plain)
    assert torch.equal(inner[0], other)


class Stopped(KeyboardInterrupt):
    """As by Ctrl-C."""


def stop(_):
    raise Stopped


@sparse_name
def test_after_an_interrupted_backward_pass_every_state_is_as_it_was(name):
    model, inputs = make(name), random(3, 6, 3, 5)
    states, outputs = [model.initial_state(3, words_for(name, 3))], None
    for piece in inputs:
        outputs, state = model(piece, states[-1])
        states.append(state)
    right = [state.memory.clone() for state in states]
    handle = states[1].hidden.register_hook(stop)
    with pytest.raises(Stopped):
        outputs.sum().backward(retain_graph=True)
    for state, memory in zip(states, right, strict=True):
        assert torch.equal(state.memory, memory)
    with pytest.raises(Stopped):
        outputs.sum().backward(retain_graph=True)
    assert torch.equal(states[-1].memory, right[-1])
    if hasattr(states[-1], "links"):
        links = states[-1].links.to_dense()
        with pytest.raises(Stopped):
            outputs.sum().backward(retain_graph=True)
        assert torch.equal(states[-1].links.to_dense(), links)
    handle.remove()


@sparse_name
def test_a_gradient_after_an_interrupted_backward_pass_is_right(name):
    model, inputs = make(name), random(2, 6, 3, 5)
    words = words_for(name, 3).requires_grad_(True)
    _, state = model(inputs[0], model.initial_state(3, words))
    outputs, _ = model(inputs[1], state)
    (plain,) = torch.autograd.grad(outputs.sum(), words, retain_graph=True)
    handle = state.hidden.register_hook(stop)
    for _ in range(2):
        with pytest.raises(Stopped):
            torch.autograd.grad(outputs.sum(), words, retain_graph=True)
    handle.remove()
    assert torch.equal(torch.autograd.grad(outputs.sum(), words)[0], plain)


@sparse_name
def test_the_memory_of_a_state_is_a_value(name):
    model = make(name)
    with torch.no_grad():
        _, state = model(random(6, 3, 5), model.initial_state(3, words_for(name, 3)))
        memory = state.memory
        kept = memory.clone()
        model(random(6, 3, 5, seed=1), state)
        assert torch.equal(memory, kept)
        memory.zero_()
        assert torch.equal(state.memory, kept)


@pytest.mark.parametrize("name", ["sam", "sam-forest", "dam"])
def test_a_penalty_on_the_memory_between_passes(name):
    """Its gradient, by finite differences in one parameter."""
    model, inputs = make(name), random(2, 5, 3, 5)
    words = words_for(name, 3)

    def loss():
        _, state = model(inputs[0], model.initial_state(3, words))
        outputs, after = model(inputs[1], state)
        return 0.1 * state.memory.square().sum() + after.memory.sum() + outputs.sum()

    gradient = torch.autograd.grad(loss(), model.interface.weight)[0]
    step = 1e-6
    place = (3, 2)
    values = []
    with torch.no_grad():
        for sign in (1, -1):
            model.interface.weight[place] += sign * step
            values.append(float(loss()))
            model.interface.weight[place] -= sign * step
    numerical = (values[0] - values[1]) / (2 * step)
    assert numerical == pytest.approx(float(gradient[place]), rel=1e-5, abs=1e-6)
