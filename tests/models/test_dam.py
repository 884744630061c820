import pytest
import torch

from sam.dam import DAM, lowest
from tests.models.oracle_dam import dam
from tests.models.small_models import assert_agree, build, random

SETTINGS = [
    {"usage": usage, "similarity": similarity, "key_strength": key_strength}
    for usage in ("discounted", "least_recent")
    for similarity in ("cosine", "l2")
    for key_strength in (True, False)
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: "-".join(map(str, s.values())))
@pytest.mark.parametrize(
    ("num_heads", "memory_size", "steps"), [(1, 1, 2), (1, 4, 3), (2, 5, 9), (4, 4, 5), (3, 30, 12)]
)
def test_agrees_with_the_paper_in_loops(settings, num_heads, memory_size, steps):
    model = build("dam", memory_size=memory_size, num_heads=num_heads, **settings)
    inputs = random(steps, 2, 3, requires_grad=True)
    memory = random(2, memory_size, 5, seed=2, requires_grad=True)
    ours, state = model(inputs, model.initial_state(2, memory))
    theirs = dam(dict(model.named_parameters()), inputs, memory, num_heads, **settings)
    # With as many heads as slots, every row is erased at once: what was given has no effect.
    leaves = [inputs] if num_heads == memory_size else [memory, inputs]
    assert_agree(model, leaves, (ours, state.memory), theirs)


def test_usage_is_what_it_says():
    discounted, recent = build("dam", discount=0.9), build("dam", usage="least_recent")
    for model in (discounted, recent):
        state = model.initial_state(1, random(1, 6, 5))
        before = state.usage
        _, state = model(random(1, 1, 3), state)
        weights = state.read_weights.sum(1)
        if model is recent:
            assert (before == -1).all()
            expected = torch.where(weights > 0.005, 0, -1)
            expected[:, :2] = 0
            assert torch.equal(state.usage, expected)
        else:
            assert not before.any()
            torch.testing.assert_close(state.usage[:, 2:], weights[:, 2:])
            again = model(random(1, 1, 3), state)[1]
            assert (again.usage >= 0.9 * state.usage).all()


def test_writes_go_to_new_slots_until_all_are_used():
    model = build("dam", memory_size=6, num_heads=2, usage="least_recent", access_threshold=9.0)
    state = model.initial_state(1, random(1, 6, 5))
    for step, slots in enumerate([(0, 1), (2, 3), (4, 5), (0, 1), (2, 3)]):
        _, state = model(random(1, 1, 3, seed=step), state)
        assert (state.usage[0] == step).nonzero().flatten().tolist() == list(slots)


def test_lowest_breaks_ties_by_slot():
    usage = torch.tensor([[3.0, 1.0, 2.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    assert lowest(usage, 3).tolist() == [[1, 3, 2], [0, 1, 2]]
    assert lowest(usage.long(), 4).tolist() == [[1, 3, 2, 0], [0, 1, 2, 3]]


def test_an_erased_row_keeps_only_what_is_added():
    model = build("dam", memory_size=5, num_heads=2)
    state = model.initial_state(1, random(1, 5, 5))
    _, after = model(random(1, 1, 3), state)
    # Nothing was read before, so the rows of no write stay as they are.
    assert torch.equal(after.memory[:, 2:], state.memory[:, 2:])
    other = model.initial_state(1, random(1, 5, 5) + 7)
    _, others = model(random(1, 1, 3), other)
    assert torch.equal(after.memory[:, :2], others.memory[:, :2])


@pytest.mark.parametrize("similarity", ["cosine", "l2"])
def test_a_huge_strength_reads_one_word(similarity):
    model = build("dam", memory_size=8, num_heads=1, similarity=similarity)
    with torch.no_grad():
        model.interface.bias[-1] = 1e7
    _, state = model(random(4, 3, 3), model.initial_state(3, random(3, 8, 5)))
    assert torch.equal(
        state.read_weights.sort(-1).values[..., :-1].abs().max(), torch.zeros(()).double()
    )
    slots = state.read_weights.argmax(-1, keepdim=True)
    torch.testing.assert_close(state.read_words, state.memory.gather(1, slots.expand(-1, -1, 5)))


def test_reads_are_sharp_at_first():
    bias = DAM(3, 2, memory_size=8, word_size=5, num_heads=3).interface.bias.view(3, 13)
    assert torch.equal(bias[:, -1], torch.full((3,), 4.0))
    assert not bias[:, :-1].any()
    assert not DAM(3, 2, memory_size=8, word_size=5, key_strength=False).interface.bias.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 7}, "num_heads: got 7, expected at most memory_size = 6"),
        ({"similarity": "dot"}, "similarity: got 'dot', expected one of cosine, l2"),
        ({"usage": "ring"}, "usage: got 'ring', expected one of discounted, least_recent"),
        ({"discount": 1.5}, "discount: got 1.5"),
        ({"access_threshold": float("nan")}, "access_threshold: got nan"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        build("dam", **options)


def test_a_state_of_other_options_is_refused():
    state = build("dam", usage="least_recent").initial_state(2)
    with pytest.raises(ValueError, match=r"usage=least_recent.*usage=discounted"):
        build("dam")(random(1, 2, 3), state)
