"""What the learning tests share: training with a limit, and models without part of their memory."""

import copy
import time

import torch

from asv_bench.learning.training import minibatches, wrong_at_longest

SECONDS = 300
CHECK_EVERY = 500


def train(model, task, *, until, most=None, learning_rate=1e-3):
    """Train until the error at the longest length is below `until`, for five minutes at most.

    most: a number of minibatches to stop at. Returns the number of minibatches and the seconds.
    """
    start = time.monotonic()
    for trained, _ in enumerate(minibatches(model, task, learning_rate=learning_rate), start=1):
        if trained % CHECK_EVERY == 0 and wrong_at_longest(model, task) < until:
            break
        if time.monotonic() - start > SECONDS or trained == most:
            break
    return trained, time.monotonic() - start


def with_reads_zeroed(model):
    """The same model, to whose controller and output the words read contribute nothing."""
    blind = copy.deepcopy(model)
    with torch.no_grad():
        blind.controller.weight_ih[:, blind.input_size :] = 0
        blind.output.weight[:, blind.hidden_size :] = 0
    return blind
