import dataclasses
import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sam.allocation import Allocate, next_usage
from sam.dnc import DNC
from sam.linkage import Link
from tests.models import oracle_dnc
from tests.models.oracle_dnc import dnc
from tests.models.small_models import assert_agree, build, random, start

PARTS = ("memory", "usage", "write_weights", "read_weights", "precedence", "links")
ROUNDING = 1e-12


def parts(state):
    return tuple(getattr(state, part) for part in PARTS)


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


def one_hot(slot, slots=5):
    return torch.eye(slots, dtype=torch.float64)[slot].unsqueeze(0)


@pytest.mark.parametrize(
    ("num_heads", "memory_size", "steps"),
    [(1, 1, 3), (1, 5, 1), (2, 2, 4), (3, 7, 6), (4, 8, 9), (5, 3, 3)],
)
def test_agrees_with_the_paper_in_loops(num_heads, memory_size, steps):
    model = build("dnc", memory_size=memory_size, num_heads=num_heads)
    inputs = random(steps, 2, 3, requires_grad=True)
    memory = random(2, memory_size, 5, seed=2, requires_grad=True)
    ours, state = model(inputs, model.initial_state(2, memory))
    theirs, expected = dnc(dict(model.named_parameters()), inputs, memory, num_heads)
    assert_agree(
        model, [inputs, memory], (ours, *parts(state)), (theirs, *map(expected.get, PARTS))
    )


def test_gradients_flow_through_a_carried_state():
    model = build("dnc")
    inputs, memory = random(7, 2, 3, requires_grad=True), random(6, 5, seed=2, requires_grad=True)
    _, state = model(inputs[:4], model.initial_state(2, memory))
    ours, state = model(inputs[4:], state)
    theirs, expected = dnc(dict(model.named_parameters()), inputs, memory.expand(2, -1, -1), 2)
    assert_agree(
        model, [inputs, memory], (ours, *parts(state)), (theirs[4:], *map(expected.get, PARTS))
    )


@pytest.mark.parametrize("block", [1, 30, 120])
def test_large_links_are_worked_on_in_pieces(monkeypatch, block):
    monkeypatch.setattr("sam.linkage.BLOCK", block)
    model = build("dnc", memory_size=7)
    inputs = random(4, 3, 3, requires_grad=True)
    memory = random(3, 7, 5, seed=2, requires_grad=True)
    ours, state = model(inputs, model.initial_state(3, memory))
    theirs, expected = dnc(dict(model.named_parameters()), inputs, memory, 2)
    assert_agree(
        model, [inputs, memory], (ours, *parts(state)), (theirs, *map(expected.get, PARTS))
    )


def test_the_gradient_of_links():
    leaves = [random(2, 4, 4), random(2, 4), random(2, 4, seed=2), random(2, 3, 4)]
    # Of each of its four results alone, too.
    assert torch.autograd.gradcheck(Link.apply, [leaf.requires_grad_() for leaf in leaves])


usages = st.lists(st.sampled_from([0.0, 1.0, 0.5]) | st.floats(0, 1), min_size=1, max_size=9)


