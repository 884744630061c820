import pytest
import torch

from sam.addressing import Focus, locate
from sam.erase import erase_and_add
from sam.ntm import NTM
from tests.models.oracle_ntm import ntm
from tests.models.small_models import assert_agree, build, random


@pytest.mark.parametrize(
    ("num_heads", "memory_size", "steps"),
    [(1, 1, 2), (1, 5, 1), (2, 2, 3), (3, 7, 6), (4, 8, 4), (5, 3, 3), (9, 6, 2)],
)
def test_agrees_with_the_paper_in_loops(num_heads, memory_size, steps):
    model = build("ntm", memory_size=memory_size, num_heads=num_heads)
    inputs = random(steps, 2, 3, requires_grad=True)
    memory = random(2, memory_size, 5, seed=2, requires_grad=True)
    ours, state = model(inputs, model.initial_state(2, memory))
    theirs = ntm(dict(model.named_parameters()), inputs, memory, num_heads)
    assert_agree(model, [inputs, memory], (ours, state.memory), theirs)


def test_large_memories_are_worked_on_in_pieces(monkeypatch):
    monkeypatch.setattr("sam.erase.BLOCK", 32)
    monkeypatch.setattr("sam.addressing.BLOCK", 32)
    model = build("ntm", memory_size=13, num_heads=5)
    inputs = random(3, 3, 3, requires_grad=True)
    memory = random(3, 13, 5, seed=2, requires_grad=True)
    ours, state = model(inputs, model.initial_state(3, memory))
    theirs = ntm(dict(model.named_parameters()), inputs, memory, 5)
    assert_agree(model, [inputs, memory], (ours, state.memory), theirs)


def test_starts_constant_with_its_heads_at_slot_0():
    state = build("ntm").initial_state(2)
    assert torch.equal(state.memory, torch.full((2, 6, 5), 1e-6, dtype=torch.float64))
    first = torch.eye(6, dtype=torch.float64)[0].expand(2, 2, 6)
    assert torch.equal(state.write_weights, first)
    assert torch.equal(state.read_weights, first)


def one_head(strength=1.0, gate=0.0, shift=(0.0, 1.0, 0.0), sharpness=1.0):
    numbers = [torch.tensor(n, dtype=torch.float64) for n in (strength, gate, shift, sharpness)]
    return Focus(*(number.view(1, 1, -1) for number in numbers))


@pytest.mark.parametrize(("shift", "slot"), [((1, 0, 0), 4), ((0, 1, 0), 0), ((0, 0, 1), 1)])
def test_shifts_go_round_the_ring(shift, slot):
    at_zero = torch.eye(5, dtype=torch.float64)[:1].unsqueeze(0)
    weights = locate(random(1, 1, 5), at_zero, one_head(shift=tuple(map(float, shift))))
    torch.testing.assert_close(weights[0, 0], torch.eye(5, dtype=torch.float64)[slot])


def test_a_huge_strength_or_sharpness_chooses_one_slot():
    similarities = torch.tensor([[[0.1, 0.7, 0.6]]], dtype=torch.float64)
    even = torch.full((1, 1, 3), 1 / 3, dtype=torch.float64)
    chosen = torch.eye(3, dtype=torch.float64)[1].view(1, 1, 3)
    for focus in (one_head(strength=1e6, gate=1.0), one_head(gate=1.0, sharpness=1e6)):
        torch.testing.assert_close(locate(similarities, even, focus), chosen)


def test_erases_come_before_adds_and_commute():
    memory, add = random(1, 4, 3), random(1, 2, 3, seed=2)
    weights = torch.zeros(1, 2, 4, dtype=torch.float64)
    weights[:, :, 1] = 1.0
    written = erase_and_add(memory, weights, torch.ones(1, 2, 3, dtype=torch.float64), add)
    torch.testing.assert_close(written[:, 1], add.sum(1))
    others = [0, 2, 3]
    assert torch.equal(written[:, others], memory[:, others])


def test_number_of_parameters():
    model = NTM(9, 8, memory_size=128, word_size=20, num_heads=1, hidden_size=100)
    controller = 4 * 100 * (9 + 20 + 100 + 2)
    heads = 101 * (2 * (20 + 1 + 1 + 3 + 1) + 2 * 20)
    assert sum(p.numel() for p in model.parameters()) == controller + heads + 8 * 121
