"""Threads that use states of one memory get the answers that each would get alone."""

import os
import signal
import threading
import time

import pytest
import torch

from tests.states.models_of import SPARSE, make, random

sparse_name = pytest.mark.parametrize("name", SPARSE)


def in_threads(*jobs):
    """Run each job in a thread of its own; returns what they raised."""
    failures, ready = [], threading.Barrier(len(jobs))

    def run(job):
        ready.wait()
        try:
            job()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures


@sparse_name
def test_a_start_state_shared_by_threads(name):
    model = make(name, memory_size=64)
    start = model.initial_state(2, random(64, 6))
    questions = [random(30, 2, 5, seed=seed) for seed in range(3)]
    with torch.no_grad():
        right = [model(question, start)[0] for question in questions]
    wrong = []

    def serve(i):
        with torch.no_grad():
            for _ in range(20):
                if not torch.equal(model(questions[i], start)[0], right[i]):
                    wrong.append(i)

    assert not in_threads(*(lambda i=i: serve(i) for i in range(3)))
    assert not wrong
    with torch.no_grad():
        for question, answer in zip(questions, right, strict=True):
            assert torch.equal(model(question, start)[0], answer)


@sparse_name
def test_threads_that_go_back_through_one_memory_at_once(name):
    """Each thread's backward pass keeps its gradients to itself."""
    model = make(name, memory_size=64)
    inputs = random(3, 8, 2, 5, seed=1)

    def gradient(i, words):
        start = model.initial_state(2, words)
        return start, lambda: torch.autograd.grad(loss(i, start), words)[0]

    def loss(i, start):
        state, total = start, 0
        for piece in inputs.roll(i, 0):
            outputs, state = model(piece, state)
            total = total + outputs.square().sum()
        return total

    words = random(64, 6).requires_grad_(True)
    start = model.initial_state(2, words)
    right = [torch.autograd.grad(loss(i, start), words, retain_graph=True)[0] for i in range(3)]
    found = [[] for _ in range(3)]

    def work(i):
        for _ in range(5):
            found[i].append(torch.autograd.grad(loss(i, start), words, retain_graph=True)[0])

    assert not in_threads(*(lambda i=i: work(i) for i in range(3)))
    for own, expected in zip(found, right, strict=True):
        assert all(torch.equal(each, expected) for each in own)


@sparse_name
def test_looking_at_states_while_others_work(name):
    model = make(name, memory_size=64)
    with torch.no_grad():
        _, first = model(random(20, 2, 5), model.initial_state(2, random(64, 6)))
        _, last = model(random(20, 2, 5, seed=1), first)
        kept = [state.memory for state in (first, last)]
        bad = []

        def look():
            for _ in range(30):
                for state, memory in zip((first, last), kept, strict=True):
                    if not torch.equal(state.memory, memory):
                        bad.append("memory")
                    if not torch.equal(state.select([1]).memory[0], memory[1]):
                        bad.append("select")

        def work():
            with torch.no_grad():
                for seed in range(10):
                    model(random(15, 2, 5, seed=seed), first if seed % 2 else last)

        assert not in_threads(look, work, look)
    assert not bad


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@sparse_name
def test_a_child_forked_while_a_thread_works(name):
    model, inputs, done = make(name), random(200, 2, 5), []
    state = model.initial_state(2, random(16, 6))
    with torch.no_grad():
        right = model(inputs[:5], state)[0]

    def work():
        with torch.no_grad():
            while not done:
                model(inputs, state)

    thread = threading.Thread(target=work)
    thread.start()
    codes = []
    for _ in range(5):
        time.sleep(0.01)
        child = os.fork()
        if child == 0:
            signal.alarm(20)  # a deadlock ends the child
            os._exit(answer_of(model, inputs[:5], state, right))
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    done.append(True)
    thread.join()
    assert set(codes) <= {0, 1}  # the right answer, or a memory that says it is undefined


def answer_of(model, inputs, state, right):
    """0: right, 1: refused as undefined, 2: anything else."""
    try:
        with torch.no_grad():
            return 0 if torch.equal(model(inputs, state)[0], right) else 2
    except RuntimeError as error:
        return 1 if "left undefined" in str(error) else 2
    except BaseException:
        return 2
