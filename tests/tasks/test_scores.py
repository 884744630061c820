"""How outputs are scored: values of known answers, and of random ones against a slow loop."""

import math

import pytest
import torch

from sam import tasks

COPY = tasks.Copy()
ALL = [COPY, tasks.AssociativeRecall(), tasks.PrioritySort(), tasks.RepeatCopy()]


def sample(task, batch_size=5, level=None):
    return task.sample(batch_size, torch.Generator().manual_seed(0), level)


def with_a_ragged_mask(episode):
    """The same episode, of which each sequence has another number of scored steps."""
    mask = torch.rand(episode.mask.shape, generator=torch.Generator().manual_seed(1)) < 0.4
    assert len(set(mask.sum(0).tolist())) > 1
    return episode._replace(mask=mask)


def slow_scores(outputs, episode):
    """Bits of cross-entropy and wrong bits of each sequence, one bit after the other."""
    cost, wrong = [0.0] * outputs.shape[1], [0] * outputs.shape[1]
    for t, b in episode.mask.nonzero().tolist():
        for logit, bit in zip(outputs[t, b].tolist(), episode.targets[t, b].tolist(), strict=True):
            probability = 1 / (1 + math.exp(-logit))
            cost[b] -= math.log2(probability if bit == 1 else 1 - probability)
            wrong[b] += (probability > 0.5) != (bit == 1)
    return cost, wrong


@pytest.mark.parametrize("task", ALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scores_are_those_of_a_loop_over_the_bits(task, dtype):
    episode = with_a_ragged_mask(sample(task))
    outputs = torch.randn(episode.targets.shape, dtype=dtype) * 2
    cost, wrong = slow_scores(outputs, episode)
    assert task.errors(outputs, episode).tolist() == wrong
    assert task.cost(outputs, episode).tolist() == pytest.approx(cost, rel=1e-5)
    bits = int(episode.mask.sum()) * task.output_size
    assert float(task.scored(episode).sum()) == bits
    assert task.scored(episode).tolist() == [
        int(column.sum()) * task.output_size for column in episode.mask.unbind(1)
    ]
    nats = sum(cost) * math.log(2) / bits
    assert task.loss(outputs, episode).item() == pytest.approx(nats, rel=1e-5)
    assert task.loss(outputs, episode).dtype == dtype
    assert task.cost(outputs, episode).dtype == task.errors(outputs, episode).dtype == torch.float64


def test_the_gradient_of_the_loss_is_that_of_a_mean_over_the_scored_bits():
    episode = with_a_ragged_mask(sample(COPY, level=3))
    outputs = torch.randn(episode.targets.shape, dtype=torch.float64, requires_grad=True)
    COPY.loss(outputs, episode).backward()
    scored = episode.mask.unsqueeze(-1).double()
    expected = scored * (outputs.detach().sigmoid() - episode.targets) / (8 * scored.sum())
    torch.testing.assert_close(outputs.grad, expected, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("task", ALL)
def test_scores_of_perfect_ignorant_and_inverted_answers(task):
    episode = sample(task)
    bits = int(episode.mask[:, 0].sum()) * task.output_size
    perfect = (episode.targets * 2 - 1) * 50
    assert task.errors(perfect, episode).tolist() == [0] * 5
    assert task.errors(-perfect, episode).tolist() == [bits] * 5
    assert task.loss(perfect, episode) < 1e-12
    assert task.cost(perfect, episode).max() < 1e-12
    ignorant = torch.zeros_like(perfect)
    assert task.loss(ignorant, episode).item() == pytest.approx(math.log(2))
    assert task.cost(ignorant, episode).tolist() == pytest.approx([bits] * 5)


@pytest.mark.parametrize("task", ALL[:3])
@pytest.mark.parametrize("level", [1, 5, 40])
def test_chance_is_the_cost_of_ignorance_and_twice_its_errors(task, level):
    episode = sample(task, 2000, level)
    ignorant = torch.zeros_like(episode.targets)
    assert task.cost(ignorant, episode).mean().item() == pytest.approx(task.chance(level))
    guesses = torch.randn(episode.targets.shape, generator=torch.Generator().manual_seed(2))
    half = task.chance(level) / 2
    # Four standard deviations of the mean of 2,000 binomials.
    assert abs(task.errors(guesses, episode).mean() - half) < 4 * math.sqrt(half / 2 / 2000)


def test_chance_is_what_the_papers_say():
    copy, recall, sort, _ = ALL
    assert [copy.chance(level) for level in (1, 20)] == [8, 160]
    assert recall.chance(3) == recall.chance(60) == 48
    assert [sort.chance(level) for level in (5, 20)] == [32, 128]


def test_chance_of_repeat_copy_is_the_mean_over_its_repeats():
    task = tasks.RepeatCopy(bits=3, min_repeats=2, max_repeats=5)
    costs = []
    for repeats in (2, 3, 4, 5):
        episode = task.sample(1, torch.Generator().manual_seed(0), 7, repeats=repeats)
        costs.append(task.cost(torch.zeros_like(episode.targets), episode).item())
    assert task.chance(7) == pytest.approx(sum(costs) / 4)


@pytest.mark.parametrize("junk", [100.0, math.inf, math.nan])
def test_steps_before_the_answer_are_not_scored(junk):
    episode = sample(COPY, level=6)
    outputs = (episode.targets * 2 - 1) * 50
    outputs[:7] = torch.randn(7, 5, 8) * junk
    assert COPY.errors(outputs, episode).tolist() == [0] * 5
    assert COPY.cost(outputs, episode).max() < 1e-12
    assert COPY.loss(outputs, episode) < 1e-12


@pytest.mark.parametrize("score", ["loss", "cost", "errors"])
def test_outputs_of_another_shape_are_refused(score):
    episode = sample(COPY, level=2)
    for wrong in (torch.zeros(5, 5, 1), torch.zeros(5, 5, 9), torch.zeros(5, 8), torch.zeros(8)):
        with pytest.raises(ValueError, match=r"^outputs: got shape .* expected \[5, 5, 8\]"):
            getattr(COPY, score)(wrong, episode)
