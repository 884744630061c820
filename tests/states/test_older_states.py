"""An older state, used again, gives the same bits as it gave before, whatever the index."""

import pytest
import torch

import ann_backends
import sam

INDEXES = {
    "exact": "exact",
    "kd_forest": "kd_forest",
    "kd_forest, rebuilt often": ann_backends.KDForest(rebuild_every=300),
    "lsh": "lsh",
    "lsh, rebuilt often": ann_backends.LSH(rebuild_every=300),
}


@pytest.mark.parametrize("ann", INDEXES.values(), ids=INDEXES)
@pytest.mark.parametrize("name", ["sam", "sdnc"])
@pytest.mark.parametrize("given", [False, True], ids=["empty", "given"])
@torch.no_grad()
def test_older_states_used_in_any_order(name, ann, given):
    torch.manual_seed(0)
    model = sam.build(name, input_size=5, output_size=4, memory_size=1024, word_size=16, ann=ann)
    words = torch.randn(1024, 16) if given else None
    questions = torch.randn(6, 40, 2, 5)
    states, answers = [model.initial_state(2, words)], []
    for question in questions:
        answer, state = model(question, states[-1])
        states.append(state)
        answers.append(answer)
    branch, side = model(questions[0], states[3])
    twig = model(questions[1], side)[0]
    for i in (0, 5, 2, 2, 4, 1, 0, 3):
        assert torch.equal(model(questions[i], states[i])[0], answers[i])
    assert torch.equal(model(questions[0], states[3])[0], branch)
    assert torch.equal(model(questions[1], side)[0], twig)


@pytest.mark.parametrize("ann", INDEXES.values(), ids=INDEXES)
def test_gradients_from_an_older_state(ann):
    torch.manual_seed(0)
    model = sam.SAM(5, 4, memory_size=1024, word_size=16, ann=ann)
    words = torch.randn(1024, 16, requires_grad=True)
    start, questions = model.initial_state(2, words), torch.randn(3, 20, 2, 5)

    def gradient(question):
        return torch.autograd.grad(model(question, start)[0].sum(), words, retain_graph=True)[0]

    first = [gradient(question) for question in questions]
    for question, expected in zip(questions, first, strict=True):
        assert torch.equal(gradient(question), expected)
