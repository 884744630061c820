"""A copy of a state, however it was made, is as good as the state and independent of it."""

import copy
import gc
import io
import pickle
import weakref

import pytest
import torch

from tests.states.models_of import ALL, SPARSE, make, random, words_for


def saved_and_loaded(_, state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def as_a_dict(model, state):
    file = io.BytesIO()
    torch.save(state.state_dict(), file)
    file.seek(0)
    return model.state_from_dict(torch.load(file, weights_only=True))


def in_halves(_, state):
    return state.cat([state.select([0]), state.select([1, 2])])


def moved_twice(_, state):
    return state.select(torch.tensor([2, 0, 1])).select([1, 2, 0])


WAYS = {
    "deepcopy": lambda _, state: copy.deepcopy(state),
    "pickle": lambda _, state: pickle.loads(pickle.dumps(state)),
    "saved": saved_and_loaded,
    "dict": as_a_dict,
    "select": lambda _, state: state.select(range(3)),
    "halves": in_halves,
    "moved": moved_twice,
    "reset": lambda _, state: state.reset([False] * 3),
    "in a list": lambda _, state: copy.deepcopy([state, {"same": state}])[1]["same"],
}
way_of_copying = pytest.mark.parametrize("way", WAYS)
model_name = pytest.mark.parametrize("name", ALL)


def tensors(state):
    """All that a state stands for, as tensors."""
    names = [*state._tensors(), *(["memory"] if hasattr(state, "memory") else [])]
    parts = [getattr(state, name) for name in dict.fromkeys(names)]
    if hasattr(state, "version") and state.version.store.links is not None:
        parts += [state.links.to_dense(), state.precedence.to_dense()]
    return parts


def assert_same(left, right):
    for mine, other in zip(left, right, strict=True):
        assert torch.equal(mine, other)


@way_of_copying
@model_name
@torch.no_grad()
def test_a_copy_is_the_same_state(name, way):
    model, inputs = make(name), random(20, 3, 5)
    _, state = model(inputs, model.initial_state(3, words_for(name, 3)))
    other = WAYS[way](model, state)
    assert type(other) is type(state)
    assert_same(tensors(state), tensors(other))
    assert_same([model(inputs, state)[0]], [model(inputs, other)[0]])


@way_of_copying
@model_name
@torch.no_grad()
def test_using_a_copy_leaves_the_original_alone_and_the_other_way_round(name, way):
    model, data = make(name), random(6, 8, 3, 5)

    def outputs_of(copy_at):
        mine = [model(data[0], model.initial_state(3, words_for(name, 3)))[1]]
        other, outputs, of_copy = None, [], []
        for i, x in enumerate(data[1:]):
            if i == copy_at:
                other = WAYS[way](model, mine[0])
            y, state = model(x, mine[-1])
            mine.append(state)
            outputs.append(y)
            if other is not None:
                y, other = model(x.flip(0), other)
                of_copy.append(y)
        return outputs, of_copy

    outputs, _ = outputs_of(None)
    with_copy, first = outputs_of(0)
    _, later = outputs_of(2)
    assert_same(outputs, with_copy)
    start = model(data[0], model.initial_state(3, words_for(name, 3)))[1]
    for x, y in zip(data[1:], first, strict=True):
        expected, start = model(x.flip(0), start)
        assert torch.equal(y, expected)
    assert len(later) == 3


@way_of_copying
@model_name
def test_training_on_a_copy_leaves_the_original_alone(name, way):
    model, x, y = make(name), random(7, 3, 5), random(4, 3, 5, seed=1)
    state = model(x)[1].detach()
    expected = model(y, state)[0].detach()
    model(y, WAYS[way](model, state))[0].square().sum().backward()
    assert torch.equal(model(y, state)[0], expected)


@way_of_copying
@pytest.mark.parametrize("name", SPARSE)
@torch.no_grad()
def test_a_copy_does_without_the_original(name, way):
    model, inputs = make(name), random(7, 3, 5)
    state = model(inputs)[1]
    expected = model(inputs, state)[0]
    other, store = WAYS[way](model, state), weakref.ref(state.version.store)
    del state
    gc.collect()
    assert store() is None
    assert torch.equal(model(inputs, other)[0], expected)


@pytest.mark.parametrize("name", SPARSE)
@torch.no_grad()
def test_a_copy_of_an_older_state(name):
    model, inputs = make(name), random(12, 3, 5)
    _, older = model(inputs, model.initial_state(3, words_for(name, 3)))
    expected, newer = model(inputs, older)
    kept = tensors(newer)
    assert torch.equal(model(inputs, copy.deepcopy(older))[0], expected)
    assert_same(tensors(newer), kept)


def test_a_module_that_holds_a_state_can_be_averaged():
    class Player(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = make("sam")
            self.state = self.model(random(5, 2, 5))[1].detach()

    player = Player()
    average = torch.optim.swa_utils.AveragedModel(player)
    inputs = random(4, 2, 5, seed=3)
    expected = player.model(inputs, player.state)[0]
    assert torch.equal(average.module.model(inputs, average.module.state)[0], expected)
    assert torch.equal(player.model(inputs, player.state)[0], expected)


def test_a_copy_of_a_large_empty_memory_takes_no_more_pages():
    model = make("sam", memory_size=1 << 18)
    state = model(random(3, 1, 5))[1].detach()
    other = copy.deepcopy(state)
    store = other.version.store
    assert np_equal(store.memory, state.version.store.memory)
    assert store.memory.base is not None  # lazily zeroed pages, not an array filled whole


def np_equal(left, right):
    return left.tobytes() == right.tobytes()


@pytest.mark.parametrize("name", ALL)
def test_a_saved_state_of_another_kind_is_refused(name):
    model = make(name)
    saved = model(random(3, 2, 5))[1].state_dict()
    cut = {**saved, "hidden": saved["hidden"][:, :-1]}
    missing = {key: part for key, part in saved.items() if key != "cell"}
    cast = {**saved, "cell": saved["cell"].float()}
    for wrong, error in (
        (cut, "hidden: got"),
        (missing, "cell: got NoneType"),
        (cast, "cell: got torch.float32"),
        ({**saved, "signature": {}}, "saved: got one made for"),
        ({}, "saved: got dict"),
        ([], "saved: got list"),
    ):
        with pytest.raises((TypeError, ValueError), match=error):
            model.state_from_dict(wrong)
    other, error = ("sam", "sa(ved|te): got") if name != "sam" else ("dam", "saved: got")
    with pytest.raises(ValueError, match=error):
        make(other).state_from_dict(saved)
