"""`checkpoint="dp"` computes what plain backpropagation through time does, within its budget."""

import pytest
import torch

from sam.recompute import costs, unroll
from sam.recompute.costs import MIB
from tests.models.small_models import build, random, start

NAMES = ("lstm", "ntm", "dam", "dam-l2", "dam-least-recent", "dnc")
STEPS, BATCH_SIZE = 16, 2

every_model = pytest.mark.parametrize("name", NAMES)


def with_budget(name, taped_steps, states=1, **options):
    """A plain model, and the same whose budget holds so many kept states and taped steps."""
    plain = build(name, **options)
    own = costs.of(plain, BATCH_SIZE)
    budget = own.moving + states * own.state + taped_steps * own.step
    return plain, build(name, checkpoint="dp", checkpoint_mib=budget / MIB, **options)


def results(outputs, state):
    """What of a call's results has a gradient."""
    parts = [outputs, *costs.tensors(state).values()]
    return [part for part in parts if part.requires_grad]


@every_model
@pytest.mark.parametrize(("taped", "states"), [(1, 1), (2, 3), (8, 2), (STEPS - 1, 0)])
def test_gradients_are_those_of_plain_backpropagation(name, taped, states):
    plain, model = with_budget(name, taped, states)
    inputs = random(STEPS, BATCH_SIZE, 3, requires_grad=True)
    leaves = [inputs]
    if name != "lstm":
        leaves.append(random(BATCH_SIZE, 6, 5, seed=5, requires_grad=True))
    theirs, ours = (
        results(*each(inputs, start(each, BATCH_SIZE, *leaves[1:]))) for each in (plain, model)
    )
    assert len(ours) == len(theirs) > 2
    gradients = []
    for each, parts in ((plain, theirs), (model, ours)):
        total = sum((random(*part.shape, seed=i) * part).sum() for i, part in enumerate(parts))
        gradients.append(torch.autograd.grad(total, [*leaves, *each.parameters()]))
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-12)
    for mine, other in zip(*reversed(gradients), strict=True):
        assert other.abs().max() > 0
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-10)


@every_model
def test_over_a_call_after_another(name):
    # Gradients flow from the second call's results through its initial state to the first call.
    plain, model = with_budget(name, 3)
    model.load_state_dict(plain.state_dict())
    inputs = random(2 * STEPS, BATCH_SIZE, 3, requires_grad=True)

    def through(each):
        first, state = each(inputs[:STEPS], start(each, BATCH_SIZE))
        second, _ = each(inputs[STEPS:], state)
        return torch.autograd.grad(second.square().sum() + first.sum(), inputs)[0]

    torch.testing.assert_close(through(model), through(plain), rtol=1e-10, atol=1e-10)


@every_model
def test_the_steps_made_are_those_of_the_schedule(name, monkeypatch):
    _, model = with_budget(name, 4)
    made, plans, inner = [], [], model.unroll
    monkeypatch.setattr(model, "unroll", lambda x, state: made.append(len(x)) or inner(x, state))
    schedule = unroll.schedule
    monkeypatch.setattr(
        unroll, "schedule", lambda *given: plans.append(schedule(*given)) or plans[0]
    )
    costs.of(model, BATCH_SIZE)
    made.clear()
    outputs, _ = model(random(STEPS, BATCH_SIZE, 3))
    assert sum(made) == STEPS
    outputs.sum().backward()
    assert sum(made) == plans[0].forwards > STEPS


@every_model
@pytest.mark.parametrize(("taped", "states"), [(1, 1), (3, 2), (10, 4)])
def test_what_is_kept_stays_within_the_budget(name, taped, states, monkeypatch):
    _, model = with_budget(name, taped, states)
    own, most = costs.of(model, BATCH_SIZE), []

    def in_use(run):
        """Bytes of what is kept, but for the state that the caller gave."""
        tapes = [each for each in run.kept if isinstance(each, unroll._Tape)]
        states = [costs.tensors(each.state) for each in run.kept if isinstance(each, unroll._Gap)]
        parts = [part for state in states for part in state.values()]
        # A tape that stands alone holds the state before it; its last one is a part of the tape.
        kept = addresses(parts) | addresses(part for tape in tapes for part in tape.first)
        for others in (first_state, *(tape.last for tape in tapes)):
            for address in addresses(costs.tensors(others).values()):
                kept.pop(address, None)
        return sum(kept.values()) + own.step * sum(tape.stop - tape.start for tape in tapes)

    go_ahead = unroll._Run.go_ahead

    def noted(run, gap):
        found = go_ahead(run, gap)
        most.append(in_use(run))
        return found

    monkeypatch.setattr(unroll._Run, "go_ahead", noted)
    first_state = start(model, BATCH_SIZE)
    outputs, _ = model(random(STEPS, BATCH_SIZE, 3), first_state)
    outputs.sum().backward()
    budget = model.checkpoint_mib * MIB - own.moving
    assert len(most) > 1
    assert 0.5 * budget < max(most) <= budget


def addresses(parts):
    """The storages behind tensors, with their bytes."""
    storages = (part.untyped_storage() for part in parts)
    return {storage.data_ptr(): storage.nbytes() for storage in storages}


