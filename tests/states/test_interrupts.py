"""An interrupt at any moment, and a signal's handler that uses the memory, spoil no state."""

import contextlib
import dataclasses
import signal
import sys

import numpy as np
import pytest
import torch

from sam.sparse import journal
from tests.states.models_of import SPARSE, make, random, words_for

sparse_name = pytest.mark.parametrize("name", SPARSE)
# Where a store is moved; `held` sets a flag between instructions that no signal can part.
MOVERS = ("sam/sparse/", "ann_backends/index.py", "ann_backends/log.py")


class Interrupt:
    """Raises KeyboardInterrupt at one line of the movers, counted from the first."""

    def __init__(self, at):
        self.left = at

    def __enter__(self):
        sys.settrace(self._trace)

    def __exit__(self, *_):
        sys.settrace(None)

    def _trace(self, frame, event, _):
        code = frame.f_code
        if not any(mover in code.co_filename for mover in MOVERS) or code.co_name == "held":
            return None
        if event == "line":
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
        return self._trace


def states_of(model, name):
    states = [model.initial_state(2, words_for(name, 2))]
    with torch.no_grad():
        for piece in random(3, 2, 2, 5):
            states.append(model(piece, states[-1])[1])
    return states


def answers(model, states):
    with torch.no_grad():
        return [(model(random(2, 2, 5, seed=4), state)[0], state.memory) for state in states]


def is_as_it_was(model, states, right):
    """Whether all answer as before; else they say that they do not."""
    try:
        got = answers(model, states)
    except RuntimeError as error:
        if "left undefined" not in str(error):
            raise
        return False
    for own, expected in zip(got, right, strict=True):
        assert all(map(torch.equal, own, expected))
    return True


def forward(model, states, interrupt):
    with torch.no_grad(), interrupt:
        model(random(3, 2, 5, seed=3), states[1])


def backward(model, states, interrupt):
    outputs, state = model(random(3, 2, 5, seed=3), states[1])
    loss = outputs.sum() + state.memory.sum()
    with interrupt:
        loss.backward()


@pytest.mark.parametrize("use", [forward, backward])
@pytest.mark.parametrize("settings", [{}, {"checkpoint": "dp", "checkpoint_mib": 0.05}], ids=str)
@sparse_name
def test_an_interrupt_at_any_line(name, settings, use):
    model = make(name, **settings)
    right = answers(model, states_of(model, name))
    at, whole = 1, 0
    while True:
        states, interrupt = states_of(model, name), Interrupt(at)
        with contextlib.suppress(KeyboardInterrupt):
            use(model, states, interrupt)
        if interrupt.left > 0:
            break
        whole += is_as_it_was(model, states, right)
        at += 17
    assert whole > at / 17 / 3


# What raises in a weak reference's callback goes no further.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@sparse_name
def test_signals_that_raise(name):
    model = make(name)
    inputs = random(40, 2, 5, seed=3)

    def stop(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    states = states_of(model, name)
    right = answers(model, states)
    model(inputs, states[1])[0].sum().backward()  # its kernels are ready
    try:
        for count in range(60):
            signal.setitimer(signal.ITIMER_REAL, 0.0005 + 0.0002 * (count % 37))
            with contextlib.suppress(KeyboardInterrupt):
                model(inputs, states[1])[0].sum().backward()
                signal.setitimer(signal.ITIMER_REAL, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
            if not is_as_it_was(model, states, right):
                states = states_of(model, name)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@sparse_name
def test_a_use_in_the_middle_of_another_is_refused(name):
    model, refused = make(name), []
    states = states_of(model, name)
    right = answers(model, states)
    inputs = random(200, 2, 5, seed=3)
    plain = model(inputs, states[1])[0]

    def look(*_):
        try:
            assert torch.equal(states[0].memory, right[0][1])
        except RuntimeError as error:
            refused.append(str(error))

    before = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.002)
    try:
        while not refused:
            outputs = model(inputs, states[1])[0]
            outputs.sum().backward()
            assert torch.equal(outputs, plain)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert "in the middle of a step" in refused[0] or "left undefined" in refused[0]
    assert is_as_it_was(model, states, right)


def test_no_memory_for_a_journal_leaves_the_state(monkeypatch):
    model = make("sam")
    states = states_of(model, "sam")
    right = answers(model, states)

    class Full:
        def __getattr__(self, name):
            return getattr(np, name)

        @staticmethod
        def full(*_):
            raise MemoryError

    monkeypatch.setattr(journal, "np", Full())
    with pytest.raises(MemoryError), torch.no_grad():
        model(random(2, 2, 5), states[1])
    monkeypatch.undo()
    assert is_as_it_was(model, states, right)


def changed_in_place(state):
    state.read_slots[0, 0, 0] = 10**6
    return state


BROKEN = {
    "slots in place": changed_in_place,
    "negative slots": lambda s: dataclasses.replace(s, read_slots=s.read_slots - 7),
    "more slots": lambda s: dataclasses.replace(s, read_slots=s.read_slots.repeat(1, 1, 2)),
    "int32 slots": lambda s: dataclasses.replace(s, read_slots=s.read_slots.int()),
    "fewer weights": lambda s: dataclasses.replace(s, read_weights=s.read_weights[..., :1]),
    "fewer words": lambda s: dataclasses.replace(s, read_words=s.read_words[:, :1]),
    "wider cell": lambda s: dataclasses.replace(s, cell=s.cell.repeat(1, 2)),
    "other memory": lambda s: dataclasses.replace(s, version=s.select([0]).version),
}


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("name", ["sam", "sdnc"])
def test_a_state_that_was_taken_apart_is_refused(name, how):
    model = make(name)
    state = BROKEN[how](states_of(model, name)[1])
    with pytest.raises((ValueError, TypeError), match=r"state\.[a-z_]+: got"):
        model(random(2, 2, 5), state)
