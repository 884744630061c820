"""The way past the memory, of which parts are dropped in training."""

import pytest
import torch

import sam
from sam import tasks
from sam.model import Readout
from sam.training import evaluate

HIDDEN, READS = 40, 3
memory_models = pytest.mark.parametrize("name", ["sam", "sdnc", "dam", "ntm", "dnc"])


def build(name, **settings):
    torch.manual_seed(0)
    sizes = {"memory_size": 8, "word_size": 3, "num_heads": 1, "hidden_size": HIDDEN}
    return sam.build(name, input_size=9, output_size=8, **sizes, **settings)


def test_a_share_of_the_hidden_units_is_dropped_and_the_rest_scaled_up():
    readout = Readout(HIDDEN, READS, HIDDEN + READS, 0.3)
    with torch.no_grad():
        readout.weight.copy_(torch.eye(HIDDEN + READS))  # so that what goes in can be seen
        readout.bias.zero_()
    features = torch.rand(500, 2, HIDDEN + READS) + 0.5
    passed = readout(features)
    assert torch.equal(passed[..., HIDDEN:], features[..., HIDDEN:])
    dropped = passed[..., :HIDDEN] == 0
    assert float(dropped.float().mean()) == pytest.approx(0.3, abs=0.01)
    kept = ~dropped
    scaled = features[..., :HIDDEN] / 0.7
    torch.testing.assert_close(passed[..., :HIDDEN][kept], scaled[kept])
    assert torch.equal(readout.eval()(features), features)


@memory_models
def test_only_the_output_misses_what_is_dropped(name):
    inputs = torch.randn(6, 4, 9)
    plain, dropping = build(name), build(name, bypass_dropout=0.5)
    outputs, state = plain(inputs)
    dropped, after = dropping(inputs)
    assert not torch.allclose(outputs, dropped)
    # The memory and what is read from it are as ever.
    torch.testing.assert_close(state.read_words, after.read_words)
    torch.testing.assert_close(state.hidden, after.hidden)
    torch.testing.assert_close(dropping.eval()(inputs)[0], outputs)


@memory_models
def test_a_model_is_evaluated_with_nothing_dropped(name):
    task = tasks.Copy(max_length=4)
    plain, dropping = build(name), build(name, bypass_dropout=0.5)
    scores = [evaluate(model, task, 4, sequences=8) for model in (plain, dropping)]
    assert scores[0] == scores[1]
    assert dropping.training


@memory_models
@pytest.mark.parametrize("share", [1, -0.1, float("nan")])
def test_shares_that_make_no_sense_are_refused(name, share):
    with pytest.raises(ValueError, match=r"bypass_dropout: got .*, expected a number in \[0, 1\)"):
        build(name, bypass_dropout=share)
    with pytest.raises(TypeError, match="bypass_dropout: got 'all', expected a number"):
        build(name, bypass_dropout="all")


@memory_models
def test_steps_that_are_made_again_would_drop_others(name):
    with pytest.raises(ValueError, match=r"bypass_dropout: got 0\.5 beside checkpoint"):
        build(name, bypass_dropout=0.5, checkpoint="dp", checkpoint_mib=1)
