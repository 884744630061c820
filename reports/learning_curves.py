"""Learning curves: thinned, averaged over seeds, and when they first were good enough."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from reports import runs
from reports.runs import Runs

MOST_POINTS = 200  # of a run's curve
SOLVED = 0.1  # wrong bits per sequence
_MEANS = ["loss", "cost", "errors"]


def thinned(lines: pd.DataFrame) -> pd.DataFrame:
    """At most `MOST_POINTS` points per run: means over consecutive stretches of episodes.

    Stretches are of one width for all runs of a name, so that seeds can be compared point by
    point. Columns of `runs.LINE_COLUMNS` and `stretch`, which counts from 0; episodes, seconds
    and level are those at a stretch's end.
    """
    parts = [_stretches(group) for _, group in lines.groupby("name", sort=False)]
    columns = [*runs.LINE_COLUMNS, "stretch"]
    return pd.concat(parts)[columns] if parts else pd.DataFrame(columns=columns)


def _stretches(group: pd.DataFrame) -> pd.DataFrame:
    """The lines of one name's runs, thinned."""
    spacing, longest = int(group.episodes.min()), int(group.episodes.max())
    width = math.ceil(longest / spacing / MOST_POINTS) * spacing
    before = group.groupby("run").episodes.shift(fill_value=0)
    share = (group.episodes - before).astype(float)
    marked = group.assign(stretch=-(-group.episodes // width) - 1, share=share)
    marked[_MEANS] = marked[_MEANS].mul(share, axis=0)
    ends = ["episodes", "seconds", "data_seconds", "model_seconds", "level"]
    kinds = dict.fromkeys([*_MEANS, "share"], "sum") | dict.fromkeys(ends, "last")
    which = ["run", "name", "task", "model", "seed"]
    found = marked.groupby([*which, "stretch"], sort=False, dropna=False).agg(kinds).reset_index()
    found[_MEANS] = found[_MEANS].div(found.share, axis=0)
    return found


def over_seeds(points: pd.DataFrame, value: str, against: str) -> pd.DataFrame:
    """Mean and standard deviation of `value` over the runs of one name, by `against`.

    Columns `against`, mean, sd (NaN of one run), seeds; a row where every run has a point, so that
    no run that ends early moves the mean.
    """
    grouped = points.groupby(against)[value]
    found = grouped.agg(mean="mean", sd="std", seeds="count").reset_index()
    return found[found.seeds == points.run.nunique()].reset_index(drop=True)


def in_training(points: pd.DataFrame, value: str = "cost") -> pd.DataFrame:
    """As `over_seeds`, of `value` of one name's thinned points, with `episodes`."""
    found = over_seeds(points, value, "stretch")
    return found.assign(episodes=found.stretch.map(points.groupby("stretch").episodes.max()))


def levels(lines: pd.DataFrame) -> pd.DataFrame:
    """The mean over one name's runs of the highest level reached, by `episodes`.

    A row wherever that changes, and at the end. A run that has ended counts with the level that it
    reached.
    """
    wide = lines.pivot_table("level", "episodes", "run").astype(float).ffill()
    mean = wide.dropna().mean(axis=1)
    changed = mean.ne(mean.shift())
    changed.iloc[-1] = True
    return mean[changed].rename("level").reset_index()


def first_solved(found: Runs) -> pd.Series:
    """Run -> episodes of its first line under `SOLVED` wrong bits, NA where there is none.

    With a curriculum only lines count before which it had reached the hardest level of the task.
    """
    lines = found.lines
    highest = lines.groupby("run")["level"].shift()
    needed = lines.run.map({run: _hardest(own) for run, own in found.settings.items()})
    counted = needed.isna() | (highest >= needed).fillna(False)
    solving = lines[(lines.errors < SOLVED) & counted]
    return solving.groupby("run").episodes.first().reindex(found.runs.run)


def _hardest(settings: runs.Settings) -> float:
    """The level that a curriculum has to reach, NaN without one."""
    curriculum: dict[str, Any] = settings.get("curriculum") or {}
    if not curriculum:
        return np.nan
    level = runs.bounds(settings["task"], settings)[1] or curriculum.get("end")
    return float(level) if level else np.inf
