"""The training that loss curves and traces come from, and its tests use."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator

import torch

import sam
from sam.sam import SAMState

# The core's learning task: a controller too small to hold the longest of its sequences.
COPY = sam.tasks.Copy(bits=8, min_length=1, max_length=10)
SMALL = {
    **{"input_size": COPY.input_size, "output_size": COPY.output_size, "hidden_size": 32},
    **{"memory_size": 64, "word_size": 16, "num_heads": 1},
}
BATCH_SIZE = 16
RECALL = sam.tasks.AssociativeRecall(value_steps=1, min_pairs=1, max_pairs=6)
# Needs order: the words come back one after the other, and after the last the first again.
REPEAT_COPY = sam.tasks.RepeatCopy(bits=8, max_length=8, max_repeats=2)
# A curriculum goes on when the mean loss over so many minibatches of its hardest level is below.
PATIENCE, MASTERED = 100, 0.15


class Curriculum:
    """Associative recall from one pair on: another one when the present number is mastered.

    Half of the minibatches have the most pairs so far, the others fewer, at random.
    """

    def __init__(self, task: sam.tasks.AssociativeRecall) -> None:
        self.task, self.pairs = task, task.min_pairs
        self._losses: collections.deque[float] = collections.deque(maxlen=PATIENCE)

    def sample(self, batch_size: int, generator: torch.Generator) -> sam.tasks.Episode:
        hardest = bool(torch.rand((), generator=generator) < 0.5)
        bounds = (self.task.min_pairs, self.pairs + 1)
        pairs = self.pairs if hardest else int(torch.randint(*bounds, (), generator=generator))
        return self.task.sample(batch_size, generator, pairs)

    def loss(self, outputs: torch.Tensor, episode: sam.tasks.Episode) -> torch.Tensor:
        return self.task.loss(outputs, episode)

    def note(self, episode: sam.tasks.Episode, loss: float) -> None:
        """What the loss was on an episode of `sample`."""
        if episode.level == self.pairs:
            self._losses.append(loss)
        mastered = len(self._losses) == PATIENCE and sum(self._losses) < PATIENCE * MASTERED
        if mastered and self.pairs < self.task.max_pairs:
            self.pairs += 1
            self._losses.clear()


def minibatches(
    model: torch.nn.Module,
    task: sam.tasks.Task | Curriculum,
    *,
    batch_size: int = BATCH_SIZE,
    learning_rate: float = 1e-3,
    seed: int = 0,
    keep_memory: bool = False,
) -> Iterator[float]:
    """Train without end, with Adam and gradients cut to a norm of 10; yields each loss.

    keep_memory: whether SAM's memory is carried from minibatch to minibatch, all else of the
    state starting anew, so that it fills up with what the model has written; else every
    minibatch has an empty memory of its own.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    state = model.initial_state(batch_size)
    while True:
        episode = task.sample(batch_size, generator)
        outputs, last = model(episode.inputs, state)
        loss = task.loss(outputs, episode)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10)
        optimizer.step()
        if isinstance(task, Curriculum):
            task.note(episode, loss.item())
        yield loss.item()
        state = memory_of(last.detach()) if keep_memory else model.initial_state(batch_size)


def memory_of(state: SAMState) -> SAMState:
    """The memory of a state, all else as before the first step."""
    return dataclasses.replace(
        state,
        hidden=torch.zeros_like(state.hidden),
        cell=torch.zeros_like(state.cell),
        read_words=torch.zeros_like(state.read_words),
        read_slots=torch.full_like(state.read_slots, -1),
        read_weights=torch.zeros_like(state.read_weights),
    )


def wrong_at_longest(model: torch.nn.Module, task: sam.tasks.BitTask = COPY) -> float:
    """The share of wrong bits over 256 sequences of the task's longest, never trained on."""
    with torch.no_grad():
        episode = task.longest(256, torch.Generator().manual_seed(1))
        outputs, _ = model(episode.inputs)
    scored = episode.targets[episode.mask].numel()
    return float(task.errors(outputs, episode).sum() / scored)
