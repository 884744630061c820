"""What follows a computation or replaces its numbers: compiled around, differentiated once, or a
clear error."""

import importlib
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

import sam
from sam.models import MODELS
from tests.models.small_models import random

every_model = pytest.mark.parametrize("name", MODELS)
memory_models = pytest.mark.parametrize("name", [name for name in MODELS if name != "lstm"])


def make(name, **settings):
    torch.manual_seed(0)
    sizes = {} if name == "lstm" else {"memory_size": 8, "word_size": 5, "num_heads": 2}
    settings = {"hidden_size": 7, **sizes, **settings}
    return sam.build(name, input_size=3, output_size=2, **settings)


class Around(nn.Module):
    """A model between layers of torch's."""

    def __init__(self, model):
        super().__init__()
        self.before, self.model, self.after = nn.Linear(4, 3), model, nn.Linear(2, 2)

    def forward(self, inputs, state=None):
        outputs, state = self.model(torch.tanh(self.before(inputs)), state)
        return torch.sin(self.after(outputs)), state


@pytest.fixture(autouse=True)
def nothing_compiled():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@every_model
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_model_is_the_model(name, backend):
    model, inputs = make(name), torch.randn(5, 2, 3)
    compiled = torch.compile(model, backend=backend)
    for length in (5, 3, 1):
        expected, last = model(inputs[:length])
        outputs, state = compiled(inputs[:length])
        assert torch.equal(outputs, expected)
        assert torch.equal(compiled(inputs, state.detach())[0], model(inputs, last)[0])
    gradients = []
    for each in (model, compiled):
        model.zero_grad(set_to_none=True)
        each(inputs)[0].square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert all(map(torch.equal, *gradients))


@every_model
# Torch's own, of any tensor between two compiled pieces.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_what_is_around_a_model_is_compiled_once(name):
    around, inputs = Around(make(name)), torch.randn(5, 2, 4)
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(around, backend=counter)
    state = expected_state = None
    for _ in range(4):
        expected, expected_state = around(inputs, expected_state)
        outputs, state = compiled(inputs, state)
        torch.testing.assert_close(outputs, expected)
    outputs.sum().backward()
    assert around.before.weight.grad.abs().max() > 0
    # What comes before the model and what comes after it: with and without a state.
    assert 2 <= counter.frame_count <= 4
    assert counter.op_count >= 4


@every_model
def test_the_compiled_function_may_make_states_and_take_no_gradient(name):
    model, inputs = make(name), torch.randn(5, 2, 3)
    words = None if name == "lstm" else torch.randn(8, 5)

    def run(given):
        state = model.initial_state(2, words)
        _, state = model(given * 2, state)
        return model(given, state)[0] + 1

    with torch.no_grad():
        assert torch.equal(torch.compile(run, backend="eager")(inputs), run(inputs))


@every_model
def test_called_layers_in_a_compiled_function(name):
    model, inputs, calls = make(name), torch.randn(5, 2, 3), []
    model.output.register_forward_hook(lambda *_: calls.append(1))
    model.controller.register_forward_hook(lambda *_: None)
    expected = model(inputs)[0]
    assert torch.equal(torch.compile(model, backend="eager")(inputs)[0], expected)
    assert len(calls) == 2


@every_model
def test_the_whole_graph_cannot_be_had(name):
    around = Around(make(name))
    compiled = torch.compile(around, backend="eager", fullgraph=True)
    with pytest.raises(torch._dynamo.exc.Unsupported, match=r"torch.compiler.*disable"):
        compiled(torch.randn(5, 2, 4))


