"""`checkpoint="dp"` of SAM and SDNC: as without it, in its budget, and without a search more."""

import gc
import weakref

import pytest
import torch

from sam.recompute import costs
from sam.recompute.costs import MIB
from sam.recompute.schedule import MAX_STEPS
from sam.record import record_trace
from sam.sam import SAM
from sam.sdnc import SDNC
from sam.sparse import recompute

STEPS, BATCH_SIZE = 40, 2
SIZES = {"memory_size": 12, "word_size": 4, "num_heads": 2, "k": 3, "hidden_size": 6}
MODELS = {
    "sam": (SAM, {"ann": "exact"}),
    "sam-kd_forest": (SAM, {"ann": "kd_forest"}),
    "sam-l2": (SAM, {"similarity": "l2", "key_strength": False}),
    "sdnc": (SDNC, {"ann": "exact", "link_size": 3}),
    "sdnc-kd_forest": (SDNC, {"ann": "kd_forest", "link_size": 3}),
    "sdnc-without-links": (SDNC, {"link_size": 0}),
}
# Taped steps and kept states that a budget holds: the least, some between, all but one step.
BUDGETS = [(1, 1), (5, 3), (STEPS - 1, 0)]

every_model = pytest.mark.parametrize("name", MODELS)
one_of_each = pytest.mark.parametrize("name", ["sam", "sdnc"])


def build(name, **options):
    """A model in float64 whose random parameters have its reads and modes change at each step."""
    made, own = MODELS[name]
    torch.manual_seed(0)
    model = made(3, 2, **SIZES | own | options).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0, 0.7)
    return model


def with_budget(name, taped_steps, states=1, **options):
    """A plain model, and the same whose budget holds so many kept states and taped steps."""
    plain = build(name, **options)
    own = costs.of(plain, BATCH_SIZE)
    budget = own.moving + states * own.state + taped_steps * own.step
    return plain, build(name, checkpoint="dp", checkpoint_mib=budget / MIB, **options)


def random(*shape, seed=1, requires_grad=False):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(shape, dtype=torch.float64, generator=generator)
    return values.requires_grad_(requires_grad)


def words(requires_grad=False):
    return random(12, 4, seed=5, requires_grad=requires_grad)


def of_all_results(outputs, state):
    """A loss that all differentiable results of a call are a part of."""
    parts = (outputs, state.hidden, state.cell, state.read_words, state.read_weights)
    return sum((random(*part.shape, seed=i) * part).sum() for i, part in enumerate(parts))


def close(ours, theirs):
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-10)


def everything(model, state):
    """All that a state stands for; ring, index and links by what the next steps do."""
    memory = state.memory.clone()
    with torch.no_grad():
        outputs, after = model(random(20, BATCH_SIZE, 3, seed=9), state)
    return memory, outputs, after.read_slots, after.read_weights


@every_model
@pytest.mark.parametrize(("taped", "states"), BUDGETS)
@pytest.mark.parametrize("given", [True, False], ids=["given", "empty"])
def test_results_and_gradients_are_those_without_a_budget(name, taped, states, given):
    results, gradients = [], []
    for model in with_budget(name, taped, states):
        leaves = [random(STEPS, BATCH_SIZE, 3, requires_grad=True)]
        leaves += [words(requires_grad=True)] if given else []
        outputs, state = model(leaves[0], model.initial_state(BATCH_SIZE, *leaves[1:]))
        results.append((outputs, state.read_slots, *everything(model, state)))
        loss = of_all_results(outputs, state)
        gradients.append(torch.autograd.grad(loss, [*leaves, *model.parameters()]))
    close(*results)
    close(*gradients)
    assert all(gradient.any() for gradient in gradients[0])


@one_of_each
def test_more_steps_than_a_plan_counts_one_by_one(name):
    results = []
    for model in with_budget(name, 12, 4):
        for parameter in model.parameters():  # calm, or rounding would grow over so many steps
            parameter.data.mul_(0.3)
        inputs = random(MAX_STEPS + 76, BATCH_SIZE, 3, requires_grad=True)
        outputs, state = model(inputs)
        gradients = torch.autograd.grad(outputs.square().sum(), [inputs, *model.parameters()])
        results.append((outputs, state.memory.clone(), *gradients))
    close(*results)


