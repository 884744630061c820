"""A study: recipes, each of which is run with some seeds, as a TOML file or flags give them."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import sam
from sam.commands.options import merged
from sam.models import settings_of
from sam.tasks import TASKS
from sam.training import RunSettings

Table = dict[str, Any]


def grid(models: Sequence[str], tasks: Sequence[str], anns: Sequence[str]) -> list[Table]:
    """A recipe for every model, task and, where the model has one, index."""
    recipes: list[Table] = []
    for task in tasks:
        for model in models:
            indexes = anns if "ann" in _settings_of_model(model) else ()
            tables = [{"model_settings": {"ann": ann}} for ann in indexes] or [{}]
            recipes += [{"model": model, "task": task, **table} for table in tables]
    return recipes


def runs_of(study: Mapping[str, Any], above: Mapping[str, Any]) -> list[RunSettings]:
    """Every recipe with each of its seeds.

    study: `runs`, the recipes, tables of settings; and settings for all of them, of which each
    takes those that its model and task have, and those of its own count more. `seeds`, a list, is
    one of them, by default [0]. above: settings for all recipes that count more than their own. A
    recipe without a name is called task/model, or task/model-index.

    Raises ValueError or TypeError for what is unknown, missing, out of range or used by none.
    """
    recipes = study.get("runs")
    if not isinstance(recipes, list) or not all(isinstance(each, Mapping) for each in recipes):
        raise TypeError(f"runs: got {recipes!r}, expected tables [[runs]]")
    for table in (study, above, *recipes):
        if "seed" in table:
            raise ValueError(f"seed: got {table['seed']!r}, expected seeds, a list")
    shared = {name: value for name, value in study.items() if name != "runs"}
    complete = [_complete(shared, dict(recipe), dict(above)) for recipe in recipes]
    _check_used(shared, complete)
    _check_used(above, complete)
    return [
        RunSettings.of({**recipe, "seed": seed})
        for recipe in complete
        for seed in _seeds(recipe.pop("seeds", [0]))
    ]


def _complete(shared: Table, own: Table, above: Table) -> Table:
    known = _known(merged(shared, own))
    settings = merged(merged(_fitting(shared, known), own), _fitting(above, known))
    return {**settings, "name": settings.get("name") or _default_name(settings)}


def _default_name(settings: Table) -> str:
    ann = settings.get("model_settings", {}).get("ann", "exact")
    if isinstance(ann, Mapping):
        ann = ann.get("name")
    has_index = "ann" in _settings_of_model(settings["model"])
    return f"{settings['task']}/{settings['model']}" + (f"-{ann}" if has_index else "")


def _known(settings: Table) -> dict[str, Collection[str]]:
    """What settings there are for the model and the task of a recipe."""
    for name, kinds in (("model", sam.MODELS), ("task", TASKS)):
        if settings.get(name) not in kinds:
            raise ValueError(
                f"{name}: got {settings.get(name)!r}, expected one of {', '.join(kinds)}"
            )
    task: Any = TASKS[settings["task"]]
    return {
        "model_settings": _settings_of_model(settings["model"]),
        "task_settings": [field.name for field in dataclasses.fields(task)],
    }


def _settings_of_model(model: str) -> list[str]:
    return settings_of(sam.MODELS[model]) if model in sam.MODELS else []


def _fitting(settings: Table, known: Mapping[str, Collection[str]]) -> Table:
    """The settings without those that the recipe's model or task does not have."""
    fitting = {name: value for name, value in settings.items() if name not in known}
    for table in known.keys() & settings.keys():
        fitting[table] = {
            name: value for name, value in settings[table].items() if name in known[table]
        }
    return fitting


def _check_used(settings: Mapping[str, Any], recipes: Iterable[Table]) -> None:
    for table in ("model_settings", "task_settings"):
        for name in settings.get(table, {}):
            if all(name not in recipe.get(table, {}) for recipe in recipes):
                raise ValueError(f"{table}.{name}: got one, expected a setting of some recipe's")


def _seeds(seeds: Any) -> list[int]:
    if not isinstance(seeds, list) or not seeds:
        raise TypeError(f"seeds: got {seeds!r}, expected a list of integers")
    return seeds
