"""Small models and random data for the tests of all models."""

import torch

from sam.dam import DAM
from sam.dnc import DNC
from sam.lstm import LSTM
from sam.ntm import NTM
from sam.sam import SAM

NAMES = ("lstm", "dam", "dam-l2", "dam-least-recent", "ntm", "dnc", "sam", "sam-l2")
MEMORY_NAMES = NAMES[1:]
CLASSES = {"dam": DAM, "dnc": DNC, "ntm": NTM, "sam": SAM}
OPTIONS = {
    "dam-l2": {"similarity": "l2"},
    "sam": {"k": 3},
    "sam-l2": {"k": 2, "similarity": "l2", "key_strength": False},
    "dam-least-recent": {"usage": "least_recent", "key_strength": False},
}


def build(name, memory_size=6, word_size=5, num_heads=2, seed=0, spread=0.5, **options):
    """A model of input size 3, output size 2, hidden size 7, in float64, with random parameters."""
    options = {"hidden_size": 7} | OPTIONS.get(name, {}) | options
    if name == "lstm":
        model = LSTM(3, 2, **options)
    else:
        sizes = {"memory_size": memory_size, "word_size": word_size, "num_heads": num_heads}
        model = CLASSES[name.partition("-")[0]](3, 2, **sizes, **options)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, spread)
    return model.double()


def random(*shape, seed=1, requires_grad=False):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(shape, dtype=torch.float64, generator=generator)
    return values.requires_grad_(requires_grad)


def start(model, batch_size, memory=None):
    """An initial state, with random words where the model has a memory."""
    if memory is None and hasattr(model, "memory_size"):
        memory = random(batch_size, model.memory_size, model.word_size, seed=5)
    return model.initial_state(batch_size, memory)


def assert_agree(model, leaves, ours, theirs):
    """Two tuples of tensors are equal, and so are the gradients of one random sum of each."""
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-9)
    leaves = [*model.parameters(), *leaves]
    gradients = [
        torch.autograd.grad(
            sum((random(*part.shape, seed=i) * part).sum() for i, part in enumerate(parts)), leaves
        )
        for parts in (ours, theirs)
    ]
    assert gradients[0][-1].abs().max() > 0
    for mine, other in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-9)
