"""The memory is changed in place, rolled back, and yet every state stays what it was."""

import copy
import gc
import weakref

import pytest
import torch

from sam.sam import SAM

SIZES = {"memory_size": 12, "word_size": 4, "num_heads": 2, "k": 3, "hidden_size": 6}


@pytest.fixture(params=["empty", "given"])
def start(request):
    """A model and a state of batch size 2 to start from, in float32 where rounding is coarse."""
    model = SAM(3, 2, **SIZES)
    memory = torch.randn(2, 12, 4) if request.param == "given" else None
    return model, model.initial_state(2, memory)


def everything(state):
    """All that a state stands for, as plain values."""
    state.memory  # noqa: B018  (stand at this state)
    store = state.version.store
    order = []
    for b in range(2):
        slots, slot = [], int(store.heads[b])
        for _ in range(12):
            slots.append(slot)
            slot = (slot + 1 + int(store.ring[b, slot, 0])) % 12
        order.append(slots)
    found = store.index.search(torch.ones(2, 1, 4).numpy(), 12)[0]
    return (
        store.memory.tobytes(),
        store.written.tobytes(),
        store.num_written.tolist(),
        order,
        found.tolist(),
    )


def test_backward_rolls_the_memory_back_bit_for_bit_and_forward_again(start):
    model, before = start
    inputs = torch.randn(40, 2, 3, requires_grad=True)
    at_start = before.memory.clone()
    outputs, after = model(inputs, before)
    at_end = everything(after)
    assert not torch.equal(after.memory, at_start)
    rolled_back = []
    store = after.version.store
    inputs.register_hook(lambda _: rolled_back.append(torch.from_numpy(store.memory.copy())))
    outputs.sum().backward()
    assert torch.equal(rolled_back[0], at_start)
    assert everything(after) == at_end


def test_a_given_memory_is_left_as_it_was():
    model, words = SAM(3, 2, **SIZES), torch.randn(12, 4)
    kept = words.clone()
    model(torch.randn(9, 2, 3), model.initial_state(2, words))
    assert torch.equal(words, kept)


def test_an_older_state_stays_what_it_was(start):
    model, state = start
    states = [state]
    for _ in range(4):
        states.append(model(torch.randn(7, 2, 3), states[-1])[1])
    # A second branch from the middle.
    states.append(model(torch.randn(5, 2, 3), states[2])[1])
    kept = [everything(state) for state in states]
    assert len(set(map(str, kept))) == len(kept)
    for i in (0, 5, 3, 1, 4, 4, 2, 5, 0):
        assert everything(states[i]) == kept[i]


@pytest.mark.parametrize("with_gradient", [True, False])
def test_a_state_can_be_used_twice(start, with_gradient):
    model, state = start
    with torch.set_grad_enabled(with_gradient):
        _, state = model(torch.randn(20, 2, 3), state)
        inputs = torch.randn(20, 2, 3)
        first, _ = model(inputs, state)
        model(torch.randn(4, 2, 3), state)
        second, _ = model(inputs, state)
    assert torch.equal(first, second)


def test_two_branches_from_one_state_give_the_sum_of_their_gradients():
    model = SAM(3, 2, **SIZES).double()
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


def test_truncated_bptt_goes_on_from_where_the_memory_stands(start):
    model, state = start
    inputs = torch.randn(30, 2, 3)
    whole, at_end = model(inputs, state)
    kept = everything(at_end)
    first, middle = model(inputs[:15], state)
    first.sum().backward()
    second, end = model(inputs[15:], middle.detach())
    second.sum().backward()
    torch.testing.assert_close(torch.cat([first, second]), whole, rtol=0, atol=1e-6)
    assert everything(end)[1:] == kept[1:]


def test_detach_cuts_the_gradient():
    model = SAM(3, 2, **SIZES)
    inputs = torch.randn(6, 2, 3, requires_grad=True)
    _, state = model(inputs, model.initial_state(2))
    outputs, _ = model(torch.randn(6, 2, 3), state.detach())
    outputs.sum().backward()
    assert inputs.grad is None