@every_model
def test_over_a_call_after_another(name):
    # Gradients of state and memory flow from the second call to the first, and to the giver.
    gradients = []
    for model in with_budget(name, 3):
        inputs, memory = random(2 * STEPS, BATCH_SIZE, 3, requires_grad=True), words(True)
        first, state = model(inputs[:STEPS], model.initial_state(BATCH_SIZE, memory))
        second, state = model(inputs[STEPS:], state)
        loss = of_all_results(second, state) + first.square().sum()
        gradients.append(torch.autograd.grad(loss, [inputs, memory, *model.parameters()]))
    close(*gradients)


@every_model
def test_truncated_backpropagation(name):
    gradients, ends = [], []
    for model in with_budget(name, 3):
        state = model.initial_state(BATCH_SIZE, words())
        for piece in random(3 * STEPS, BATCH_SIZE, 3).split(STEPS):
            outputs, state = model(piece, state.detach())
            of_all_results(outputs, state).backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
        ends.append(everything(model, state))
    close(*gradients)
    close(*ends)


@one_of_each
def test_a_state_shared_by_calls_with_and_without_a_budget(name):
    # A model's setting may be changed at any time: its states are the same.
    plain, model = with_budget(name, 3)
    gradients = []
    for first, second in ((plain, plain), (plain, model), (model, plain)):
        first.zero_grad()
        second.zero_grad()
        inputs = random(2, STEPS, BATCH_SIZE, 3, requires_grad=True)
        outputs, state = first(inputs[0], first.initial_state(BATCH_SIZE))
        more, _ = second(inputs[1], state)
        gradients.append(torch.autograd.grad((outputs + more).square().sum(), inputs))
    close(gradients[0], gradients[1])
    close(gradients[0], gradients[2])


@pytest.mark.parametrize("name", ["sam-kd_forest", "sdnc"])
def test_nothing_is_searched_written_or_followed_a_second_time(name, monkeypatch):
    _, model = with_budget(name, 2)
    state = model.initial_state(BATCH_SIZE, words())
    store, calls = state.version.store, []

    def note(owner, method):
        works = getattr(owner, method)
        monkeypatch.setattr(owner, method, lambda *given: calls.append(method) or works(*given))

    note(store.index, "search")
    note(store.index, "update")
    if store.links is not None:
        note(store.links, "follow")
        note(store.links, "record_write")
    outputs, _ = model(random(STEPS, BATCH_SIZE, 3), state)
    assert {calls.count(method) for method in set(calls)} == {STEPS}
    calls.clear()
    outputs.sum().backward()
    assert not calls


@one_of_each
@pytest.mark.parametrize(("taped", "states"), BUDGETS)
def test_the_steps_made_are_those_of_the_plan(name, taped, states, monkeypatch):
    _, model = with_budget(name, taped, states)
    made, plans = [], []
    make_steps, unroll = recompute.make_steps, model.unroll_by_plan
    monkeypatch.setattr(
        recompute, "make_steps", lambda x, *given: made.append(len(x)) or make_steps(x, *given)
    )
    monkeypatch.setattr(
        model, "unroll_by_plan", lambda plan, *given: plans.append(plan) or unroll(plan, *given)
    )
    outputs, _ = model(random(STEPS, BATCH_SIZE, 3))
    assert sum(made) == STEPS
    outputs.sum().backward()
    assert sum(made) == plans[0].forwards > STEPS


@one_of_each
@pytest.mark.parametrize(("taped", "states"), [(1, 1), (3, 2), (20, 4)])
def test_what_is_kept_stays_within_the_budget(name, taped, states, monkeypatch):
    """At each making of steps: what is kept by then, and the tape that is made."""
    _, model = with_budget(name, taped, states)
    own, most, make_tape = costs.of(model, BATCH_SIZE), [], recompute._Pass._tape

    def noted(steps, start, stop, state):
        tape = make_tape(steps, start, stop, state)
        gaps = [each for each in steps.kept if isinstance(each, recompute._Gap)]
        tapes = [each.tape for each in steps.kept if isinstance(each, recompute._Taped)]
        states = {id(gap.state): own.state for gap in gaps if gap.start > 0}
        num_steps = sum(len(each.gates) for each in [tape, *tapes])
        most.append(sum(states.values()) + own.step * num_steps)
        return tape

    monkeypatch.setattr(recompute._Pass, "_tape", noted)
    outputs, _ = model(random(STEPS, BATCH_SIZE, 3))
    outputs.sum().backward()
    budget = model.checkpoint_mib * MIB - own.moving
    assert 0.5 * budget < max(most) <= budget


