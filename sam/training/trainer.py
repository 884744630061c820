"""One minibatch after another: a model, its optimizer and its task, as one state to save."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sam.tasks import Episode, Minibatches
from sam.training import parallel
from sam.training.checkpoint import CheckpointError
from sam.training.settings import RunSettings

# Guessing costs ln 2 = 0.69 nats per bit; a model far above is not learning any more.
EXPLODED = 100.0


class Diverged(RuntimeError):
    """The loss or its gradient became NaN, infinite or huge at a minibatch."""

    def __init__(self, minibatch: int, reason: str) -> None:
        super().__init__(f"training stopped at minibatch {minibatch}: {reason}")
        self.minibatch = minibatch


class Step(NamedTuple):
    """What one minibatch gave: loss in nats per target, cost in bits per sequence, and errors.

    length: its time steps, T.
    """

    loss: float
    cost: float
    errors: float
    length: int


class Trainer:
    """A run in memory, from its start; `state` and `load` carry it from process to process.

    minibatch: how many have been trained on. seconds: of training; data_seconds of them went into
    drawing minibatches, model_seconds into the model's forward and backward passes.
    """

    def __init__(self, settings: RunSettings) -> None:
        self.settings = settings
        self.task = settings.build_task()
        self.task.prepare()
        torch.manual_seed(settings.seed)
        self.model = settings.build_model()
        self._parameters = list(self.model.parameters())
        self.optimizer = settings.optimizer.build(self._parameters)
        self.minibatches = Minibatches(
            self.task,
            settings.batch_size,
            settings.seed,
            curriculum=settings.curriculum,
            shard=(parallel.rank(), parallel.world_size()),
        )
        self._episodes = iter(self.minibatches)
        self.minibatch = 0
        self.seconds = self.data_seconds = self.model_seconds = 0.0

    @property
    def episodes(self) -> int:
        return self.minibatch * self.settings.batch_size

    @property
    def level(self) -> int | None:
        """The highest level that the curriculum has reached."""
        progress = self.minibatches.progress
        return None if progress is None else progress.highest

    @property
    def spent(self) -> float:
        """The share of the budget, 1 or more when it is used up."""
        settings = self.settings
        return max(
            self.episodes / settings.episodes if settings.episodes else 0.0,
            self.seconds / (60 * settings.minutes) if settings.minutes else 0.0,
        )

    def step(self) -> Step:
        """Train on the next minibatch.

        Raises Diverged, with parameters and optimizer as before, if loss or gradient explode.
        """
        started = time.perf_counter()
        episode = next(self._episodes)
        drawn = time.perf_counter()
        outputs = self._outputs(episode)
        forward = time.perf_counter()
        loss = self.task.loss(outputs, episode)
        for parameter in self._parameters:
            parameter.grad = None
        scored = time.perf_counter()
        loss.backward()
        backward = time.perf_counter()
        measured = self._measure(loss, outputs, episode)
        parallel.average_gradients(self.model)
        norm = clip_gradients(self._parameters, self.settings.optimizer.clip_norm)
        if not (measured.loss < EXPLODED and math.isfinite(norm)):
            raise Diverged(
                self.minibatch + 1,
                f"loss {measured.loss:g} nats per target, norm of the gradient {norm:g}",
            )
        share = self.episodes / (self.settings.episodes or math.inf)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.optimizer.rate(share)
        self.optimizer.step()
        self.minibatches.note(measured.loss)
        self.minibatch += 1
        self.data_seconds += drawn - started
        self.model_seconds += forward - drawn + backward - scored
        self.seconds += time.perf_counter() - started
        return measured

    def _outputs(self, episode: Episode) -> Tensor:
        try:
            outputs, _ = self.model(episode.inputs)
        except FloatingPointError as error:  # a sparse model looks for no words near NaN
            raise Diverged(self.minibatch + 1, str(error)) from error
        return outputs

    @torch.no_grad()
    def _measure(self, loss: Tensor, outputs: Tensor, episode: Episode) -> Step:
        cost = self.task.cost(outputs, episode).mean()
        errors = self.task.errors(outputs, episode).mean()
        mean_loss, mean_cost, mean_errors = parallel.mean(loss, cost, errors)
        return Step(mean_loss, mean_cost, mean_errors, len(episode.inputs))

    @property
    def is_finite(self) -> bool:
        """Whether all parameters are: a step may leave some that only the next stumbles over."""
        return all(bool(each.isfinite().all()) for each in self._parameters)

    def check_finite(self) -> None:
        """Raises Diverged if the last step has left NaN or infinite parameters."""
        if not self.is_finite:
            raise Diverged(self.minibatch, "it left NaN or infinite parameters")

    def state(self) -> dict[str, Any]:
        """Model, optimizer, task, curriculum and random numbers, as tensors and plain values."""
        return {
            "settings": self.settings.as_mapping(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "minibatches": self.minibatches.state_dict(),
            "random": torch.get_rng_state(),
            "minibatch": self.minibatch,
            "seconds": self.seconds,
            "seconds_of": {"data": self.data_seconds, "model": self.model_seconds},
        }

    def load(self, state: dict[str, Any], overrides: Collection[str] = ()) -> None:
        """Go on from what `state` gave; after an error this trainer is not to be used.

        overrides: the settings that may be others than in `state`, and then count instead.
        Raises ValueError if that was of a run with other settings, CheckpointError if it is none.
        """
        check_same_run(self.settings, state, overrides)
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            if overrides:
                for group in self.optimizer.param_groups:
                    group.update(self.settings.optimizer.options)
            self.minibatches.load_state_dict(state["minibatches"])
            torch.set_rng_state(state["random"])
            self.minibatch, self.seconds = int(state["minibatch"]), float(state["seconds"])
            parts = state.get("seconds_of", {})  # older checkpoints have none
            self.data_seconds = float(parts.get("data", 0))
            self.model_seconds = float(parts.get("model", 0))
        except Exception as error:
            raise CheckpointError(
                f"checkpoint: got parts that do not belong together, expected those of a run "
                f"({type(error).__name__}: {' '.join(str(error).split())})"
            ) from error

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Begin with another model's parameters; ValueError if they do not fit this one's."""
        try:
            self.model.load_state_dict(weights)
        except Exception as error:
            raise ValueError(
                "got parameters of another model, expected those of one with the same sizes "
                f"({' '.join(str(error).split())})"
            ) from error
        if not self.is_finite:
            raise ValueError("got NaN or infinite parameters, expected finite ones")


