"""A line that moves while a run trains."""

from __future__ import annotations

from typing import Any, Protocol

from sam.training.board import INSTALL
from sam.training.trainer import Step, Trainer

UPDATE_EVERY = 10  # minibatches


class Progress(Protocol):
    def update(self, trainer: Trainer, step: Step) -> None: ...

    def close(self) -> None: ...


class Silent:
    """Shows nothing."""

    def update(self, trainer: Trainer, step: Step) -> None:
        pass

    def close(self) -> None:
        pass


class Bar:
    """tqdm's bar over the budget: loss, the curriculum's level, minibatches and steps a second."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar
        self._loss: float | None = None
        self._steps = 0

    def update(self, trainer: Trainer, step: Step) -> None:
        self._loss = step.loss if self._loss is None else 0.98 * self._loss + 0.02 * step.loss
        self._steps += step.length
        if trainer.minibatch % UPDATE_EVERY == 0 or trainer.spent >= 1:
            level = "" if trainer.level is None else f", level {trainer.level}"
            rate = self._steps / max(self._bar.format_dict["elapsed"], 1e-9)
            self._bar.set_postfix_str(
                f"loss {self._loss:.4f}{level}, {rate:,.0f} steps/s", refresh=False
            )
            self._bar.update(trainer.minibatch - self._bar.n)

    def close(self) -> None:
        self._bar.close()


def show(trainer: Trainer) -> Progress:
    """A bar over what is left of the budget; a hint where tqdm is missing."""
    try:
        from tqdm import tqdm
    except ImportError:
        print(f"tqdm is not installed, so there is no progress bar ({INSTALL})")
        return Silent()
    settings = trainer.settings
    total = settings.episodes and -(-settings.episodes // settings.batch_size)
    description = settings.name or f"{settings.model} on {settings.task}"
    return Bar(
        tqdm(total=total, initial=trainer.minibatch, unit="minibatch", desc=description, leave=True)
    )
