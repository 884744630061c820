"""What a run says of itself as it goes: means over some minibatches."""

from __future__ import annotations

from typing import NamedTuple

from sam.training.trainer import Step


class Sums(NamedTuple):
    """Sums over the minibatches since the last line."""

    minibatches: int = 0
    loss: float = 0.0
    cost: float = 0.0
    errors: float = 0.0

    def plus(self, step: Step) -> Sums:
        return Sums(
            self.minibatches + 1,
            self.loss + step.loss,
            self.cost + step.cost,
            self.errors + step.errors,
        )

    def means(self) -> dict[str, float]:
        """Mean loss (nats per target), cost (bits per sequence) and errors (the task's unit)."""
        return {
            "loss": self.loss / self.minibatches,
            "cost": self.cost / self.minibatches,
            "errors": self.errors / self.minibatches,
        }
