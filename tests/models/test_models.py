"""What all models have in common."""

import io
import math

import pytest
import torch

import sam
from sam.models import MODELS
from tests.models.small_models import MEMORY_NAMES, NAMES, build, random, start

every_model = pytest.mark.parametrize("name", NAMES)
memory_models = pytest.mark.parametrize("name", MEMORY_NAMES)


def tensors(state):
    return {name: part for name, part in vars(state).items() if torch.is_tensor(part)}


def assert_equal_states(one, other):
    for name, part in tensors(one).items():
        torch.testing.assert_close(part, getattr(other, name), msg=name)


@every_model
def test_gradcheck(name):
    model = build(name, memory_size=4, word_size=3, hidden_size=4)

    names = list(dict(model.named_parameters()))
    memory = [] if name == "lstm" else [random(4, 3, requires_grad=True)]

    def run(inputs, *leaves):
        parameters = dict(zip(names, leaves, strict=False))
        state = model.initial_state(2, *leaves[len(names) :])
        outputs, _ = torch.func.functional_call(model, parameters, (inputs, state))
        return outputs

    leaves = [random(3, 2, 3, requires_grad=True), *model.parameters(), *memory]
    assert torch.autograd.gradcheck(run, leaves)


@every_model
def test_elements_of_a_batch_do_not_mix(name):
    model, inputs = build(name), random(5, 3, 3) * torch.tensor([0.1, 1.0, 9.0]).view(1, 3, 1)
    outputs, _ = model(inputs, start(model, 3))
    for b in range(3):
        state = model.initial_state(1)
        if name != "lstm":
            state = model.initial_state(1, start(model, 3).memory[b : b + 1])
        alone, _ = model(inputs[:, b : b + 1], state)
        torch.testing.assert_close(alone, outputs[:, b : b + 1])


@every_model
def test_two_halves_make_the_whole(name):
    model, inputs = build(name), random(8, 2, 3)
    whole, last = model(inputs, start(model, 2))
    first, state = model(inputs[:3], start(model, 2))
    second, end = model(inputs[3:], state.detach())
    torch.testing.assert_close(torch.cat([first, second]), whole)
    assert_equal_states(end, last)


@every_model
def test_truncated_training_goes_on_after_backward(name):
    model, state = build(name), None
    for step in range(3):
        outputs, state = model(random(4, 2, 3, seed=step), state)
        outputs.sum().backward()
        state = state.detach()
        assert not any(part.requires_grad for part in tensors(state).values())
        assert all(p.grad.isfinite().all() for p in model.parameters())


@every_model
def test_a_state_is_a_value(name):
    model, inputs = build(name), random(4, 2, 3)
    _, state = model(inputs)
    kept = {part: value.clone() for part, value in tensors(state).items()}
    (one, _), (same, _) = model(inputs, state), model(inputs, state)
    assert torch.equal(one, same)
    one.sum().backward()
    for part, value in kept.items():
        assert torch.equal(getattr(state, part), value), part


@every_model
def test_batch_first(name):
    model, inputs = build(name), random(4, 2, 3)
    outputs, _ = model(inputs)
    model.batch_first = True
    swapped, state = model(inputs.transpose(0, 1))
    assert torch.equal(swapped, outputs.transpose(0, 1))
    assert state.batch_size == 2


@every_model
def test_float32_follows_float64(name):
    model, inputs = build(name), random(4, 2, 3)
    exact, _ = model(inputs, start(model, 2))
    state = start(model, 2)
    model = model.float()
    memory = () if name == "lstm" else (state.memory.float(),)
    rough, state = model(inputs.float(), model.initial_state(2, *memory))
    assert {part.dtype for part in tensors(state).values()} <= {torch.float32, torch.int64}
    torch.testing.assert_close(rough.double(), exact, rtol=1e-3, atol=1e-4)


@every_model
def test_saved_and_loaded(name):
    model, other, inputs = build(name), build(name, seed=1), random(4, 2, 3)
    assert not torch.equal(other(inputs)[0], model(inputs)[0])
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(inputs)[0], model(inputs)[0])
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    assert torch.equal(loaded(inputs)[0], model(inputs)[0])


# The DNC's weights sum to at most 1: test_dnc.py.
@pytest.mark.parametrize("name", [name for name in MEMORY_NAMES if name != "dnc"])
def test_weights_are_distributions(name):
    model = build(name, spread=2.0)
    _, state = model(random(9, 2, 3), start(model, 2))
    for part in ("read_weights", "write_weights"):
        weights = getattr(state, part, state.read_weights)
        assert (weights >= 0).all()
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, dtype=torch.float64))


