"""What hangs on the call of a layer is honoured by models that otherwise use its weights alone."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn import utils
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils import prune

import ann_backends
import sam
from sam.models import MODELS
from tests.models.small_models import random

sparse_models = pytest.mark.parametrize("name", ["sam", "sdnc"])
memory_models = pytest.mark.parametrize("name", ["ntm", "dam", "dnc", "sam", "sdnc"])
SIZES = {"memory_size": 9, "word_size": 5, "num_heads": 2, "hidden_size": 7}


def make(name, **settings):
    torch.manual_seed(0)
    model = sam.build(name, input_size=3, output_size=2, **SIZES | settings).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.5)
    return model


def calls_of(layer, counts):
    """Count its calls, and so make it be called."""
    return layer.register_forward_hook(lambda *_: counts.append(1))


def assert_close(ours, theirs):
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-12)


def results(model, pieces=1, given=False):
    """What a model computes from one state to the next, and all gradients of it."""
    inputs = random(12, 3, 3, requires_grad=True)
    words = random(model.memory_size, 5, seed=5, requires_grad=True) if given else None
    state, outputs = model.initial_state(3, words), []
    for piece in inputs.chunk(pieces):
        output, state = model(piece, state)
        outputs.append(output)
    parts = [*outputs, state.hidden, state.cell, state.read_words, state.read_weights]
    loss = sum((random(*part.shape, seed=i) * part).sum() for i, part in enumerate(parts))
    leaves = [inputs, *([words] if given else []), *model.parameters()]
    memory = state.memory.clone()
    gradients = torch.autograd.grad(loss, leaves)
    return [*parts, memory, state.memory.clone(), *gradients]


@sparse_models
@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"k": 1, "num_heads": 3},
        {"k": 2, "num_heads": 1, "memory_size": 2},
        {"similarity": "l2", "key_strength": False},
        {"ann": "kd_forest", "memory_size": 40},
    ],
    ids=str,
)
@pytest.mark.parametrize("given", [False, True])
def test_called_layers_give_what_their_weights_do(name, settings, pieces, given):
    counts, model = [], make(name, **settings)
    expected = results(model, pieces, given)
    calls_of(model.interface, counts)
    assert_close(results(model, pieces, given), expected)
    assert len(counts) == 12


@sparse_models
def test_without_links_too(name):
    settings = {"link_size": 0} if name == "sdnc" else {"access_threshold": 0.3}
    model = make(name, **settings)
    expected = results(model)
    calls_of(model.controller, [])
    assert_close(results(model), expected)


@sparse_models
def test_truncated_training_with_called_layers(name):
    gradients = []
    for counts in (None, []):
        model, state = make(name), None
        if counts is not None:
            calls_of(model.interface, counts)
        for step in range(4):
            outputs, state = model(random(5, 2, 3, seed=step), state)
            outputs.square().sum().backward()
            state = state.detach()
        gradients.append([state.memory.clone(), *(each.grad for each in model.parameters())])
    assert_close(*gradients)


@sparse_models
def test_older_states_and_no_gradient(name):
    """Steps of both kinds from one state, in turns: a state is a value for both."""
    model, inputs = make(name), random(6, 2, 3)
    with torch.no_grad():
        _, state = model(inputs)
        expected = model(inputs, state)[0]
        for _ in range(2):
            hook = calls_of(model.interface, [])
            outputs, after = model(inputs, state)
            assert_close([outputs], [expected])
            hook.remove()
            assert_close([model(inputs, state)[0]], [expected])
            model(inputs, after)


@sparse_models
def test_a_second_backward_pass_over_steps(name):
    model = make(name)
    calls_of(model.interface, [])
    outputs, _ = model(random(5, 2, 3))
    first, second = (
        torch.autograd.grad(outputs.sum(), list(model.parameters()), retain_graph=retained)
        for retained in (True, False)
    )
    assert_close(first, second)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        outputs.sum().backward()


@sparse_models
def test_a_branch_of_two_futures(name):
    """Two continuations of one state, both in one backward pass."""
    found = []
    for called in (False, True):
        model = make(name)
        if called:
            calls_of(model.interface, [])
        words = random(9, 5, seed=5, requires_grad=True)
        _, state = model(random(4, 2, 3), model.initial_state(2, words))
        one, two = (model(random(4, 2, 3, seed=seed), state)[0] for seed in (2, 3))
        loss = (one * two).sum()
        found.append(torch.autograd.grad(loss, [words, *model.parameters()]))
    assert_close(*found)


@memory_models
def test_hooks_are_called_at_each_step(name):
    model, seen = make(name), []
    model.controller.register_forward_pre_hook(lambda *_: seen.append("controller"))
    model.interface.register_forward_hook(lambda *_: seen.append("interface"))
    model.interface.register_full_backward_hook(lambda *_: seen.append("backward"))
    model.output.register_forward_hook(lambda *_: seen.append("output"))
    model(random(4, 2, 3))[0].sum().backward()
    assert [seen.count(each) for each in ("controller", "interface", "backward")] == [4, 4, 4]
    assert seen.count("output") == 1
    seen.clear()
    hook = register_module_forward_hook(lambda module, *_: seen.append(type(module).__name__))
    try:
        model(random(4, 2, 3))
    finally:
        hook.remove()
    assert seen.count("LSTMCell") == seen.count("Linear") == 4


class Adapter(nn.Module):
    """A low-rank change beside a layer."""

    def __init__(self, base):
        super().__init__()
        self.base, self.weight, self.bias = base, base.weight, base.bias
        self.down = nn.Parameter(random(2, 7, seed=8) / 4)
        self.up = nn.Parameter(random(len(base.weight), 2, seed=9) / 4)

    def forward(self, hidden):
        return self.base(hidden) + hidden @ self.down.T @ self.up.T


@sparse_models
def test_an_adapter_counts_and_is_trained(name):
    model, merged, inputs = make(name), make(name), random(6, 2, 3)
    model.interface = Adapter(model.interface)
    up, down = model.interface.up, model.interface.down
    with torch.no_grad():
        merged.interface.weight += up @ down
    ours, theirs = model(inputs)[0], merged(inputs)[0]
    assert_close([ours], [theirs])
    for outputs in (ours, theirs):
        outputs.square().sum().backward()
    to_weight = merged.interface.weight.grad
    assert_close([up.grad, down.grad], [to_weight @ down.T, up.T @ to_weight])


@sparse_models
def test_a_forward_put_on_the_layer_is_called(name):
    model, moved, inputs = make(name), make(name), random(6, 2, 3)
    forward = model.interface.forward
    model.interface.forward = lambda hidden: forward(hidden) + 0.25
    with torch.no_grad():
        moved.interface.bias += 0.25
    assert_close([model(inputs)[0]], [moved(inputs)[0]])


@sparse_models
def test_an_interface_without_bias(name):
    model, without = make(name), make(name)
    with torch.no_grad():
        model.interface.bias.zero_()
    weight = without.interface.weight
    without.interface = nn.Linear(7, len(weight), bias=False)
    without.interface.weight = weight
    assert_close([without(random(6, 2, 3))[0]], [model(random(6, 2, 3))[0]])


@sparse_models
@pytest.mark.parametrize("layer", ["controller", "interface"])
def test_a_pruned_layer_follows_its_optimizer(name, layer):
    weight = "weight_hh" if layer == "controller" else "weight"
    model, masked = make(name), make(name)
    prune.l1_unstructured(model.get_submodule(layer), weight, 0.4)
    own, plain = model.get_submodule(layer), masked.get_parameter(f"{layer}.{weight}")
    mask = getattr(own, f"{weight}_mask")
    optimizers = [torch.optim.SGD(each.parameters(), 0.1) for each in (model, masked)]
    for step in range(3):
        with torch.no_grad():
            plain *= mask
        for each, optimizer in zip((model, masked), optimizers, strict=True):
            optimizer.zero_grad()
            each(random(6, 2, 3, seed=step))[0].square().sum().backward()
            optimizer.step()
    assert_close([getattr(own, f"{weight}_orig") * mask], [plain * mask])
    prune.remove(own, weight)
    with torch.no_grad():
        plain *= mask
    assert_close([model(random(6, 2, 3))[0]], [masked(random(6, 2, 3))[0]])


@sparse_models
def test_old_and_new_weight_norm_agree(name):
    old, new, inputs = make(name), make(name), random(6, 2, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        utils.weight_norm(old.interface)
    utils.parametrizations.weight_norm(new.interface)
    for model in (old, new):
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for _ in range(3):
            optimizer.zero_grad()
            model(inputs)[0].square().sum().backward()
            optimizer.step()
    ours, theirs = (sorted(each.parameters(), key=lambda p: p.sum()) for each in (old, new))
    assert_close(ours, theirs)
    assert_close([old(inputs)[0]], [new(inputs)[0]])


@sparse_models
def test_old_spectral_norm_is_applied(name):
    model = make(name)
    with torch.no_grad():
        model.interface.weight *= 8
    utils.spectral_norm(model.interface)
    for _ in range(10):
        model(random(6, 2, 3))
    assert torch.linalg.matrix_norm(model.interface.weight, 2).item() == pytest.approx(1, abs=1e-3)


@sparse_models
def test_parametrizations_are_asked_once_a_call(name):
    model, doubled, seen = make(name), make(name), []

    class Double(nn.Module):
        def forward(self, weight):
            seen.append(1)
            return 2 * weight

    utils.parametrize.register_parametrization(model.interface, "weight", Double())
    seen.clear()
    ours = model(random(6, 2, 3))[0]
    assert len(seen) == 1
    with torch.no_grad():
        doubled.interface.weight *= 2
    theirs = doubled(random(6, 2, 3))[0]
    assert_close([ours], [theirs])
    for outputs in (ours, theirs):
        outputs.sum().backward()
    original = model.interface.parametrizations.weight.original
    assert_close([original.grad], [2 * doubled.interface.weight.grad])


@memory_models
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_quantised_layers_are_called(name):
    model = make(name).float()
    inputs = random(6, 2, 3).float()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 0.5
        expected = model(inputs)[0]
        quantised = torch.ao.quantization.quantize_dynamic(model, {nn.Linear, nn.LSTMCell})
        outputs, state = quantised(inputs)
        assert "dynamic" in type(quantised.interface).__module__
        assert not torch.equal(outputs, expected)
        torch.testing.assert_close(outputs, expected, atol=0.05, rtol=0)
        assert state.hidden.dtype == torch.float32
        quantised(inputs, state)


@sparse_models
def test_a_controller_of_another_kind(name):
    class Slow(nn.Module):
        """An LSTM whose cell changes by half."""

        def __init__(self, base):
            super().__init__()
            self.base = base

        def forward(self, seen, state):
            hidden, cell = self.base(seen, state)
            return hidden, (cell + state[1]) / 2

    model, inputs = make(name), random(6, 2, 3)
    before = model(inputs)[0]
    model.controller = Slow(model.controller)
    outputs = model(inputs)[0]
    assert not torch.allclose(outputs, before)
    seen = torch.cat([inputs[0], torch.zeros(2, 10, dtype=torch.float64)], 1)
    zeros = torch.zeros(2, 7, dtype=torch.float64)
    state = model(inputs[:1])[1]
    assert_close([state.cell], [model.controller(seen, (zeros, zeros))[1]])


@memory_models
@pytest.mark.parametrize("size", [3, 400])
def test_an_interface_of_another_size_is_refused(name, size):
    model = make(name)
    model.interface = nn.Linear(7, size).double()
    expected = rf"interface: got shape \[2, {size}\], expected \[2, {model.interface_size}\]"
    with pytest.raises(ValueError, match=expected):
        model(random(4, 2, 3))


@sparse_models
def test_a_layer_that_gives_nan_leaves_the_state(name):
    model, inputs, counts = make(name), random(6, 2, 3), []
    _, state = model(inputs)
    memory, expected = state.memory.clone(), model(inputs, state)[0]

    def spoil(module, given, outputs):
        counts.append(1)
        return outputs * torch.nan if len(counts) == 4 else None

    hook = model.interface.register_forward_hook(spoil)
    with pytest.raises(FloatingPointError, match="interface: got NaN or infinite values, expected"):
        model(inputs, state)
    hook.remove()
    assert torch.equal(state.memory, memory)
    assert torch.equal(model(inputs, state)[0], expected)


@sparse_models
def test_an_interrupted_backward_pass_leaves_the_state(name):
    model, inputs, counts = make(name), random(6, 2, 3), []
    words = random(9, 5, seed=5, requires_grad=True)
    expected = results(model, given=True)

    def interrupt(*_):
        counts.append(1)
        if len(counts) == 3:
            raise KeyboardInterrupt

    hook = model.interface.register_full_backward_hook(interrupt)
    outputs, state = model(inputs, model.initial_state(2, words))
    with pytest.raises(KeyboardInterrupt):
        outputs.sum().backward()
    again, _ = model(inputs, state)
    hook.remove()
    assert_close([again], [model(inputs, state)[0]])
    assert_close(results(model, given=True), expected)


@sparse_models
def test_a_trace_of_called_layers(name, tmp_path):
    traces = []
    for called in (False, True):
        model = make(name)
        if called:
            calls_of(model.interface, [])
        with sam.record_trace(model, tmp_path / "trace.npz", max_steps=9):
            _, state = model(random(6, 2, 3))
            model(random(2, 2, 3), state)
            model(random(4, 2, 3), state)
        traces.append(ann_backends.Trace.load(tmp_path / "trace.npz"))
    fused, steps = traces
    for part in ("slots", "first_steps", "start_episode", "start_element", "start_slot"):
        assert (getattr(fused, part) == getattr(steps, part)).all(), part
    for part in ("queries", "rows", "start_rows"):
        torch.testing.assert_close(
            *(torch.from_numpy(getattr(each, part)) for each in traces), rtol=1e-12, atol=1e-12
        )


@sparse_models
@pytest.mark.parametrize("layer", ["controller", "interface", "output"])
@pytest.mark.parametrize("mib", [0.05, 100])
def test_a_checkpointed_model_names_the_layer_that_has_to_be_called(name, layer, mib):
    model = make(name, checkpoint="dp", checkpoint_mib=mib)
    inputs = random(20, 2, 3)
    expected = model(inputs)[0]
    hook = model.get_submodule(layer).register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match=rf"checkpoint: got 'dp' with forward hooks on `{layer}`"):
        model(inputs)
    with torch.no_grad():
        assert_close([model(inputs)[0]], [expected])
    hook.remove()
    prune.l1_unstructured(model.interface, "weight", 0.3)
    with pytest.raises(ValueError, match=r"forward pre hooks on `interface` \(L1Unstructured\)"):
        model(inputs)
    model.interface = nn.Sequential(nn.Identity(), model.interface)
    with pytest.raises(ValueError, match="a Sequential of its own as `interface`"):
        model(inputs)
    model.interface = nn.Linear(7, 4)
    with pytest.raises(ValueError, match="a Linear of its own as `interface`"):
        model(inputs)


@pytest.mark.parametrize("name", [name for name in MODELS if name not in ("sam", "sdnc")])
def test_a_checkpointed_model_refuses_layers_that_are_not_the_same_twice(name):
    sizes = {"hidden_size": 7} if name == "lstm" else SIZES
    settings = {"checkpoint": "dp", "checkpoint_mib": 0.2, **sizes}
    model = sam.build(name, input_size=3, output_size=2, **settings).double()
    plain, inputs = model.output, random(400, 2, 3)
    model(inputs)[0].sum().backward()
    model.output = nn.Sequential(plain, nn.Dropout(0.5))
    with pytest.raises(ValueError, match="checkpoint: got 'dp' with layers that draw random"):
        model(inputs)
    model.eval()
    model(inputs)[0].sum().backward()
    model.train()
    model.output = utils.spectral_norm(plain)
    with pytest.raises(ValueError, match=r"checkpoint: got 'dp' .* change their buffers"):
        model(inputs)
