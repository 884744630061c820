"""bAbI: questions about short stories (Weston et al. 2015), all twenty tasks at once."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from sam import checks
from sam.data import babi, source
from sam.data.babi import Splits
from sam.data.stories import NO_ANSWER, SYMBOLS, Encoded
from sam.tasks.buckets import Buckets
from sam.tasks.class_task import ClassTask
from sam.tasks.episode import Episode


@dataclasses.dataclass(frozen=True)
class Babi(ClassTask):
    """Stories of the bAbI tasks, word by word, with their questions in between.

    Rae et al. 2016, supplementary G, after Graves et al. 2016: words are one-hot, in lower case and
    without numbers, full stops and question marks are symbols of their own, 159 in all with the
    marker "-" that follows a question once per word of its answer. Those steps are scored, and the
    targets there are the answer's words; an answer counts if every word of it is right.

    An episode's level is the number of its task. A minibatch without a given level draws a task
    uniformly for each story, among the stories of like length (`Buckets`): what is shorter is
    followed by zeros that nothing is scored at.

    tasks: which of the twenty. version, data_dir: see `sam.data.babi.load`.
    """

    tasks: tuple[int, ...] = tuple(babi.TASKS)
    version: str = "en-10k"
    data_dir: str | None = None

    unit: ClassVar[str] = "wrong answers per story"
    splits: ClassVar[tuple[str, ...]] = ("validation", "test")

    def __post_init__(self) -> None:
        checks.one_of("version", self.version, babi.VERSIONS)
        if not isinstance(self.tasks, (tuple, list)) or not self.tasks:
            raise TypeError(f"tasks: got {self.tasks!r}, expected a list of tasks, 1 to 20")
        for task in self.tasks:
            checks.positive_sizes(tasks=task)
            if task not in babi.TASKS:
                raise ValueError(
                    f"tasks: got {task}, expected integers from 1 to {len(babi.TASKS)}"
                )
        object.__setattr__(self, "tasks", tuple(dict.fromkeys(self.tasks)))

    @property
    def input_size(self) -> int:
        return len(SYMBOLS)

    @property
    def output_size(self) -> int:
        return len(SYMBOLS)

    @property
    def min_level(self) -> int:
        return min(self.tasks)

    @property
    def max_level(self) -> int:
        return max(self.tasks)

    @property
    def level_limit(self) -> int:
        return max(self.tasks)

    @property
    def evaluation_levels(self) -> tuple[int, ...]:
        return self.tasks

    def prepare(self) -> None:
        self._stories()

    def sample(
        self, batch_size: int, generator: torch.Generator, level: int | None = None
    ) -> Episode:
        checks.positive_sizes(batch_size=batch_size)
        return self._episode(self._buckets(level).draw(batch_size, generator), level)

    def longest(self, batch_size: int, generator: torch.Generator) -> Episode:
        return self._episode(self._buckets(None).longest(batch_size), None)

    def held_out(
        self, split: str, level: int, sequences: int, batch_size: int, generator: torch.Generator
    ) -> Iterator[Episode]:
        """The first stories of a task's split, each once, those of like length together."""
        checks.one_of("split", split, self.splits)
        checks.positive_sizes(sequences=sequences, batch_size=batch_size)
        stories = getattr(self._of_task(level), split)[:sequences]
        stories = sorted(stories, key=lambda story: len(story.symbols))
        for start in range(0, len(stories), batch_size):
            yield self._episode(stories[start : start + batch_size], level)

    def errors(self, outputs: Tensor, episode: Episode) -> Tensor:
        """How many of each story's answers have a wrong word."""
        wrong = episode.mask & (outputs.argmax(-1) != episode.targets)
        questions = _questions(episode.mask)
        count = int(questions[-1].max()) + 1
        per_answer = torch.zeros(count, wrong.shape[1], dtype=torch.float64)
        per_answer.scatter_add_(0, questions, wrong.double())
        return (per_answer > 0).sum(0, dtype=torch.float64)

    def scored(self, episode: Episode) -> Tensor:
        """How many questions each story has."""
        return _questions(episode.mask)[-1].double()

    def chance(self, level: int) -> float:
        """Of guessing each word among those that answer the task's questions, per test story."""
        stories = self._of_task(level).test
        said = np.concatenate([story.answers for story in stories])
        said = said[said != NO_ANSWER]
        return len(said) * math.log2(len(np.unique(said))) / len(stories)

    def _stories(self) -> Mapping[int, Splits]:
        return babi.load(self.version, self.tasks, self.data_dir)

    def _of_task(self, level: int) -> Splits:
        if level not in self.tasks:
            raise ValueError(f"level: got {level}, expected one of the tasks {self.tasks}")
        return self._stories()[level]

    def _buckets(self, level: int | None) -> Buckets[Encoded]:
        if level is not None and level not in self.tasks:
            raise ValueError(f"level: got {level}, expected one of the tasks {self.tasks}")
        tasks = self.tasks if level is None else (level,)
        return _buckets(self.version, tasks, source.given_folder(self.data_dir))

    def _episode(self, stories: list[Encoded], level: int | None) -> Episode:
        lengths = np.array([len(story.symbols) for story in stories])
        shape = (int(lengths.max()), len(stories))
        steps = np.concatenate([np.arange(length) for length in lengths])
        columns = np.repeat(np.arange(len(stories)), lengths)
        inputs = torch.zeros(*shape, self.input_size)
        symbols = np.concatenate([story.symbols for story in stories])
        inputs.numpy()[steps, columns, symbols] = 1
        answers = np.full(shape, NO_ANSWER)
        answers[steps, columns] = np.concatenate([story.answers for story in stories])
        targets = torch.from_numpy(answers)
        mask = targets != NO_ANSWER
        return Episode(inputs, targets.clamp(min=0), mask, level=level or self.max_level)


@functools.lru_cache(maxsize=32)
def _buckets(version: str, tasks: tuple[int, ...], folder: Path | None) -> Buckets[Encoded]:
    """The training stories, each task with the same weight in all."""
    splits = babi.load(version, tasks, folder)
    stories, weights = list[Encoded](), list[float]()
    for task in tasks:
        stories += splits[task].train
        weights += [1 / len(splits[task].train)] * len(splits[task].train)
    return Buckets(stories, weights, lambda story: len(story.symbols))


def _questions(mask: Tensor) -> Tensor:
    """Of each step [T, B], the number of answers that have begun: answers are runs of the mask."""
    begins = mask.clone()
    begins[1:] &= ~mask[:-1]
    return begins.cumsum(0)