@memory_models
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, None, 1e4])
def test_a_constant_memory_gives_finite_gradients(name, dtype, value):
    model = build(name, memory_size=16).to(dtype)
    memory = None
    if value is not None:
        memory = torch.full((16, 5), value, dtype=dtype, requires_grad=True)
    inputs = random(6, 2, 3).to(dtype).requires_grad_()
    outputs, _ = model(inputs, model.initial_state(2, memory))
    outputs.square().sum().backward()
    leaves = [*model.parameters(), inputs] + ([] if memory is None else [memory])
    assert all(leaf.grad.isfinite().all() for leaf in leaves)


@memory_models
def test_extreme_interfaces_stay_finite(name):
    model = build(name, memory_size=16, spread=30.0).float()
    outputs, _ = model(random(6, 2, 3).float())
    outputs.sum().backward()
    assert outputs.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@memory_models
def test_a_given_memory_is_shared_and_stays_as_it_was(name):
    model, inputs, memory = build(name), random(4, 2, 3), random(6, 5, seed=3)
    before = memory.clone()
    shared, state = model(inputs, model.initial_state(2, memory))
    each, _ = model(inputs, model.initial_state(2, memory.repeat(2, 1, 1)))
    torch.testing.assert_close(shared, each)
    assert torch.equal(memory, before)
    assert not torch.equal(state.memory[0], memory)


@pytest.mark.parametrize(("share", "aligned"), [(0.0, 0), (0.4, 2), (0.01, 1), (1.0, 5), (True, 5)])
@pytest.mark.parametrize("name", ["sam", "sdnc", "dam"])
def test_a_share_of_the_first_queries_is_what_is_written(name, share, aligned):
    sizes = {"memory_size": 8, "word_size": 5, "num_heads": 3, "hidden_size": 7}
    torch.manual_seed(0)
    model = sam.build(name, input_size=4, output_size=2, **sizes, aligned_queries=share)
    parts = model.interface(torch.randn(6, 7)).view(6, 3, -1)
    queries, words = parts[..., :5], parts[..., 5:10]
    assert torch.equal(queries[..., :aligned], words[..., :aligned])
    assert (queries[..., aligned:] == 0).all() == (aligned > 0)
    assert not torch.allclose(queries[..., -1], words[..., -1]) or aligned == 5
    # Heads differ, and so do an aligned model's parameters from here on.
    assert not torch.allclose(parts[:, 0, :5], parts[:, 1, :5])
    outputs, _ = model(torch.randn(5, 2, 4))
    outputs.square().sum().backward()
    gradient = model.interface.weight.grad.view(3, -1, 7)
    assert not torch.allclose(gradient[:, :5], gradient[:, 5:10])


@pytest.mark.parametrize("name", ["sam", "sdnc", "dam"])
@pytest.mark.parametrize(
    ("share", "error"),
    [(-0.1, ValueError), (1.5, ValueError), (math.nan, ValueError), ("all", TypeError)],
)
def test_a_share_beyond_the_word_is_refused(name, share, error):
    with pytest.raises(
        error, match=rf"aligned_queries: got {share!r}, expected a number in \[0, 1\]"
    ):
        sam.build(name, input_size=4, output_size=2, aligned_queries=share)


@pytest.mark.parametrize("name", MODELS)
def test_a_controller_for_one_hot_inputs_tells_them_apart_at_the_first_step(name):
    """Steps from different inputs leave different states; by default they are nearly the same."""

    def state_of_each_input(one_hot_inputs):
        torch.manual_seed(0)
        sizes = {} if name == "lstm" else {"memory_size": 16}
        model = sam.build(
            name,
            input_size=9,
            output_size=2,
            hidden_size=64,
            one_hot_inputs=one_hot_inputs,
            **sizes,
        )
        _, state = model(torch.eye(9).unsqueeze(0))
        return torch.corrcoef(state.hidden)[~torch.eye(9, dtype=torch.bool)]

    assert state_of_each_input(False).mean() > 0.5
    assert state_of_each_input(True).abs().mean() < 0.15


@pytest.mark.parametrize("name", MODELS)
def test_a_controller_for_one_hot_inputs_has_the_biases_of_its_forget_gate_alone(name):
    model = sam.build(name, input_size=9, output_size=2, hidden_size=6, one_hot_inputs=True)
    biases = sum(each for part, each in model.controller.named_parameters() if "bias" in part)
    assert biases.tolist() == 6 * [0.0] + 6 * [1.0] + 12 * [0.0]
    (weights,) = (each for part, each in model.controller.named_parameters() if "weight_ih" in part)
    assert 0.8 < weights[:, :9].abs().max() <= 1
    assert (weights[:, 9:].abs() <= 1 / math.sqrt(6)).all()  # the words read are not one-hot