def test_importing_and_calling_leaves_the_compiler_out():
    code = (
        "import sys, torch, sam; model = sam.SAM(3, 2, memory_size=8); "
        "model(torch.randn(2, 1, 3)); assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@every_model
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_tracing_and_exporting_are_refused(name):
    model, inputs = make(name), torch.randn(5, 2, 3)
    with pytest.raises(RuntimeError, match=rf"{name.upper()}: got a call inside torch\.jit\.trace"):
        torch.jit.trace(lambda x: model(x)[0], inputs)
    with pytest.raises(RuntimeError, match=rf"{name.upper()}: got a call inside torch\.export"):
        torch.export.export(model, (inputs,))


TRANSFORMS = {
    "vmap": lambda f, x: torch.func.vmap(f)(x.expand(3, *x.shape)),
    "grad": lambda f, x: torch.func.grad(lambda y: f(y).sum())(x),
    "vjp": lambda f, x: torch.func.vjp(f, x),
    "jvp": lambda f, x: torch.func.jvp(f, (x,), (x,)),
    "jacrev": lambda f, x: torch.func.jacrev(f)(x),
    "hessian": lambda f, x: torch.func.hessian(f)(x),
}


@memory_models
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_transforms_of_functions_are_refused(name, transform):
    model, inputs = make(name), torch.randn(5, 2, 3)
    state = model.initial_state(2)
    expected = model(inputs, state)[0]
    with pytest.raises(RuntimeError, match=r": got a call inside a transform of torch\.func"):
        TRANSFORMS[transform](lambda x: model(x, state)[0], inputs)
    with pytest.raises(RuntimeError, match=r": got a call inside a transform of torch\.func"):
        TRANSFORMS[transform](lambda w: model.initial_state(2, w).memory, torch.randn(8, 5))
    assert torch.equal(model(inputs, state)[0], expected)


@every_model
def test_a_functional_call_uses_what_it_is_given(name):
    model, other, inputs = make(name).double(), make(name).double(), random(5, 2, 3)
    given = {part: (2 * value).detach() for part, value in model.named_parameters()}
    other.load_state_dict(given)
    for value in given.values():
        value.requires_grad_()
    ours = torch.func.functional_call(model, given, (inputs,))[0]
    theirs = other(inputs)[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    gradients = [
        torch.autograd.grad(outputs.square().sum(), list(leaves))
        for outputs, leaves in ((ours, given.values()), (theirs, other.parameters()))
    ]
    for mine, other in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-12)


def penalties(outputs, state, hidden=None):
    """Losses whose gradient is, or is not, a constant where it comes in."""
    return {
        "of the outputs": outputs.square().sum(),
        "sum of the outputs": outputs.sum(),
        "sum of the state": state.hidden.sum(),
        "sum of what was read": state.read_words.sum() if hasattr(state, "read_words") else None,
    }


@memory_models
@pytest.mark.parametrize("kind", list(penalties(torch.zeros(1), sam.LSTM(1, 1).initial_state(1))))
@pytest.mark.parametrize("hooked", [False, True])
def test_a_gradient_of_the_gradient_is_refused_and_never_zero(name, kind, hooked):
    model, inputs = make(name).double(), random(5, 2, 3, requires_grad=True)
    model.output.requires_grad_(False)
    if hooked:
        model.interface.register_forward_hook(lambda *_: None)
    loss = penalties(*model(inputs))[kind]
    plain = torch.autograd.grad(loss, inputs, retain_graph=True)[0]
    gradient = torch.autograd.grad(loss, inputs, create_graph=True)[0]
    assert torch.equal(gradient, plain)
    with pytest.raises(RuntimeError, match=r"gradient of a gradient \(create_graph=True\)"):
        (loss + gradient.square().sum()).backward()


def test_neither_with_a_checkpoint():
    model = make("lstm", checkpoint="dp", checkpoint_mib=0.05).double()
    inputs = random(60, 2, 3, requires_grad=True)
    loss = model(inputs)[0].sum()
    gradient = torch.autograd.grad(loss, inputs, create_graph=True)[0]
    with pytest.raises(RuntimeError, match=r"gradient of a gradient \(create_graph=True\)"):
        (loss + gradient.square().sum()).backward()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ["sam", "sdnc"])
def test_a_compiled_backward_pass_leaves_the_memory_to_the_model(name, monkeypatch):
    model, inputs = make(name), torch.randn(3, 2, 3)
    model(inputs)[0].square().sum().backward()
    expected = [parameter.grad for parameter in model.parameters()]
    model.zero_grad(set_to_none=True)
    monkeypatch.setattr(torch._dynamo.config, "compiled_autograd", True)
    enable = importlib.import_module("torch._dynamo.compiled_autograd")._enable
    with enable(lambda graph: torch.compile(graph, backend="eager")):
        model(inputs)[0].square().sum().backward()
    assert all(map(torch.equal, (each.grad for each in model.parameters()), expected))
