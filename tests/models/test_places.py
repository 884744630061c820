"""Devices, dtypes and copies of a model as torch makes them."""

import copy
import importlib

import pytest
import torch

import sam
from sam.models import MODELS
from tests.models.small_models import random

every_model = pytest.mark.parametrize("name", MODELS)
memory_models = pytest.mark.parametrize("name", [name for name in MODELS if name != "lstm"])
sparse_models = pytest.mark.parametrize("name", ["sam", "sdnc"])
dense_models = pytest.mark.parametrize("name", ["lstm", "ntm", "dam", "dnc"])


def make(name, **settings):
    torch.manual_seed(0)
    sizes = {} if name == "lstm" else {"memory_size": 8, "word_size": 5, "num_heads": 2}
    settings = {"hidden_size": 7, **sizes, **settings}
    return sam.build(name, input_size=3, output_size=2, **settings)


@pytest.fixture
def default_device():
    yield torch.set_default_device
    torch.set_default_device(None)


@pytest.fixture
def default_dtype():
    yield torch.set_default_dtype
    torch.set_default_dtype(torch.float32)


@every_model
@pytest.mark.parametrize("settings", [{}, {"checkpoint": "dp", "checkpoint_mib": 0.1}])
@pytest.mark.parametrize("hooked", [False, True])
def test_another_default_device_changes_nothing(name, settings, hooked, default_device):
    if hooked and settings and name in ("sam", "sdnc"):
        pytest.skip("refused")
    model, inputs = make(name, **settings), torch.randn(60, 2, 3)
    words = None if name == "lstm" else torch.randn(8, 5, requires_grad=True)
    if hooked:
        model.output.register_forward_hook(lambda *_: None)
        model.controller.register_forward_hook(lambda *_: None)

    def run():
        model.zero_grad()
        outputs, state = model(inputs, model.initial_state(2, words))
        outputs, state = model(inputs, state)
        outputs.square().sum().backward()
        with torch.no_grad():
            last, _ = model(inputs, state)
        return [last.clone(), *(each.grad.clone() for each in model.parameters())]

    expected = run()
    default_device("meta")  # stands for "cuda"
    found = run()
    default_device(None)
    assert all(map(torch.equal, found, expected))


@dense_models
def test_on_meta_a_dense_model_gives_shapes(name):
    model = make(name).to("meta")
    outputs, state = model(torch.randn(4, 2, 3, device="meta"))
    assert outputs.shape == (4, 2, 2)
    assert outputs.device.type == state.hidden.device.type == "meta"


@sparse_models
def test_on_meta_a_sparse_model_says_where_it_runs(name):
    model = make(name).to("meta")
    with pytest.raises(ValueError, match=r"model: got torch\.float32 on meta, expected SAM in"):
        model(torch.randn(4, 2, 3, device="meta"))


@every_model
@pytest.mark.parametrize("way", ["assign", "to_empty"])
def test_made_on_meta_and_loaded(name, way):
    original, inputs = make(name).double(), random(4, 2, 3)
    with torch.device("meta"):
        model = make(name)
    if way == "assign":
        model.load_state_dict(original.state_dict(), assign=True)
    else:
        model.to_empty(device="cpu").double().load_state_dict(original.state_dict())
    assert torch.equal(model(inputs)[0], original(inputs)[0])


@every_model
def test_another_default_dtype(name, default_dtype):
    default_dtype(torch.float64)
    model = make(name)
    default_dtype(torch.float32)
    outputs, state = model(random(4, 2, 3))
    assert outputs.dtype == state.hidden.dtype == torch.float64


@every_model
def test_a_state_of_another_dtype_is_refused(name):
    model = make(name)
    state = model.initial_state(2)
    with pytest.raises(ValueError, match=r"state: got one made for .*float32.* expected .*float64"):
        model.double()(random(4, 2, 3), state)