@one_of_each
def test_costs_are_those_of_a_tape(name, monkeypatch):
    _, model = with_budget(name, 10)
    made, make_tape = [], recompute._Pass._tape

    def noted(steps, *given):
        made.append((steps, make_tape(steps, *given)))
        return made[-1][1]

    monkeypatch.setattr(recompute._Pass, "_tape", noted)
    model(random(STEPS, BATCH_SIZE, 3))
    steps, tape = made[-1]
    with_gradient = (tape.outputs[1:], tape.gates, tape.interface)
    without = (tape.cells[1:], tape.read_slots[1:], tape.content_slots, tape.popped)
    num_bytes = sum(part.nbytes for part in (*with_gradient, *with_gradient, *without))
    own = costs.of(model, BATCH_SIZE)
    # A slot is erased for each head, where its share of places is counted as K.
    assert num_bytes <= own.step * len(tape.gates) <= 1.1 * num_bytes
    state = next(gap.state for gap in steps.kept if isinstance(gap, recompute._Gap))
    assert all(part.base is None for part in state)
    alive = sum(part.nbytes for part in state)
    assert own.state == alive + 2 * costs.TENSOR_BYTES


@one_of_each
def test_the_memory_is_rolled_back_bit_for_bit_and_forward_again(name):
    _, model = with_budget(name, 3)
    inputs, state = random(STEPS, BATCH_SIZE, 3, requires_grad=True), None
    before = model.initial_state(BATCH_SIZE, words())
    at_start = before.memory.clone()
    outputs, state = model(inputs, before)
    kept, rolled_back = everything(model, state), []
    store = state.version.store
    inputs.register_hook(lambda _: rolled_back.append(torch.from_numpy(store.memory.copy())))
    outputs.square().sum().backward()
    assert torch.equal(rolled_back[0], at_start)
    assert not torch.equal(state.memory, at_start)
    assert all(map(torch.equal, everything(model, state), kept))


class Failing(Exception):
    pass


@one_of_each
@pytest.mark.parametrize("call", [1, 5])
@pytest.mark.parametrize(
    ("owner", "method"),
    [(recompute._Pass, "make_again"), (recompute._Gradient, "_add"), (recompute, "StepsGradient")],
)
def test_a_failed_backward_leaves_all_as_it_was(name, owner, method, call, monkeypatch):
    _, model = with_budget(name, 3)
    inputs = random(STEPS, BATCH_SIZE, 3, requires_grad=True)
    outputs, state = model(inputs, model.initial_state(BATCH_SIZE, words()))
    kept = everything(model, state)
    (expected,) = torch.autograd.grad(outputs.sum(), inputs, retain_graph=True)
    works, calls = getattr(owner, method), []

    def fail(*given):
        calls.append(given)
        if len(calls) == call:
            raise Failing
        return works(*given)

    monkeypatch.setattr(owner, method, fail)
    with pytest.raises(Failing):
        torch.autograd.grad(outputs.sum(), inputs, retain_graph=True)
    monkeypatch.undo()
    assert torch.equal(torch.autograd.grad(outputs.sum(), inputs)[0], expected)
    assert all(map(torch.equal, everything(model, state), kept))


@one_of_each
def test_a_failed_step_leaves_the_state_as_it_was(name, monkeypatch):
    _, model = with_budget(name, 3)
    _, state = model(random(STEPS, BATCH_SIZE, 3))
    kept, access, calls = everything(model, state), recompute.access, []

    def diverges(store, journal, settings, tape, t, **given):
        calls.append(t)
        if len(calls) == 30:
            tape.interface[t] = float("nan")
        access(store, journal, settings, tape, t, **given)

    monkeypatch.setattr(recompute, "access", diverges)
    with pytest.raises(FloatingPointError, match=r"interface: got NaN .* at step 29,"):
        model(random(STEPS, BATCH_SIZE, 3), state)
    monkeypatch.undo()
    assert all(map(torch.equal, everything(model, state), kept))


@one_of_each
def test_a_second_backward_pass_is_refused_unless_the_graph_is_retained(name):
    plain, model = with_budget(name, 3)
    inputs = random(STEPS, BATCH_SIZE, 3, requires_grad=True)
    expected = torch.autograd.grad(plain(inputs)[0].sum(), inputs)
    outputs, _ = model(inputs)
    for retained in (True, False):
        close(torch.autograd.grad(outputs.sum(), inputs, retain_graph=retained), expected)
    with pytest.raises(RuntimeError, match="second time"):
        outputs.sum().backward()