@every_model
def test_what_fits_is_run_plainly(name):
    plain, model = with_budget(name, STEPS, 0)
    inputs = random(STEPS, BATCH_SIZE, 3)
    outputs, _ = model(inputs)
    expected, _ = plain(inputs)
    assert outputs.grad_fn.name() == expected.grad_fn.name()
    longer, _ = model(random(STEPS + 1, BATCH_SIZE, 3))
    assert longer.grad_fn.name() != expected.grad_fn.name()


def test_a_second_backward_pass_is_refused_unless_the_graph_is_retained():
    plain, model = with_budget("ntm", 3)
    inputs = random(STEPS, BATCH_SIZE, 3, requires_grad=True)
    (expected,) = torch.autograd.grad(plain(inputs)[0].sum(), inputs)
    outputs, _ = model(inputs)
    for retained in (True, False):
        (found,) = torch.autograd.grad(outputs.sum(), inputs, retain_graph=retained)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        outputs.sum().backward()


def test_a_parameter_changed_before_the_backward_pass_is_refused():
    _, model = with_budget("ntm", 3)
    outputs, _ = model(random(STEPS, BATCH_SIZE, 3))
    with torch.no_grad():
        model.interface.weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        outputs.sum().backward()


def test_a_gradient_of_the_gradient_is_refused():
    _, model = with_budget("lstm", 3)
    inputs = random(STEPS, BATCH_SIZE, 3, requires_grad=True)
    loss = model(inputs)[0].square().sum()
    (gradient,) = torch.autograd.grad(loss, inputs, create_graph=True)
    with pytest.raises(RuntimeError, match="gradient of a gradient"):
        gradient.sum().backward()


@every_model
def test_without_gradients_nothing_is_kept(name):
    _, model = with_budget(name, 3)
    with torch.no_grad():
        outputs, state = model(random(STEPS, BATCH_SIZE, 3))
    assert outputs.grad_fn is None
    assert not any(part.requires_grad for part in costs.tensors(state).values())
    model.requires_grad_(False)
    outputs, _ = model(random(STEPS, BATCH_SIZE, 3))
    assert outputs.grad_fn is None


def test_frozen_parameters_get_no_gradient():
    plain, model = with_budget("ntm", 3)
    for each in (plain, model):
        each.interface.requires_grad_(False)
        each(random(STEPS, BATCH_SIZE, 3))[0].square().sum().backward()
    assert model.interface.weight.grad is None
    torch.testing.assert_close(
        model.controller.weight_hh.grad, plain.controller.weight_hh.grad, rtol=1e-10, atol=1e-10
    )


def test_given_parameters_of_a_functional_call():
    plain, model = with_budget("ntm", 3)
    given = {name: 0.5 * part.detach() for name, part in plain.named_parameters()}
    inputs = random(STEPS, BATCH_SIZE, 3, requires_grad=True)
    theirs, ours = (
        torch.autograd.grad(torch.func.functional_call(each, given, inputs)[0].sum(), inputs)[0]
        for each in (plain, model)
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_batch_first():
    plain, model = with_budget("dam", 3, batch_first=True)
    inputs = random(BATCH_SIZE, STEPS, 3)
    torch.testing.assert_close(model(inputs)[0], plain(inputs)[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["ntm", "dam", "dnc"])
def test_costs_grow_with_the_memory_as_the_docstrings_say(name):
    small, large = (
        costs.of(build(name, memory_size=size, word_size=32, num_heads=4), 1) for size in (256, 512)
    )
    weights = {"ntm": 8, "dam": 5, "dnc": 4 + 3}[name]
    more_links = 8 * (512**2 - 256**2) if name == "dnc" else 0
    # Of a state: its words, their norms, what else there is for each slot.
    state = 8 * 256 * (32 + 1 + weights) + more_links
    assert large.state - small.state == state
    kept = {"ntm": 32 + 1 + 16, "dam": 32 + 1 + 8, "dnc": 32 + 8 * 4 + 11}[name]
    assert large.step - small.step == 8 * 256 * kept + more_links


def test_too_small_a_budget_says_what_works():
    plain = build("ntm")
    least = costs.of(plain, BATCH_SIZE).least / MIB
    model = build("ntm", checkpoint="dp", checkpoint_mib=0.999 * least)
    expected = rf"checkpoint_mib: got .*, expected at least {least:.4g}: .* batch size 2"
    with pytest.raises(ValueError, match=expected):
        model(random(STEPS, BATCH_SIZE, 3))
    build("ntm", checkpoint="dp", checkpoint_mib=1.001 * least)(random(STEPS, BATCH_SIZE, 3))


@every_model
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"checkpoint": "sqrt"}, "checkpoint: got 'sqrt', expected 'dp' or None"),
        ({"checkpoint": "dp"}, "checkpoint_mib: got None, expected a number of MiB"),
        ({"checkpoint_mib": 1.0}, "checkpoint_mib: got 1.0, expected None without"),
        ({"checkpoint": "dp", "checkpoint_mib": 0}, "checkpoint_mib: got 0, expected a number in"),
        ({"checkpoint": "dp", "checkpoint_mib": float("nan")}, "checkpoint_mib: got nan"),
    ],
)  # fmt: skip
def test_settings(name, settings, message):
    with pytest.raises(ValueError, match=message):
        build(name, **settings)
