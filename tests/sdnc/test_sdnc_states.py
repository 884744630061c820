"""Links change in place, as the memory does, and yet every state of an SDNC stays what it was."""

import contextlib
import gc
import weakref

import pytest
import torch

from sam.sam import SAM
from sam.sdnc import SDNC

SIZES = {"memory_size": 12, "word_size": 4, "num_heads": 2, "k": 3, "hidden_size": 6}


def make(**settings):
    """An SDNC whose read modes change from step to step, so that its links matter."""
    model = SDNC(3, 2, **SIZES, link_size=3, **settings)
    torch.nn.init.normal_(model.interface.weight)
    return model


@pytest.fixture(params=["cleared", "strict", "empty"])
def start(request):
    """A model and a state of batch size 2 to start from, in float32 where rounding is coarse."""
    model = make(strict_paper_links=request.param == "strict")
    memory = None if request.param == "empty" else torch.randn(2, 12, 4)
    return model, model.initial_state(2, memory)


@pytest.fixture(params=[True, False], ids=["grad", "no_grad"])
def with_gradient(request):
    with torch.set_grad_enabled(request.param):
        yield


def everything(model, state):
    """All that a state stands for, bit for bit; ring and index by what the next steps do."""
    parts = [state.memory.detach(), state.links.to_dense(), state.precedence.to_dense()]
    parts = [part.numpy().tobytes() for part in parts]
    probe = torch.linspace(-2, 2, 20 * 2 * 3).view(20, 2, 3)
    with torch.no_grad():
        outputs, after = model(probe, state)
    return (*parts, outputs.numpy().tobytes(), after.links.to_dense().numpy().tobytes())


def test_backward_leaves_everything_as_at_the_end(start):
    model, state = start
    inputs = torch.randn(40, 2, 3, requires_grad=True)
    outputs, after = model(inputs, state)
    kept = everything(model, after)
    assert after.links.to_dense().any()
    (outputs**2).sum().backward()
    assert everything(model, after) == kept
    assert inputs.grad.any()


def test_an_older_state_stays_what_it_was(start, with_gradient):
    model, state = start
    states = [state]
    for _ in range(4):
        states.append(model(torch.randn(7, 2, 3), states[-1])[1])
    # A second branch from the middle.
    states.append(model(torch.randn(5, 2, 3), states[2])[1])
    kept = [everything(model, state) for state in states]
    assert len({*kept}) == len(kept)
    for i in (0, 5, 3, 1, 4, 4, 2, 5, 0):
        assert everything(model, states[i]) == kept[i]


def test_links_of_an_older_state_asked_for_first(start, with_gradient):
    """Whatever part is asked for first, all of the model goes back to that state."""
    model, state = start
    _, middle = model(torch.randn(9, 2, 3), state)
    links, precedence = middle.links.to_dense(), middle.precedence.to_dense()
    for ask in ("links", "precedence", "memory"):
        _, end = model(torch.randn(9, 2, 3), middle)
        assert not torch.equal(end.links.to_dense(), links)
        getattr(middle, ask)
        assert torch.equal(middle.links.to_dense(), links)
        assert torch.equal(middle.precedence.to_dense(), precedence)
    assert not state.links.to_dense().any()
    assert not state.precedence.to_dense().any()


def test_what_was_read_of_a_state_is_a_copy(start):
    model, state = start
    _, middle = model(torch.randn(9, 2, 3), state)
    links, precedence = middle.links, middle.precedence
    kept = links.to_dense(), precedence.to_dense()
    model(torch.randn(9, 2, 3), middle)
    assert torch.equal(links.to_dense(), kept[0])
    assert torch.equal(precedence.to_dense(), kept[1])


def test_steps_with_and_without_gradient_are_the_same(start):
    model, state = start
    # More steps than run as one piece without a gradient.
    inputs = torch.randn(300, 2, 3)
    outputs, after = model(inputs, state)
    kept = everything(model, after)
    with torch.no_grad():
        again, after = model(inputs, state)
    assert torch.equal(outputs, again)
    assert everything(model, after) == kept