def clip_gradients(parameters: list[nn.Parameter], most: float) -> float:
    """Scale gradients down to a global norm of `most`; returns the norm that they had.

    As torch's clip_grad_norm_, at a third of its cost for parameters as small as these.
    """
    gradients = [each.grad for each in parameters if each.grad is not None]
    norm = float(torch.cat([each.flatten() for each in gradients]).norm())
    if norm > most:
        for gradient in gradients:
            gradient.mul_(most / norm)
    return norm


def check_same_run(
    settings: RunSettings, state: dict[str, Any], overrides: Collection[str] = ()
) -> None:
    """Raises ValueError, naming what differs, if a checkpoint is of a run of other settings.

    overrides: settings, or tables of them, that may differ.
    """
    if not isinstance(state.get("settings"), dict):
        raise CheckpointError("checkpoint: got one without settings, expected those of its run")
    theirs = RunSettings.of(state["settings"])
    changed = {
        name: both
        for name, both in settings.changes(theirs).items()
        if not any(f"{name}.".startswith(f"{each}.") for each in overrides)
    }
    if changed:
        came = ", ".join(f"{name}={own!r}" for name, (own, _) in changed.items())
        expected = ", ".join(f"{name}={other!r}" for name, (_, other) in changed.items())
        raise ValueError(f"settings: got {came}, expected {expected} as in the checkpoint")