@one_of_each
def test_a_parameter_changed_before_the_backward_pass_is_refused(name):
    _, model = with_budget(name, 3)
    outputs, _ = model(random(STEPS, BATCH_SIZE, 3))
    with torch.no_grad():
        model.output.weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        outputs.sum().backward()


@one_of_each
def test_frozen_parameters_get_no_gradient(name):
    plain, model = with_budget(name, 3)
    for each in (plain, model):
        each.interface.requires_grad_(False)
        each(random(STEPS, BATCH_SIZE, 3))[0].square().sum().backward()
    assert model.interface.weight.grad is None
    close([model.controller.weight_hh.grad], [plain.controller.weight_hh.grad])


@one_of_each
def test_given_parameters_of_a_functional_call(name):
    gradients = []
    for model in with_budget(name, 3):
        given = {key: 0.5 * part.detach() for key, part in model.named_parameters()}
        inputs = random(STEPS, BATCH_SIZE, 3, requires_grad=True)
        outputs, _ = torch.func.functional_call(model, given, inputs)
        gradients.append(torch.autograd.grad(outputs.sum(), inputs))
    close(*gradients)


@one_of_each
def test_what_fits_or_needs_no_gradient_is_run_plainly(name, monkeypatch):
    _, model = with_budget(name, STEPS, 0)
    plans, unroll = [], model.unroll_by_plan
    monkeypatch.setattr(
        model, "unroll_by_plan", lambda *given: plans.append(given) or unroll(*given)
    )
    model(random(STEPS, BATCH_SIZE, 3))
    with torch.no_grad():
        outputs, _ = model(random(2 * STEPS, BATCH_SIZE, 3))
    assert outputs.grad_fn is None
    assert not plans
    model(random(STEPS + 1, BATCH_SIZE, 3))
    assert plans


@one_of_each
def test_batch_first(name):
    plain, model = with_budget(name, 3, batch_first=True)
    inputs = random(BATCH_SIZE, STEPS, 3)
    close([model(inputs)[0]], [plain(inputs)[0]])


@one_of_each
def test_single_precision(name):
    gradients = []
    for model in with_budget(name, 3):
        inputs = random(12, BATCH_SIZE, 3).float().requires_grad_()
        outputs, _ = model.float()(inputs)
        gradients.append(torch.autograd.grad(outputs.sum(), inputs)[0])
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-4)


@one_of_each
def test_a_recorded_trace_is_that_of_the_plain_model(name, tmp_path):
    traces = []
    for model in with_budget(name, 3):
        with record_trace(model, tmp_path / "trace.npz", max_steps=STEPS + 5) as recorder:
            _, state = model(random(STEPS, BATCH_SIZE, 3))
            model(random(STEPS, BATCH_SIZE, 3, seed=2), state)
            traces.append(recorder.trace(12, 3, "cosine", {}))
    theirs, ours = traces
    assert ours.num_steps == STEPS + 5
    assert (ours.slots == theirs.slots).all()
    for part in ("queries", "rows", "start_rows"):
        mine, other = (torch.from_numpy(getattr(each, part)) for each in (ours, theirs))
        close([mine], [other])


@pytest.mark.parametrize("with_backward", [True, False])
def test_the_memory_goes_at_once_with_the_last_of_its_states(with_backward):
    _, model = with_budget("sam", 3)
    gc.disable()
    try:
        outputs, state = model(random(STEPS, BATCH_SIZE, 3))
        store = weakref.ref(state.version.store)
        if with_backward:
            outputs.sum().backward()
        del outputs
        assert store() is not None
        del state
        assert store() is None
    finally:
        gc.enable()


@one_of_each
def test_too_small_a_budget_says_what_works(name):
    least = costs.of(build(name), BATCH_SIZE).least / MIB
    model = build(name, checkpoint="dp", checkpoint_mib=0.999 * least)
    expected = rf"checkpoint_mib: got .*, expected at least {least:.4g}: .* batch size 2"
    with pytest.raises(ValueError, match=expected):
        model(random(STEPS, BATCH_SIZE, 3))
    build(name, checkpoint="dp", checkpoint_mib=1.001 * least)(random(STEPS, BATCH_SIZE, 3))


@one_of_each
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"checkpoint": "sqrt"}, "checkpoint: got 'sqrt', expected 'dp' or None"),
        ({"checkpoint": "dp"}, "checkpoint_mib: got None, expected a number of MiB"),
        ({"checkpoint_mib": 1.0}, "checkpoint_mib: got 1.0, expected None without"),
    ],
)
def test_settings(name, settings, message):
    with pytest.raises(ValueError, match=message):
        build(name, **settings)