def test_truncated_bptt_keeps_the_links():
    model = make().double()
    state = model.initial_state(2)
    inputs = torch.randn(30, 2, 3, dtype=torch.double)
    whole, at_end = model(inputs, state)
    links, precedence = at_end.links.to_dense(), at_end.precedence.to_dense()
    outputs = []
    for piece in inputs.split(10):
        output, state = model(piece, state.detach())
        output.sum().backward()
        outputs.append(output)
    torch.testing.assert_close(torch.cat(outputs), whole, rtol=0, atol=1e-12)
    torch.testing.assert_close(state.links.to_dense(), links, rtol=0, atol=1e-12)
    torch.testing.assert_close(state.precedence.to_dense(), precedence, rtol=0, atol=1e-12)
    assert links.any()


def test_two_branches_from_one_state_give_the_sum_of_their_gradients():
    model = make().double()
    memory = torch.randn(12, 4, dtype=torch.double, requires_grad=True)
    first, *branches = torch.randn(3, 10, 2, 3, dtype=torch.double)

    def loss(branches):
        _, state = model(first, model.initial_state(2, memory))
        return sum((model(branch, state)[0] ** 2).sum() for branch in branches)

    leaves = [memory, *model.parameters()]
    together = torch.autograd.grad(loss(branches), leaves)
    apart = [torch.autograd.grad(loss([branch]), leaves) for branch in branches]
    for gradient, one, other in zip(together, *apart, strict=True):
        torch.testing.assert_close(gradient, one + other, rtol=0, atol=1e-11)


@pytest.mark.parametrize("part", ["links", "precedence"])
def test_links_asked_for_during_backward_spoil_no_gradient(part):
    """Refused or given, but what earlier passes get from later ones is not lost."""
    model = make().double()
    inputs = torch.randn(3, 8, 2, 3, dtype=torch.double, requires_grad=True)

    def gradients(ask):
        state, loss = model.initial_state(2, torch.ones(12, 4).double()), 0
        for piece in inputs:
            piece = piece.clone()
            outputs, state = model(piece, state)
            piece.register_hook(lambda _, state=state: ask(state))
            loss = loss + (outputs**2).sum()
        return torch.autograd.grad(loss, [inputs, *model.parameters()])

    def asking(state):
        with contextlib.suppress(RuntimeError):
            getattr(state, part)

    for gradient, expected in zip(gradients(asking), gradients(lambda _: None), strict=True):
        assert torch.equal(gradient, expected)


def test_second_backward_needs_retain_graph(start):
    model, state = start
    outputs, after = model(torch.randn(5, 2, 3), state)
    kept = everything(model, after)
    first = torch.autograd.grad(outputs.sum(), model.interface.weight, retain_graph=True)
    second = torch.autograd.grad(outputs.sum(), model.interface.weight, retain_graph=True)
    assert torch.equal(*first, *second)
    outputs.sum().backward()
    with pytest.raises(RuntimeError, match="second time"):
        outputs.sum().backward()
    assert everything(model, after) == kept


class Failing(Exception):
    pass


@pytest.mark.parametrize(
    ("owner", "method"), [("index", "update"), ("index", "search"), ("links", "follow")]
)
def test_a_failed_step_leaves_the_state_as_it_was(start, with_gradient, owner, method, monkeypatch):
    model, state = start
    inputs = torch.randn(10, 2, 3)
    _, state = model(inputs, state)
    expected, _ = model(inputs, state)
    kept = everything(model, state)
    owner = getattr(state.version.store, owner)
    works, calls = getattr(owner, method), []

    def fail_at_the_fifth(*arguments):
        calls.append(arguments)
        if len(calls) == 5:
            raise Failing
        return works(*arguments)

    monkeypatch.setattr(owner, method, fail_at_the_fifth)
    with pytest.raises(Failing):
        model(inputs, state)
    monkeypatch.undo()
    assert everything(model, state) == kept
    assert torch.equal(model(inputs, state)[0], expected)


