"""The memory learns: copy with a controller too small to hold the sequence.

An LSTM alone learns short copy, so a low error proves nothing of a memory by itself. Beside each
model stand an LSTM of the same size and the trained model with what it reads set to zero.
"""

import pytest
import torch

import ann_backends
import sam
from asv_bench.learning.training import COPY, SMALL, wrong_at_longest
from tests.measured.trained import train, with_reads_zeroed

pytestmark = pytest.mark.slow

LSTM = {name: SMALL[name] for name in ("input_size", "output_size", "hidden_size")}


@pytest.fixture(scope="module")
def lstm_error():
    torch.manual_seed(0)
    model = sam.build("lstm", **LSTM)
    train(model, COPY, until=0, most=50_000)
    return wrong_at_longest(model)


def check_learns(name, label, settings, lstm_error):
    torch.manual_seed(0)
    model = sam.build(name, **SMALL, **settings)
    trained, seconds = train(model, COPY, until=0.01)
    error, blind_error = wrong_at_longest(model), wrong_at_longest(with_reads_zeroed(model))
    figures = (
        f"{label}: {error:.4f} of the bits wrong at length {COPY.max_length} after {trained} "
        f"minibatches in {seconds:.0f} s; reads zeroed {blind_error:.3f}; LSTM {lstm_error:.3f}"
    )
    print(figures)
    assert error < 0.01, figures
    assert blind_error > 0.15, figures
    assert lstm_error > 0.15, figures


@pytest.mark.parametrize("name", ["dam", "ntm"])
def test_copy_is_learned_through_the_memory(name, lstm_error):
    check_learns(name, name, {}, lstm_error)


@pytest.mark.parametrize("ann", ann_backends.available())
def test_sam_learns_copy_with_every_index(ann, lstm_error):
    state = ann_backends.available()[ann]
    if state != "ready":
        pytest.skip(f"not installed: {state}")
    check_learns("sam", f"sam, {ann}", {"k": 4, "ann": ann}, lstm_error)