def test_a_loss_on_an_earlier_pass_alone(start):
    model, state = start
    outputs, middle = model(torch.randn(8, 2, 3), state)
    _, end = model(torch.randn(8, 2, 3), middle)
    kept = everything(end)
    outputs.sum().backward()
    assert everything(end) == kept


def test_gradient_of_a_part_leaves_no_gradient_behind():
    """Autograd may go back through the later pass only; no later backward may see its dL/dM."""
    model = SAM(3, 2, **SIZES).double()
    memory = torch.randn(12, 4, dtype=torch.double, requires_grad=True)
    inputs = torch.randn(6, 2, 3, dtype=torch.double, requires_grad=True)
    _, state = model(torch.randn(6, 2, 3, dtype=torch.double), model.initial_state(2, memory))
    outputs, _ = model(inputs, state)
    (expected,) = torch.autograd.grad(outputs.sum(), [memory], retain_graph=True)
    torch.autograd.grad(outputs.sum(), [inputs], retain_graph=True)
    (gradient,) = torch.autograd.grad(outputs.sum(), [memory], retain_graph=True)
    assert torch.equal(gradient, expected)


def test_second_backward_needs_retain_graph(start):
    model, state = start
    outputs, _ = model(torch.randn(5, 2, 3), state)
    first = torch.autograd.grad(outputs.sum(), model.interface.weight, retain_graph=True)
    second = torch.autograd.grad(outputs.sum(), model.interface.weight, retain_graph=True)
    assert torch.equal(*first, *second)
    outputs.sum().backward()
    with pytest.raises(RuntimeError, match="second time"):
        outputs.sum().backward()


class Failing(Exception):
    pass


@pytest.mark.parametrize("method", ["update", "search"])
def test_a_failed_step_leaves_the_state_as_it_was(start, method, monkeypatch):
    model, state = start
    inputs = torch.randn(10, 2, 3)
    _, state = model(inputs, state)
    expected, _ = model(inputs, state)
    kept = everything(state)
    index = state.version.store.index
    works, calls = getattr(index, method), []

    def fail_at_the_fifth(*arguments):
        calls.append(arguments)
        if len(calls) == 5:
            raise Failing
        return works(*arguments)

    monkeypatch.setattr(index, method, fail_at_the_fifth)
    with pytest.raises(Failing):
        model(inputs, state)
    monkeypatch.undo()
    assert everything(state) == kept
    assert torch.equal(model(inputs, state)[0], expected)


def test_a_state_that_could_not_be_mended_is_refused(start, monkeypatch):
    model, state = start
    _, state = model(torch.randn(3, 2, 3), state)

    def fail(*_):
        raise Failing

    for method in ("update", "carry"):
        monkeypatch.setattr(state.version.store.index, method, fail)
    with pytest.raises(Failing):
        model(torch.randn(3, 2, 3), state)
    monkeypatch.undo()
    for use in (
        lambda: model(torch.randn(3, 2, 3), state),
        lambda: state.memory,
        lambda: state.select([0]),
        lambda: state.state_dict(),
        lambda: copy.deepcopy(state.detach()),
    ):
        with pytest.raises(RuntimeError, match=r"state: .*initial_state"):
            use()


def test_diverged_parameters_are_named_and_leave_the_state_as_it_was(start):
    model, state = start
    kept = everything(state)
    with torch.no_grad():
        model.interface.bias[0] = torch.nan
    with pytest.raises(FloatingPointError, match="interface: got NaN or infinite values at step 0"):
        model(torch.randn(3, 2, 3), state)
    assert everything(state) == kept


def test_a_failed_backward_is_mended_by_the_next_use(start):
    model, state = start
    inputs = torch.randn(9, 2, 3, requires_grad=True)
    outputs, after = model(inputs, state)
    kept = everything(after)

    def fail(_):
        raise Failing

    hook = inputs.register_hook(fail)
    with pytest.raises(Failing):
        outputs.sum().backward(retain_graph=True)
    hook.remove()
    outputs.sum().backward()
    assert everything(after) == kept


