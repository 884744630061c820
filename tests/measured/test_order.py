"""DNC and SDNC learn what needs order: repeat copy, with a controller too small to hold the words.

Beside each stand an LSTM of the same size, the trained model with what it reads set to zero and,
for SDNC, with no links.
"""

import pytest
import torch

import sam
from asv_bench.learning.training import REPEAT_COPY, wrong_at_longest
from tests.measured.trained import train, with_reads_zeroed

pytestmark = pytest.mark.slow

LEARNING_RATES = {"lstm": 3e-3, "dnc": 3e-3, "sdnc": 1e-3}
SIZES = {
    **{"input_size": REPEAT_COPY.input_size, "output_size": REPEAT_COPY.output_size},
    "hidden_size": 32,
}
MEMORIES = {
    "dnc": {"memory_size": 16, "word_size": 16, "num_heads": 1},
    "sdnc": {"memory_size": 32, "word_size": 16, "num_heads": 1, "k": 8},
}


def error(model):
    return wrong_at_longest(model, REPEAT_COPY)


def without_links(model, settings):
    """The same model, whose forward and backward modes find nothing."""
    unlinked = sam.build("sdnc", **settings, link_size=0)
    unlinked.load_state_dict(model.state_dict())
    return unlinked


@pytest.fixture(scope="module")
def lstm_error():
    torch.manual_seed(0)
    model = sam.build("lstm", **SIZES)
    train(model, REPEAT_COPY, until=0, most=30_000, learning_rate=LEARNING_RATES["lstm"])
    return error(model)


@pytest.mark.parametrize("name", MEMORIES)
def test_repeat_copy_is_learned_through_the_memory(name, lstm_error):
    torch.manual_seed(0)
    settings = SIZES | MEMORIES[name]
    model = sam.build(name, **settings)
    trained, seconds = train(model, REPEAT_COPY, until=0.01, learning_rate=LEARNING_RATES[name])
    rows = {"": error(model), "reads zeroed": error(with_reads_zeroed(model)), "LSTM": lstm_error}
    if name == "sdnc":
        rows["links zeroed"] = error(without_links(model, settings))
        assert rows["links zeroed"] > 0.15, rows
    figures = f"{name}, {trained} minibatches, {seconds:.0f} s: wrong bits " + ", ".join(
        f"{label} {share:.4f}".strip() for label, share in rows.items()
    )
    print(figures)
    assert rows.pop("") < 0.01, figures
    assert rows["reads zeroed"] > 0.15, figures
    assert lstm_error > 0.15, figures