@dense_models
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(name, dtype):
    model, inputs = make(name), torch.randn(6, 2, 3)
    exact, _ = model(inputs)
    model.to(dtype)
    outputs, state = model(inputs.to(dtype))
    outputs.float().square().sum().backward()
    assert outputs.dtype == state.hidden.dtype == dtype
    torch.testing.assert_close(outputs.float(), exact, atol=0.05, rtol=0)
    assert all(each.grad.isfinite().all() for each in model.parameters())


@sparse_models
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_refused_by_sparse_models(name, dtype):
    with pytest.raises(ValueError, match=f"model: got {dtype} on cpu, expected SAM in float32 or"):
        make(name).to(dtype)(torch.randn(4, 2, 3, dtype=dtype))


@every_model
def test_a_shared_and_a_copied_model_compute_the_same(name):
    model, inputs = make(name), torch.randn(4, 2, 3)
    expected = model(inputs)[0]
    for other in (copy.deepcopy(model), copy.deepcopy(model).share_memory()):
        outputs = other(inputs)[0]
        outputs.sum().backward()
        assert torch.equal(outputs, expected)


@every_model
@pytest.mark.parametrize("hooked", [False, True])
def test_a_state_of_inference_mode_is_trained_from(name, hooked):
    gradients = []
    for mode in (torch.no_grad, torch.inference_mode):
        model, inputs = make(name).double(), random(4, 2, 3)
        if hooked:
            model.output.register_forward_hook(lambda *_: None)
            model.controller.register_forward_hook(lambda *_: None)
        words = () if name == "lstm" else (random(8, 5),)
        with mode():
            _, state = model(inputs, model.initial_state(2, *words))
            model(inputs, state)
        model(inputs, state)[0].square().sum().backward()
        gradients.append([each.grad for each in model.parameters()])
    for mine, other in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-12)


def replicas(model, count, monkeypatch):
    """As `nn.DataParallel` makes them for its devices, here all on the CPU."""
    module = importlib.import_module("torch.nn.parallel.replicate")

    def copies(tensors, devices, detach=False):
        return [[tensor.view_as(tensor) for tensor in tensors] for _ in devices]

    monkeypatch.setattr(module, "_broadcast_coalesced_reshape", copies)
    monkeypatch.setattr(module, "_get_device_index", lambda device, *_: device)
    return module.replicate(model, list(range(count)))


@every_model
@pytest.mark.parametrize("settings", [{}, {"checkpoint": "dp", "checkpoint_mib": 0.3}])
def test_replicas_share_the_work(name, settings, monkeypatch):
    model, inputs = make(name, **settings).double(), random(60, 4, 3, requires_grad=True)
    leaves = [inputs, *model.parameters()]
    expected = model(inputs)[0]
    gradients = [torch.autograd.grad(expected.square().sum(), leaves)]
    parts = zip(replicas(model, 2, monkeypatch), inputs.chunk(2, 1), strict=True)
    outputs = torch.cat([replica(part)[0] for replica, part in parts], 1)
    torch.testing.assert_close(outputs, expected, rtol=1e-12, atol=1e-12)
    gradients.append(torch.autograd.grad(outputs.square().sum(), leaves))
    for mine, other in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-10)


@memory_models
@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("change", ["in place", "by an optimizer"])
def test_a_given_memory_is_copied(name, batched, change):
    model, inputs = make(name).double(), random(5, 2, 3)
    words = random(*((2, 8, 5) if batched else (8, 5)), requires_grad=True)
    old = words.detach().clone().requires_grad_()
    state = model.initial_state(2, words)
    if change == "in place":
        with torch.no_grad():
            words[..., :4, :] *= 10
    else:
        words.grad = torch.ones_like(words)
        torch.optim.SGD([words], 1.0).step()
    ours, theirs = model(inputs, state)[0], model(inputs, model.initial_state(2, old))[0]
    assert torch.equal(ours, theirs)
    (to_words,), (to_old,) = (
        torch.autograd.grad(outputs.square().sum(), [leaf])
        for outputs, leaf in ((ours, words), (theirs, old))
    )
    assert to_old.abs().max() > 0
    assert torch.equal(to_words, to_old)