def test_diverged_parameters_are_named_and_leave_the_state_as_it_was(start):
    model, state = start
    _, state = model(torch.randn(10, 2, 3), state)
    kept = everything(model, state)
    first_mode = 2 * SIZES["word_size"] + 2
    for number in (0, first_mode):
        healthy = model.interface.bias.detach().clone()
        with torch.no_grad():
            model.interface.bias[number] = torch.nan
        with pytest.raises(FloatingPointError, match=r"got NaN or infinite .* at step 0"):
            model(torch.randn(3, 2, 3), state)
        with torch.no_grad():
            model.interface.bias.copy_(healthy)
        assert everything(model, state) == kept


def test_a_failed_backward_is_mended_by_the_next_use(start):
    model, state = start
    inputs = torch.randn(9, 2, 3, requires_grad=True)
    outputs, after = model(inputs, state)
    kept = everything(model, after)

    def fail(_):
        raise Failing

    hook = inputs.register_hook(fail)
    with pytest.raises(Failing):
        outputs.sum().backward(retain_graph=True)
    hook.remove()
    outputs.sum().backward()
    assert everything(model, after) == kept


def test_states_that_are_dropped_free_their_journals():
    model = make()
    state = model.initial_state(2)
    with torch.no_grad():
        _, state = model(torch.randn(5, 2, 3), state)
        dropped = weakref.ref(state.version)
        for _ in range(3):
            _, state = model(torch.randn(5, 2, 3), state)
    gc.collect()
    assert dropped() is None
    assert state.version.towards is None


def test_a_state_of_another_model_is_refused():
    inputs, model = torch.zeros(2, 1, 3), make()
    others = (
        SAM(3, 2, **SIZES),
        SDNC(3, 2, **SIZES, link_size=4),
        SDNC(3, 2, **SIZES, link_size=3, strict_paper_links=True),
        SDNC(3, 2, **SIZES, link_size=0),
    )
    for other in others:
        with pytest.raises(ValueError, match=r"state: got one made for .*expected one for"):
            model(inputs, other.initial_state(1))
        with pytest.raises(ValueError, match=r"state: got one made for .*expected one for"):
            other(inputs, model.initial_state(1))


@pytest.mark.parametrize("link_size", [-1, 1.5, True, "8", None])
def test_link_sizes_that_are_refused(link_size):
    with pytest.raises((ValueError, TypeError), match=r"link_size: got .*expected"):
        SDNC(3, 2, **SIZES, link_size=link_size)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtypes(dtype):
    model = make().to(dtype)
    _, state = model(torch.randn(30, 2, 3, dtype=dtype))
    for part in (state.memory, state.links, state.precedence, state.read_weights):
        assert part.dtype == dtype
    assert state.links.shape == (2, 12, 12)
    assert state.precedence.shape == (2, 12)
    assert state.links.is_sparse
    assert state.precedence.is_sparse


def test_single_precision_is_near_double():
    model, inputs = make(), torch.randn(6, 2, 3)
    outputs, state = model(inputs)
    links = state.links.to_dense()
    expected, exact = model.double()(inputs.double())
    torch.testing.assert_close(outputs.double(), expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(links.double(), exact.links.to_dense(), rtol=0, atol=1e-4)
    assert links.any()


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("link_size", [1, 3, 8])
def test_links_of_every_state_are_sound(link_size, strict):
    """At most `link_size` links to and from a slot, in [0, 1]; those to a slot sum to at most 1."""
    sizes = SIZES | {"num_heads": 4}
    model = SDNC(3, 2, **sizes, link_size=link_size, strict_paper_links=strict)
    torch.nn.init.normal_(model.interface.weight, std=3)
    state = model.initial_state(2)
    with torch.no_grad():
        for _ in range(200):
            _, state = model(torch.randn(1, 2, 3), state)
            links, precedence = state.links.to_dense(), state.precedence.to_dense()
            assert links.min() >= 0
            assert links.max() <= 1 + 1e-6
            assert links.sum(2).max() <= 1 + 1e-6
            assert (links > 0).sum(2).max() <= link_size
            assert (links > 0).sum(1).max() <= link_size
            assert strict or not links.diagonal(0, 1, 2).any()
            assert precedence.min() >= 0
            assert precedence.sum(1).max() <= 1 + 1e-6
            assert (precedence > 0).sum(1).max() <= link_size
            assert state.read_weights.min() >= 0
    assert (links > 0).sum(2).max() == link_size
