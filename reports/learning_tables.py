"""Derived tables of training runs: how they ended, and how they were set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from reports import learning_curves, models, paper, runs
from reports.runs import Runs

RESULT_COLUMNS = (
    *("task", "name", "model", "beyond", "seeds", "episodes", "minutes"),
    *("highest_level", "highest_level_least", "highest_level_most"),
    *("level", "evaluated", "wrong_bits", "wrong_bits_best", "wrong_bits_worst", "cost"),
    *("wrong_bits_zeroed", "cost_zeroed", "chance"),
    *("all_levels", "all_levels_best", "all_levels_worst"),
    *("solved", "solved_episodes_first", "solved_episodes_last", "ends"),
)
SETTING_COLUMNS = ("task", "name", "model", "setting", "value", "paper")
# Of a run's settings those that say which run it is, not how it was trained.
_NOT_SETTINGS = {"name", "task", "model", "seed", "versions", "commit", "machine"}


def of_bits(found: Runs) -> Runs:
    """The runs of tasks whose errors are wrong bits, half of which guessing avoids."""
    return runs.of_tasks(found, lambda task: task not in paper.ANSWER_TASKS)


def results(found: Runs) -> pd.DataFrame:
    """A row per name, columns `RESULT_COLUMNS`: means over its seeds.

    What is on wrong bits and on when they were few holds for tasks of bits (`of_bits`) alone.
    level: of the evaluation, the hardest evaluated up to that of the task (up to the hardest that
    every seed reached, of a curriculum that goes beyond). evaluated: how many seeds were;
    wrong_bits, cost, chance: per held-out sequence, best and worst of the seeds, and with reads
    zeroed. all_levels: wrong bits as a mean over all levels of the task, if each was evaluated.
    solved: how many seeds came under `learning_curves.SOLVED` in training, and after how
    many episodes the first and the last of them.
    """
    solved = learning_curves.first_solved(found)
    rows = [_result(found, own, solved) for own in _named(found.runs)]
    return pd.DataFrame(rows, columns=list(RESULT_COLUMNS))


def _result(found: Runs, own: pd.DataFrame, solved: pd.Series) -> dict[str, Any]:
    first = own.iloc[0]
    episodes = solved[own.run].dropna()
    return {
        "task": first.task,
        "name": first["name"],
        "model": first.model,
        "beyond": first.beyond,
        "seeds": len(own),
        "episodes": own.episodes.mean(),
        "minutes": own.minutes.mean(),
        "highest_level": own.level.mean(),
        "highest_level_least": own.level.min(),
        "highest_level_most": own.level.max(),
        **_held_out(found, own),
        "solved": len(episodes),
        "solved_episodes_first": episodes.min() if len(episodes) else pd.NA,
        "solved_episodes_last": episodes.max() if len(episodes) else pd.NA,
        "ends": ", ".join(f"{count} {end}" for end, count in own.end.value_counts().items()),
    }


def _held_out(found: Runs, own: pd.DataFrame) -> dict[str, Any]:
    """What one name's runs do on held-out sequences of one level."""
    rows = found.evaluations[found.evaluations.run.isin(own.run)]
    if rows.empty:
        return {"evaluated": 0}
    level = _evaluated_level(found, own, rows)
    here = rows[rows.level == level]
    kept, zeroed = (here[here.reads == reads] for reads in ("kept", "zeroed"))
    return {
        "level": level,
        "evaluated": len(kept),
        "wrong_bits": kept.errors.mean(),
        "wrong_bits_best": kept.errors.min(),
        "wrong_bits_worst": kept.errors.max(),
        "cost": kept.cost.mean(),
        "wrong_bits_zeroed": zeroed.errors.mean(),
        "cost_zeroed": zeroed.cost.mean(),
        "chance": kept.chance.mean(),
        **_over_all_levels(found, own, rows[rows.reads == "kept"]),
    }


def _over_all_levels(found: Runs, own: pd.DataFrame, kept: pd.DataFrame) -> dict[str, Any]:
    """The wrong bits of a task whose levels, all alike likely, have all been evaluated."""
    first = own.iloc[0]
    easiest, hardest = runs.bounds(first.task, found.settings[first.run])
    if easiest is None or hardest is None:
        return {}
    here = kept[kept.level.between(easiest, hardest)].groupby("run")
    complete = here["level"].nunique() == hardest - easiest + 1
    means = here["errors"].mean()[complete]
    if means.empty:
        return {}
    return {
        "all_levels": means.mean(),
        "all_levels_best": means.min(),
        "all_levels_worst": means.max(),
    }


def _evaluated_level(found: Runs, own: pd.DataFrame, rows: pd.DataFrame) -> int:
    first = own.iloc[0]
    aim = own.level.min()
    if not first.beyond:
        aim = runs.bounds(first.task, found.settings[first.run])[1]
    levels = sorted(set(map(int, rows.level)))
    if aim is None or pd.isna(aim):
        return levels[-1]
    return max((level for level in levels if level <= aim), default=levels[0])


def settings(found: Runs) -> pd.DataFrame:
    """A row per name and setting of its run.json, beside the paper's; columns `SETTING_COLUMNS`."""
    rows = []
    for own in _named(found.runs):
        first = own.iloc[0]
        answers = first.task in paper.ANSWER_TASKS  # of whose settings the paper says nothing
        given = {
            name: value
            for name, value in found.settings[first.run].items()
            if name not in _NOT_SETTINGS
        }
        rows += [
            {
                "task": first.task,
                "name": first["name"],
                "model": first.model,
                "setting": setting,
                "value": value,
                "paper": None if answers else paper.TRAINING.get(setting),
            }
            for setting, value in _flat(given)
        ]
    return pd.DataFrame(rows, columns=list(SETTING_COLUMNS))


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Dotted names and their values, those that are not given left out."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif value is not None and value != []:
            yield f"{prefix}{name}", value


def _named(rows: pd.DataFrame) -> list[pd.DataFrame]:
    """The runs of each name, by task, model and name in the order of the page."""
    order = models.in_order(rows.model)
    ranked = rows.assign(
        task_rank=rows.task.map(tasks(rows).index), rank=rows.model.map(order.index)
    )
    ranked = ranked.sort_values(["beyond", "task_rank", "rank", "name", "seed"], kind="stable")
    return [group for _, group in ranked.groupby("name", sort=False)]


def tasks(rows: pd.DataFrame) -> list[str]:
    """The tasks of `rows`: the paper's in its order, then others by name."""
    known = list(paper.TASKS)
    return sorted(
        set(rows.task), key=lambda task: (known.index(task) if task in known else len(known), task)
    )
