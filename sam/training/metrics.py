"""What a run says of itself as it goes: JSON lines, and TensorBoard where it is installed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from sam.training.files import replacing
from sam.training.trainer import Step

INSTALL = "pip install 'sparse-access-memory[train]'"


def append(path: Path, record: dict[str, Any]) -> None:
    """Add a line to a file of JSON lines."""
    with open(path, "a") as file:
        file.write(json.dumps(record) + "\n")


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a file of JSON lines; a last one that was cut short is left out.

    Raises ValueError, naming file and line, for what is no JSON.
    """
    if not path.exists():
        return
    for number, line in enumerate(path.read_text().splitlines(keepends=True), start=1):
        if not line.endswith("\n"):
            return
        try:
            yield json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: got {error}, expected JSON") from error


def keep(path: Path, wanted: Callable[[dict[str, Any]], bool]) -> None:
    """Drop the lines that are not wanted, and a last one that was cut short."""
    kept = [json.dumps(each) + "\n" for each in read(path) if wanted(each)]
    with replacing(path) as file:
        file.write("".join(kept).encode())


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


class Board(Protocol):
    """Where scalars are drawn as they come."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> Any: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


class NoBoard:
    """Draws nothing."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        pass

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


def board(folder: Path, minibatch: int) -> Board:
    """TensorBoard's files in `folder`, going on from a minibatch; a hint where it is missing.

    What an earlier run drew after that minibatch is no longer shown.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        print(f"TensorBoard is not installed, so metrics.jsonl is all there is ({INSTALL})")
        return NoBoard()
    return SummaryWriter(str(folder), purge_step=minibatch + 1)
