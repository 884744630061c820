"""Elements of a batch that are selected, reset and joined go on as if each were alone."""

import pytest
import torch

import sam
from tests.states.models_of import ALL, SPARSE, make, random, words_for

model_name = pytest.mark.parametrize("name", ALL)


def runs(name, model, seed, batch_size, *, steps=9):
    """Outputs and state of a batch of its own."""
    start = model.initial_state(batch_size, words_for(name, batch_size, seed=seed))
    return model(random(steps, batch_size, 5, seed=seed), start)


@model_name
@torch.no_grad()
def test_selected_elements_go_on_as_they_would_have(name):
    model, more = make(name), random(11, 4, 5, seed=5)
    _, state = runs(name, model, 1, 3)
    order = [2, 0, 2, 1]
    outputs, after = model(more, state.select(order))
    for i, element in enumerate(order):
        batch = more[:, i : i + 1].expand(-1, 3, -1).contiguous()
        expected, _ = model(batch, state)
        torch.testing.assert_close(outputs[:, i], expected[:, element], rtol=0, atol=1e-12)
    assert after.batch_size == 4


@model_name
@torch.no_grad()
def test_joined_states_go_on_as_they_would_have(name):
    model, more = make(name), random(11, 5, 5, seed=5)
    # Of different ages, one of them older than another state of the same memory.
    _, first = runs(name, model, 1, 2)
    _, second = runs(name, model, 2, 1, steps=4)
    _, third = model(random(6, 2, 5, seed=6), first)
    outputs, _ = model(more, sam.State.cat([first, second, third]))
    pieces = [model(more[:, :2], first), model(more[:, 2:3], second), model(more[:, 3:], third)]
    expected = torch.cat([y for y, _ in pieces], 1)
    torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-12)


@model_name
@torch.no_grad()
def test_elements_that_were_reset_begin_anew(name):
    model, more = make(name), random(11, 3, 5, seed=5)
    _, state = runs(name, model, 1, 3)
    outputs, _ = model(more, state.reset(torch.tensor([False, True, False])))
    fresh, _ = model(more)
    expected, _ = model(more, state)
    torch.testing.assert_close(outputs[:, 1], fresh[:, 1], rtol=0, atol=1e-12)
    torch.testing.assert_close(outputs[:, ::2], expected[:, ::2], rtol=0, atol=1e-12)


@model_name
@torch.no_grad()
def test_all_elements_reset_are_an_initial_state(name):
    model, more = make(name), random(11, 3, 5, seed=5)
    _, state = runs(name, model, 1, 3)
    assert torch.equal(model(more, state.reset([True] * 3))[0], model(more)[0])


@pytest.mark.parametrize("start_size", [1, 3])
@model_name
@torch.no_grad()
def test_elements_can_be_reset_to_a_given_start(name, start_size):
    model, more = make(name), random(11, 3, 5, seed=5)
    _, state = runs(name, model, 1, 3)
    start = model.initial_state(start_size, words_for(name, start_size, seed=9))
    outputs, _ = model(more, state.reset([True, False, True], start))
    expected, _ = model(more, state)
    torch.testing.assert_close(outputs[:, 1], expected[:, 1], rtol=0, atol=1e-12)
    for i in (0, 2):
        own = start.select([i if start_size == 3 else 0])
        torch.testing.assert_close(
            outputs[:, i : i + 1], model(more[:, i : i + 1], own)[0], rtol=0, atol=1e-12
        )


@model_name
def test_gradients_flow_back_to_what_was_selected_and_joined(name):
    """Against the same elements, each in a run of its own."""
    if name == "dam-least-recent":
        pytest.skip("the same path as dam")
    model = make(name)
    words = words_for(name, 3)
    first, second = random(6, 3, 5, seed=1), random(5, 4, 5, seed=2)
    order = [2, 0, 2]
    leaves = [first, *model.parameters()]
    first.requires_grad_(True)
    if words is not None:
        leaves.append(words.requires_grad_(True))

    def start(element=slice(None)):
        given = None if words is None else words[element]
        return model(first[:, element], model.initial_state(first[:, element].shape[1], given))[1]

    state = start()
    joined = sam.State.cat([state.select(order), state.select([1])])
    joined = joined.reset([False, False, True, False])
    outputs, after = model(second, joined)
    loss = outputs.square().sum()
    if hasattr(after, "memory"):
        loss = loss + after.memory.square().sum()
    gradients = torch.autograd.grad(loss, leaves)

    total = 0
    for i, element in enumerate([2, 0, None, 1]):
        own = None if element is None else start(slice(element, element + 1))
        outputs, after = model(second[:, i : i + 1], own)
        total = total + outputs.square().sum()
        if hasattr(after, "memory"):
            total = total + after.memory.square().sum()
    for gradient, expected in zip(gradients, torch.autograd.grad(total, leaves), strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", ["lstm", "ntm", "sam"])
@pytest.mark.parametrize(
    ("indices", "error"),
    [
        ([], "indices: got shape"),
        ([3], r"indices: got \[3\], expected integers"),
        ([-1], r"indices: got \[-1\]"),
        ([[0]], "indices: got shape"),
        ([0.0], "indices: got dtype torch.float32"),
        ([True, False, True], "indices: got dtype torch.bool"),
        ("ab", "indices: got str"),
        (None, "indices: got NoneType"),
    ],
)
def test_indices_that_are_refused(name, indices, error):
    state = make(name).initial_state(3)
    with pytest.raises((TypeError, ValueError), match=error):
        state.select(indices)


@pytest.mark.parametrize("name", ["lstm", "ntm", "sam"])
@pytest.mark.parametrize(
    ("mask", "error"),
    [
        ([True, False], r"mask: got shape \[2\], expected bool \[3\]"),
        ([[True, False, True]], "mask: got shape"),
        ([0, 1, 0], "mask: got dtype torch.int64"),
        (None, "mask: got NoneType"),
    ],
)
def test_masks_that_are_refused(name, mask, error):
    state = make(name).initial_state(3)
    with pytest.raises((TypeError, ValueError), match=error):
        state.reset(mask)


@pytest.mark.parametrize("name", SPARSE)
def test_states_that_do_not_fit_are_refused(name):
    model = make(name)
    state = model.initial_state(3)
    with pytest.raises(ValueError, match="start: got batch size 2, expected 1 or 3"):
        state.reset([True] * 3, model.initial_state(2))
    with pytest.raises(TypeError, match="start: got NTMState, expected a S"):
        state.reset([True] * 3, make("ntm").initial_state(3))
    with pytest.raises(ValueError, match=r"states\[1\]: got one made for .*memory_size=17"):
        state.cat([state, make(name, memory_size=17).initial_state(1)])
    with pytest.raises(TypeError, match=r"states\[1\]: got int"):
        state.cat([state, 3])
    with pytest.raises(ValueError, match="states: got none"):
        state.cat([])


@model_name
def test_lists_while_another_device_is_the_default(name):
    model = make(name)
    with torch.no_grad():
        _, state = model(random(3, 2, 5))
        right = state.select([1]), state.reset([True, False])
        with torch.device("meta"):  # stands for a GPU; the model is on the CPU
            got = state.select([1]), state.reset([True, False])
        for own, expected in zip(got, right, strict=True):
            inputs = random(3, own.batch_size, 5, seed=1)
            assert torch.equal(model(inputs, own)[0], model(inputs, expected)[0])