def test_states_that_are_dropped_free_their_journals():
    model = SAM(3, 2, **SIZES)
    state = model.initial_state(2)
    with torch.no_grad():
        _, state = model(torch.randn(5, 2, 3), state)
        dropped = weakref.ref(state.version)
        for _ in range(3):
            _, state = model(torch.randn(5, 2, 3), state)
    gc.collect()
    assert dropped() is None
    assert state.version.towards is None


@pytest.mark.parametrize("with_backward", [True, False])
@pytest.mark.parametrize("memory", [None, torch.ones(12, 4)])
def test_the_memory_goes_at_once_with_the_last_of_its_states(memory, with_backward):
    """Not when Python next looks for cycles: a memory may be as large as all the rest."""
    model = SAM(3, 2, **SIZES)
    gc.disable()
    try:
        state = model.initial_state(2, memory)
        store = weakref.ref(state.version.store)
        outputs, state = model(torch.randn(5, 2, 3), state)
        more, state = model(torch.randn(5, 2, 3), state.detach())
        if with_backward:
            (outputs.sum() + more.sum()).backward()
        del outputs, more
        assert store() is not None
        del state
        assert store() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("count", [2, 3])
def test_a_backward_pass_does_not_need_the_states(count):
    """Nor the outputs of later passes, although it returns to where they left the memory."""
    model = SAM(3, 2, **SIZES)
    inputs, memory = torch.randn(3, 5, 2, 3, requires_grad=True), torch.randn(12, 4)

    def outputs_and_states():
        outputs, states = [], [model.initial_state(2, memory)]
        for part in inputs:
            output, state = model(part, states[-1])
            outputs.append(output)
            states.append(state)
        return outputs, states

    def gradient_of(outputs):
        return torch.autograd.grad(torch.cat(outputs).sum(), inputs)[0]

    outputs, states = outputs_and_states()
    kept = everything(states[-1])
    expected = gradient_of(outputs[:count])
    assert expected[:count].any()
    assert everything(states[-1]) == kept
    assert torch.equal(gradient_of(outputs_and_states()[0][:count]), expected)


def test_an_index_that_finds_too_few_is_completed_with_distinct_slots():
    model = SAM(3, 2, **SIZES)
    state = model.initial_state(1, torch.randn(12, 4))
    index = state.version.store.index
    works = index.search

    def search(queries, k):
        slots, similarity = works(queries, k)
        slots[:, :, 1:] = -1
        return slots, similarity

    index.search = search
    _, state = model(torch.randn(5, 1, 3), state)
    for slots in state.read_slots[0]:
        assert len(set(slots.tolist())) == 3
        assert slots.min() >= 0


@pytest.mark.parametrize("pieces", [(5, 2), (2, 5), (1, 1, 5)])
def test_passes_over_a_large_memory_give_the_gradient_of_one(pieces):
    """Most rows are met by one of the passes alone, whose gradient must find room for them."""
    torch.manual_seed(0)
    model = SAM(3, 2, **SIZES | {"memory_size": 512}).double()
    words = torch.randn(512, 4, dtype=torch.double, requires_grad=True)
    inputs = torch.randn(sum(pieces), 2, 3, dtype=torch.double, requires_grad=True)
    given = (inputs, words, *model.parameters())

    def gradients(*lengths):
        state, total = model.initial_state(2, words), 0
        for piece in inputs.split(lengths):
            outputs, state = model(piece, state)
            total = total + outputs.pow(2).sum()
        return torch.autograd.grad(total + state.read_words.pow(2).sum() + state.cell.sum(), given)

    for own, whole in zip(gradients(*pieces), gradients(sum(pieces)), strict=True):
        torch.testing.assert_close(own, whole, rtol=1e-9, atol=1e-12)


def test_what_a_pass_keeps_cannot_be_changed_unnoticed():
    def double(_, features):
        features[0].mul_(2)

    model = SAM(3, 2, **SIZES)
    model.output.register_forward_pre_hook(double)
    with pytest.raises(RuntimeError, match=r"in-?place"):
        model(torch.randn(4, 2, 3))[0].sum().backward()
