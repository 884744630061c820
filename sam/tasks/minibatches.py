"""A task's minibatches without end, as a data set of PyTorch's."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import IterableDataset, get_worker_info

from sam import checks
from sam.tasks.curriculum import Curriculum, Progress
from sam.tasks.episode import Episode
from sam.tasks.task import Task


class Minibatches(IterableDataset[Episode]):
    """Minibatches of a task, drawn one after the other, at the levels of a curriculum if given.

    >>> minibatches = Minibatches(tasks.Copy(), batch_size=16, seed=0, curriculum=Curriculum())
    >>> for episode in minibatches:
    ...     loss = ...  # train on it
    ...     minibatches.note(loss.item())

    There is no end. All iterators go on from the same place, the one that `state_dict` keeps: what
    is drawn after `load_state_dict` is, bit for bit, what would have been drawn. Without a
    curriculum levels are uniform between the task's, and `progress` is None; else it says how far
    the curriculum has come, at most to its end and the task's level_limit.

    shard: (rank, world). Each of `world` processes that are given the same seed draws the same
    minibatch of batch_size sequences and yields its own part, the rank-th of `world` equal ones, so
    that all parts together are what one process alone draws. With a curriculum they must note the
    same losses, those of the whole minibatch.
    """

    def __init__(
        self,
        task: Task,
        batch_size: int,
        seed: int,
        curriculum: Curriculum | None = None,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        checks.positive_sizes(batch_size=batch_size)
        _check_shard(shard, batch_size)
        checks.integer("seed", seed, 0, 2**32 - 1)
        self.task, self.batch_size, self.shard = task, batch_size, shard
        self.curriculum = _within(curriculum, task)
        self.progress = None if self.curriculum is None else self.curriculum.begin()
        self._generator = torch.Generator().manual_seed(seed)

    def __iter__(self) -> Iterator[Episode]:
        if get_worker_info() is not None:
            raise RuntimeError(
                "num_workers: expected 0, as workers would all draw the same minibatches, and "
                "could be told of no loss"
            )
        while True:
            yield self._next()

    def _next(self) -> Episode:
        level = None
        if self.curriculum is not None and self.progress is not None:
            level = self.curriculum.draw(self.progress, self._generator)
        whole = self.task.sample(self.batch_size, self._generator, level)
        rank, world = self.shard
        part = self.batch_size // world
        own = slice(rank * part, (rank + 1) * part)
        return Episode(
            whole.inputs[:, own], whole.targets[:, own], whole.mask[:, own], level=whole.level
        )

    def note(self, loss: float) -> None:
        """What the loss of the last minibatch was, in nats per target bit."""
        if self.curriculum is not None and self.progress is not None:
            self.progress = self.curriculum.after(self.progress, loss)

    def state_dict(self) -> dict[str, Any]:
        """Where the minibatches stand: tensors, numbers and lists alone."""
        progress = self.progress and {
            "highest": self.progress.highest,
            "recent": list(self.progress.recent),
        }
        return {"generator": self._generator.get_state(), "progress": progress}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where `state_dict` was taken, of the same task, batch_size and curriculum.

        Raises ValueError, and changes nothing, if it can be no such state.
        """
        if not isinstance(state, dict) or set(state) != {"generator", "progress"}:
            got = sorted(map(str, state)) if isinstance(state, dict) else type(state).__name__
            raise ValueError(f"state: got {got}, expected a dict of generator and progress")
        progress = _progress_of(state["progress"], self.curriculum)
        generator = _generator_of(state["generator"])
        self.progress, self._generator = progress, generator


def _within(curriculum: Curriculum | None, task: Task) -> Curriculum | None:
    """The curriculum, which ends where the task does."""
    if curriculum is None or task.level_limit is None:
        return curriculum
    for name in ("start", "end"):
        level = getattr(curriculum, name)
        if level is not None and level > task.level_limit:
            raise ValueError(
                f"curriculum.{name}: got {level}, expected at most {task.level_limit} for {task}"
            )
    return dataclasses.replace(curriculum, end=curriculum.end or task.level_limit)


def _check_shard(shard: tuple[int, int], batch_size: int) -> None:
    rank, world = shard
    checks.positive_sizes(world=world)
    checks.integer("rank", rank, 0, world - 1)
    if batch_size % world:
        raise ValueError(f"batch_size: got {batch_size}, expected a multiple of world={world}")


def _generator_of(state: object) -> torch.Generator:
    generator = torch.Generator()
    try:
        generator.set_state(state)  # type: ignore[arg-type]
    except (TypeError, RuntimeError) as cause:
        raise ValueError("state['generator']: expected the state of a torch.Generator") from cause
    return generator


def _progress_of(state: object, curriculum: Curriculum | None) -> Progress | None:
    if curriculum is None:
        if state is not None:
            raise ValueError("state['progress']: got one, expected None: there is no curriculum")
        return None
    match state:
        case {"highest": int(highest), "recent": [*recent]} if all(
            isinstance(each, float) for each in recent
        ):
            most = highest if curriculum.end is None else curriculum.end
            if curriculum.start <= highest <= most:
                return Progress(highest, tuple(recent))
    raise ValueError(
        f"state['progress']: got {state!r}, expected the highest level of {curriculum} and a list "
        "of recent losses"
    )
