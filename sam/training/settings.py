"""What a run of training is: everything that its result follows from."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

import torch
from torch import Tensor

import ann_backends
import sam
from sam import checks
from sam.models import RecurrentModel, settings_of
from sam.tasks import TASKS, Curriculum, Task
from sam.training import plain

# torch's generators tell seeds apart by their lowest 32 bits alone; the upper half of those is for
# what is held out.
SEEDS = 1 << 31

MOST_THREADS = 1024

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "rmsprop": torch.optim.RMSprop,
    "sgd": torch.optim.SGD,
}


@dataclasses.dataclass(frozen=True)
class OptimizerSettings:
    """How parameters follow gradients.

    name: "adam", "rmsprop" or "sgd". learning_rate: until the cooldown. cooldown: the share, in
    [0, 1], of the run's episodes at its end over which the learning rate falls linearly to 0.
    clip_norm: the global norm that gradients are scaled down to. options: further arguments of
    torch's class, such as momentum or eps.
    """

    name: str = "adam"
    learning_rate: float = 1e-3
    cooldown: float = 0.0
    clip_norm: float = 10.0
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        checks.one_of("optimizer.name", self.name, OPTIMIZERS)
        checks.number("optimizer.learning_rate", self.learning_rate, "(0, inf)")
        checks.number("optimizer.clip_norm", self.clip_norm, "(0, inf)")
        checks.number("optimizer.cooldown", self.cooldown, "[0, 1]")
        _table("optimizer.options", self.options)
        known = list(inspect.signature(OPTIMIZERS[self.name]).parameters)[2:]  # params, lr
        _known("optimizer.options", self.options, known)
        try:
            self.build([torch.zeros(1, requires_grad=True)])
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"optimizer.options: got {dict(self.options)}: {error}") from error

    def build(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        options = dict(self.options)
        if self.name == "adam" and not options.keys() & {"foreach", "fused", "differentiable"}:
            options["fused"] = True  # one kernel for all the small parameters
        return OPTIMIZERS[self.name](parameters, lr=self.learning_rate, **options)

    def rate(self, share: float) -> float:
        """The learning rate when this share of the run's episodes, in [0, 1], has gone by."""
        if not self.cooldown:
            return self.learning_rate
        return self.learning_rate * min(1.0, (1 - share) / self.cooldown)


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """One run: a model on a task, until its budget is used up.

    name: what runs that differ in their seed alone share. model, task: by name (`sam.MODELS`,
    `sam.tasks.TASKS`), with their settings; the model's input and output size follow from the
    task, and `ann` may be a table of an index's name and settings. batch_size: sequences of a
    minibatch. episodes: a budget in sequences. minutes: one in minutes of training, at whose end
    the result depends on the machine; the first to be used up counts. seed: in [0, 2^31).
    threads: of torch; results are the same to the bit for the same number.
    evaluate: the levels at which the trained model is evaluated, on `sequences` sequences each.
    """

    model: str
    task: str
    name: str = ""
    model_settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    task_settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    optimizer: OptimizerSettings = dataclasses.field(default_factory=OptimizerSettings)
    curriculum: Curriculum | None = None
    batch_size: int = 16
    seed: int = 0
    episodes: int | None = None
    minutes: float | None = None
    threads: int = 1
    evaluate: tuple[int, ...] = ()
    sequences: int = 256

    def __post_init__(self) -> None:
        checks.one_of("model", self.model, sam.MODELS)
        checks.one_of("task", self.task, TASKS)
        if not isinstance(self.name, str):
            raise TypeError(f"name: got {checks.shown(self.name)}, expected a string")
        for name in ("model_settings", "task_settings"):
            _table(name, getattr(self, name))
        for name, kind in (("optimizer", OptimizerSettings), ("curriculum", Curriculum | None)):
            if not isinstance(getattr(self, name), kind):
                raise TypeError(
                    f"{name}: got {checks.shown(getattr(self, name))}, expected its settings"
                )
        checks.positive_sizes(batch_size=self.batch_size, sequences=self.sequences)
        checks.integer("threads", self.threads, 1, MOST_THREADS)
        check_seed(self.seed)
        self._check_budget()
        self._check_model(self.model_settings)
        if not isinstance(self.evaluate, (tuple, list)):
            raise TypeError(
                f"evaluate: got {checks.shown(self.evaluate)}, expected a list of levels"
            )
        check_levels("evaluate", self.evaluate, self.build_task())

    def _check_model(self, own: Mapping[str, Any]) -> None:
        checks.settings_of(self.model, own, settings_of(sam.MODELS[self.model]))
        for size in ("input_size", "output_size", "batch_first"):
            if size in own:
                raise ValueError(f"model_settings.{size}: got one, expected the task to say it")

    def _check_budget(self) -> None:
        if self.episodes is None and self.minutes is None:
            raise ValueError("episodes, minutes: got neither, expected a budget in one of them")
        if self.episodes is not None:
            checks.positive_sizes(episodes=self.episodes)
        elif self.optimizer.cooldown:
            raise ValueError(
                f"optimizer.cooldown: got {self.optimizer.cooldown}, expected episodes as well"
            )
        if self.minutes is not None:
            checks.number("minutes", self.minutes, "(0, inf)")

    @property
    def rounding(self) -> str:
        """What becomes of a budget that is no whole number of minibatches, "" of one that is."""
        if not self.episodes or not self.episodes % self.batch_size:
            return ""
        minibatches = -(-self.episodes // self.batch_size)
        return (
            f"episodes: {self.episodes:,} is no multiple of batch_size={self.batch_size}, so "
            f"{minibatches * self.batch_size:,} are trained on, in {minibatches:,} minibatches"
        )

    @classmethod
    def of(cls, mapping: Mapping[str, Any]) -> Self:
        """From nested mappings, such as a TOML file's or those of `as_mapping`.

        Raises ValueError or TypeError for what is unknown, missing or out of range.
        """
        plain.check("", mapping)
        values = dict(mapping)
        _known("settings", values, [field.name for field in dataclasses.fields(cls)])
        for name in ("model", "task"):
            if name not in values:
                raise ValueError(f"{name}: got none, expected its name")
        if "optimizer" in values:
            values["optimizer"] = _nested("optimizer", values["optimizer"], OptimizerSettings)
        if values.get("curriculum") is not None:
            values["curriculum"] = _nested("curriculum", values["curriculum"], Curriculum)
        if isinstance(values.get("evaluate"), list):
            values["evaluate"] = tuple(values["evaluate"])
        return cls(**values)

    def as_mapping(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers; `of` takes them back."""
        return {
            field.name: plain.plain(getattr(self, field.name)) for field in dataclasses.fields(self)
        }

    def build_task(self) -> Task:
        return sam.tasks.build(self.task, **self.task_settings)

    def build_model(self, **changes: Any) -> RecurrentModel:
        """The model at its start, drawn from torch's generator; changes: to `model_settings`."""
        self._check_model(changes)
        task = self.build_task()
        own = {**self.model_settings, **changes}
        if isinstance(own.get("ann"), Mapping):
            own["ann"] = _index(own["ann"])
        return sam.build(
            self.model, input_size=task.input_size, output_size=task.output_size, **own
        )

    def differing(self, other: RunSettings) -> list[str]:
        """The settings, beside name, budget and evaluation, in which another run differs."""
        return list(dict.fromkeys(name.partition(".")[0] for name in self.changes(other)))

    def changes(self, other: RunSettings) -> dict[str, tuple[Any, Any]]:
        """The settings in which another run is not this one, by name: this run's and the other's.

        Its name, budget and evaluation may differ. Within tables the name is "table.setting".
        """
        free = {"name", "minutes", "evaluate", "sequences"}
        if not self.optimizer.cooldown:  # else it follows from the budget
            free.add("episodes")
        own, theirs = plain.flat(self.as_mapping()), plain.flat(other.as_mapping())
        return {
            name: (own.get(name), theirs.get(name))
            for name in own | theirs
            if name not in free and own.get(name) != theirs.get(name)
        }


def check_seed(seed: object) -> None:
    """Raises TypeError or ValueError if it is no seed of a run, or of what is held out."""
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise TypeError(f"seed: got {checks.shown(seed)}, expected an integer in [0, 2^31)")
    if not 0 <= seed < SEEDS:
        raise ValueError(f"seed: got {checks.shown(seed)}, expected an integer in [0, 2^31)")


def check_levels(name: str, levels: Iterable[int], task: Task) -> None:
    """Raises TypeError or ValueError if the task has no such level."""
    for level in levels:
        checks.positive_sizes(**{name: level})
        if task.level_limit is not None and level > task.level_limit:
            raise ValueError(f"{name}: got {level}, expected at most {task.level_limit} of {task}")


def _index(table: Mapping[str, Any]) -> ann_backends.Settings:
    """An index by its name, beside which stand its settings."""
    settings = dict(table)
    if not isinstance(settings.get("name"), str):
        raise ValueError(f"model_settings.ann: got {settings}, expected its name beside settings")
    return ann_backends.resolve(settings.pop("name"), **settings)


def _table(name: str, value: object) -> None:
    if not isinstance(value, Mapping):
        raise TypeError(f"{name}: got {checks.shown(value)}, expected a table of settings")
    plain.check(name, value)


def _nested(name: str, value: Any, kind: Callable[..., Any]) -> Any:
    if dataclasses.is_dataclass(value):
        return value
    _table(name, value)
    _known(name, value, inspect.signature(kind).parameters)
    return kind(**value)


def _known(name: str, values: Iterable[str], known: Iterable[str]) -> None:
    for each in values:
        checks.one_of(name, each, known)
