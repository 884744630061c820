"""Small models whose states the tests of this folder copy, share and take apart."""

import torch

import sam

SIZES = {"memory_size": 16, "word_size": 6, "num_heads": 2}
# Of SAM and SDNC with every own index; small limits, so that an index forgets and rebuilds.
SPARSE = {
    "sam": {"model": "sam"},
    "sam-forest": {"model": "sam", "ann": "kd_forest"},
    "sam-lsh": {"model": "sam", "ann": "lsh"},
    "sdnc": {"model": "sdnc", "link_size": 3},
}
DENSE = {
    "lstm": {"model": "lstm"},
    "ntm": {"model": "ntm"},
    "dam": {"model": "dam"},
    "dam-least-recent": {"model": "dam", "usage": "least_recent"},
    "dnc": {"model": "dnc"},
}
ALL = SPARSE | DENSE


def make(name, *, seed=0, dtype=torch.float64, **settings):
    """The model of that name in `ALL`, with parameters far from their initial values."""
    torch.manual_seed(seed)
    settings = dict(ALL[name]) | settings
    kind = settings.pop("model")
    sizes = {} if kind == "lstm" else SIZES
    model = sam.build(
        kind, input_size=5, output_size=4, hidden_size=12, **(dict(sizes) | settings)
    ).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return model


def random(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype)


def words_for(name, batch_size, *, seed=7):
    """A memory to start with, where the model has one."""
    return None if name == "lstm" else random(batch_size, 16, 6, seed=seed)