@settings(deadline=None)
@given(usages)
@example([0.0] * 5)
@example([1.0] * 5)
@example([0.5, 0.0, 0.5, 0.0, 1.0])
def test_allocation_agrees_with_its_equation(used):
    usage = numbers(*used).requires_grad_()
    ours, theirs = Allocate.apply(usage.unsqueeze(0))[0], oracle_dnc.allocation(usage)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=ROUNDING)
    assert ours.min() >= 0
    assert ours.sum() <= 1 + ROUNDING
    gradients = [torch.autograd.grad(a @ random(len(used)), usage)[0] for a in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize(
    ("used", "allocated"),
    [
        ([0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]),
        ([1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]),
        ([1.0, 0.5, 0.0, 0.25], [0.0, 0.0, 1.0, 0.0]),
        ([1.0, 0.5, 0.25, 0.5], [0.0, 0.125, 0.75, 0.0625]),
    ],
)
def test_allocation_by_hand(used, allocated):
    assert torch.equal(Allocate.apply(numbers(used)), numbers(allocated))


def test_the_least_used_slot_is_allocated_most():
    usage = torch.rand(7, 13, dtype=torch.float64)
    allocation = Allocate.apply(usage)
    assert torch.equal(allocation.argmax(1), usage.argmin(1))
    assert torch.equal(allocation.argmin(1), usage.argmax(1))
    # What is left over is the product of all usages.
    torch.testing.assert_close(allocation.sum(1), 1 - usage.prod(1))


def test_usage_by_hand():
    usage = next_usage(
        numbers([0.5, 0.5, 0.2, 0.9, 0.3]),
        numbers([0.5, 0.0, 1.0, 0.0, 0.0]),
        numbers([[0.5, 0.0, 0.0, 1.0, 0.0], [0.0, 0.5, 0.0, 0.0, 0.0]]),
        numbers([[1.0], [0.5]]),
    )
    # Half written and half freed; a quarter freed; fully written; fully freed; left alone.
    torch.testing.assert_close(usage, numbers([0.375, 0.375, 1.0, 0.0, 0.3]), rtol=0, atol=ROUNDING)


def link(writes, read_weights):
    """Links, precedence, and forward and backward weights, after these writes [B, N]."""
    batch_size, slots = writes[0].shape
    links = torch.zeros(batch_size, slots, slots, dtype=torch.float64)
    precedence = torch.zeros_like(writes[0])
    for write in writes:
        links, precedence, forward, backward = Link.apply(links, precedence, write, read_weights)
    return links, precedence, forward, backward


def entries(links):
    return {(i, j): links[0, i, j].item() for _, i, j in links.nonzero().tolist()}


def test_links_say_what_was_written_after_what():
    links, precedence, forward, backward = link(
        [one_hot(slot) for slot in (0, 1, 2)], torch.cat([one_hot(0), one_hot(2)]).unsqueeze(0)
    )
    assert entries(links) == {(1, 0): 1.0, (2, 1): 1.0}
    assert torch.equal(precedence, one_hot(2))
    assert torch.equal(forward, torch.stack([one_hot(1), 0 * one_hot(0)], 1))
    assert torch.equal(backward, torch.stack([0 * one_hot(0), one_hot(1)], 1))


def test_a_new_write_cuts_the_links_of_its_slot():
    links, *_ = link([one_hot(slot) for slot in (0, 1, 0, 2)], random(1, 1, 5))
    assert entries(links) == {(0, 1): 1.0, (2, 0): 1.0}


def test_a_slot_is_not_linked_to_itself():
    links, *_ = link([one_hot(3), one_hot(3)], random(1, 1, 5))
    assert entries(links) == {}


def test_soft_links_by_hand():
    writes = [numbers([0.5, 0.0]), numbers([0.0, 0.4]), numbers([0.1, 0.2])]
    reads = numbers([[0.5, 0.25]])
    links, precedence, forward, backward = link(writes, reads)
    # L[1, 0] = 0.7 * 0.2 + 0.2 * 0.3; L[0, 1] = 0.1 * 0.4; p = 0.7 [0.3, 0.4] + [0.1, 0.2]
    torch.testing.assert_close(links, numbers([[0.0, 0.04], [0.2, 0.0]]))
    torch.testing.assert_close(precedence, numbers([0.31, 0.48]))
    torch.testing.assert_close(forward, numbers([[0.01, 0.1]]))
    torch.testing.assert_close(backward, numbers([[0.05, 0.02]]))


def test_whole_writes_make_exact_links_whatever_was_there():
    before = list(torch.softmax(random(6, 1, 5), -1) / 2)
    links, precedence, *_ = link([*before, one_hot(0), one_hot(1)], random(1, 1, 5))
    assert torch.equal(links[:, :, 0], one_hot(1))
    assert torch.equal(precedence, one_hot(1))
    _, unchanged, *_ = Link.apply(links, precedence, 0 * precedence, random(1, 1, 5))
    assert torch.equal(unchanged, precedence)


shares = st.lists(st.sampled_from([0, 0, 1, 10**6]), min_size=4, max_size=4)
writes = st.lists(st.tuples(shares, st.floats(0, 1)), max_size=12)


@settings(deadline=None)
@given(writes)
def test_links_stay_within_their_bounds(writes):
    weights = [numbers(s) * gate / max(1, sum(s)) for s, gate in writes]
    links, precedence, forward, backward = link(
        [numbers([0.25] * 4), *weights], torch.full((1, 1, 4), 0.25, dtype=torch.float64)
    )
    assert_bounded(links)
    assert (links.diagonal(0, 1, 2) == 0).all()
    for sums in (links.sum(1), links.sum(2), precedence.sum(1), forward.sum(2), backward.sum(2)):
        assert sums.max() <= 1 + ROUNDING
    assert precedence.min() >= 0


def assert_bounded(values):
    assert values.min() >= -ROUNDING
    assert values.max() <= 1 + ROUNDING


@pytest.mark.parametrize("spread", [0.5, 3.0])
def test_invariants_of_the_state(spread):
    model = build("dnc", memory_size=9, num_heads=3, spread=spread)
    state = start(model, 4)
    for inputs in random(80, 4, 3).split(1):
        with torch.no_grad():
            _, state = model(inputs, state)
        assert state.usage.min() >= 0
        assert state.usage.max() <= 1
        for weights in (state.write_weights, state.read_weights, state.precedence, state.links):
            assert_bounded(weights)
            assert_bounded(weights.sum(-1))
        assert_bounded(state.links.sum(-2))
        assert (state.links.diagonal(0, 1, 2) == 0).all()
    assert state.links.max() > 0.01


def test_starts_empty():
    state = build("dnc").initial_state(2)
    assert torch.equal(state.memory, torch.full((2, 6, 5), 1e-6, dtype=torch.float64))
    for part in PARTS[1:]:
        assert not getattr(state, part).any()
    assert state.links.shape == (2, 6, 6)
    assert state.links.untyped_storage().nbytes() == 8


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("used", [0.0, 1.0])
def test_gradients_are_finite_when_all_or_nothing_is_used(dtype, used):
    model = build("dnc", memory_size=64).to(dtype)
    usage = torch.full((2, 64), used, dtype=dtype, requires_grad=True)
    state = dataclasses.replace(model.initial_state(2), usage=usage)
    outputs, _ = model(random(5, 2, 3).to(dtype), state)
    outputs.square().sum().backward()
    assert all(leaf.grad.isfinite().all() for leaf in (usage, *model.parameters()))


def test_interface():
    model = DNC(9, 8, memory_size=16, word_size=6, num_heads=3)
    assert model.interface.out_features == 6 * 3 + 3 * 6 + 5 * 3 + 3
    strengths = [18, 19, 20, 27]  # after the read keys, and after the write key
    assert model.interface.bias.nonzero().flatten().tolist() == strengths
    heads = model._heads(torch.zeros(1, 100))
    for beta in (heads.read_strengths, heads.write_strength):
        torch.testing.assert_close(beta, torch.full_like(beta, 1 + math.log1p(math.exp(4))))


HUGE = 1e3  # a gate that is fully open, a strength that leaves one slot


class Driver:
    """A DNC of one read head, 4 slots and words of 3 that does what its interface is set to."""

    def __init__(self):
        self.model = DNC(1, 1, memory_size=4, word_size=3, num_heads=1).double()
        self.state = self.model.initial_state(1)
        torch.nn.init.zeros_(self.model.interface.weight)

    def step(self, *, key=(0, 0, 0), mode=1, write=None, free=False):
        """Writes a word to a free slot, if there is one; reads, and returns the word."""
        gates = [HUGE if on else -HUGE for on in (free, True, write is not None)]
        modes = [HUGE if mode == each else 0 for each in range(3)]
        words = [0, 0, 0, 0, HUGE, HUGE, HUGE, *(write or (0, 0, 0))]
        bias = numbers(*key, HUGE, *words, *gates, *modes)
        with torch.no_grad():
            self.model.interface.bias.copy_(bias)
            _, self.state = self.model(torch.zeros(1, 1, 1, dtype=torch.float64), self.state)
        return tuple(self.state.read_words.flatten().round(decimals=6).tolist())


A, B, C, D, E = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 1.0, 0.0), (0.0, 1.0, 1.0)
BACKWARD, CONTENT, FORWARD = range(3)


def test_reads_what_was_written_after_and_before():
    dnc = Driver()
    for word in (A, B, C):
        dnc.step(write=word)
    assert dnc.step(key=A, mode=CONTENT) == A
    assert dnc.step(mode=FORWARD) == B
    assert dnc.step(mode=FORWARD) == C
    assert dnc.step(mode=FORWARD) == (0.0, 0.0, 0.0)
    assert dnc.step(key=C, mode=CONTENT) == C
    assert dnc.step(mode=BACKWARD) == B


def test_writes_where_a_read_has_freed():
    dnc = Driver()
    for word in (A, B, C, D):
        dnc.step(write=word)
    assert dnc.step(key=B, mode=CONTENT) == B
    dnc.step(free=True, write=E)
    torch.testing.assert_close(dnc.state.memory[0], numbers(A, E, C, D))
    # All is in use: nothing is allocated, so nothing is written.
    dnc.step(write=B)
    torch.testing.assert_close(dnc.state.memory[0], numbers(A, E, C, D))
