"""The memory learns: copy with a controller too small to hold the sequence.

An LSTM alone learns short copy, so a low error proves nothing of a memory by itself. Beside each
model stand an LSTM of the same size and the trained model with what it reads set to zero.
"""

import copy
import time

import pytest
import torch

import sam

pytestmark = pytest.mark.slow

LONGEST = 10
BATCH_SIZE = 16
SECONDS = 300
CHECK_EVERY = 500
MEMORY = {"memory_size": 64, "word_size": 16, "num_heads": 1}
SIZES = {"input_size": 9, "output_size": 8, "hidden_size": 32}
TASK = sam.tasks.Copy(bits=8, min_length=1, max_length=LONGEST)


def wrong_at_longest(model):
    with torch.no_grad():
        episode = TASK.sample(256, torch.Generator().manual_seed(1), length=LONGEST)
        outputs, _ = model(episode.inputs)
    return sam.tasks.wrong_bits(outputs, episode)


def train(model, *, until, minibatches=None):
    """Train until the error at the longest length is below `until`, for five minutes at most."""
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    start, trained = time.monotonic(), 0
    while time.monotonic() - start < SECONDS and trained != minibatches:
        episode = TASK.sample(BATCH_SIZE, generator)
        outputs, _ = model(episode.inputs)
        optimizer.zero_grad()
        sam.tasks.loss(outputs, episode).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10)
        optimizer.step()
        trained += 1
        if trained % CHECK_EVERY == 0 and wrong_at_longest(model) < until:
            break
    return trained, time.monotonic() - start


def with_reads_zeroed(model):
    """The same model, to whose controller and output the words read contribute nothing."""
    blind = copy.deepcopy(model)
    with torch.no_grad():
        blind.controller.weight_ih[:, blind.input_size :] = 0
        blind.output.weight[:, blind.hidden_size :] = 0
    return blind


@pytest.fixture(scope="module")
def lstm_error():
    torch.manual_seed(0)
    model = sam.build("lstm", **SIZES)
    train(model, until=0, minibatches=50_000)
    return wrong_at_longest(model)


@pytest.mark.parametrize(("name", "settings"), [("sam", {"k": 4}), ("dam", {}), ("ntm", {})])
def test_copy_is_learned_through_the_memory(name, settings, lstm_error):
    torch.manual_seed(0)
    model = sam.build(name, **SIZES, **MEMORY, **settings)
    trained, seconds = train(model, until=0.01)
    error, blind_error = wrong_at_longest(model), wrong_at_longest(with_reads_zeroed(model))
    figures = (
        f"{name}: {error:.4f} of the bits wrong at length {LONGEST} after {trained} minibatches in "
        f"{seconds:.0f} s; reads zeroed {blind_error:.3f}; LSTM {lstm_error:.3f}"
    )
    print(figures)
    assert error < 0.01, figures
    assert blind_error > 0.15, figures
    assert lstm_error > 0.15, figures
