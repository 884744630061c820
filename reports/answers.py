"""Held-out errors of tasks that count answers, and what the runs behind them took."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from reports import learning_lines, units
from reports.runs import Runs

SPLITS = ("validation", "test")


def evaluated(found: Runs) -> pd.DataFrame:
    """Evaluations on held-out splits with `error`, the share of the answers that are wrong.

    Of a run that went on after it had been evaluated, those of its latest state alone.
    """
    rows = found.evaluations[found.evaluations.split.isin(SPLITS)]
    latest = rows.groupby("run").episodes.transform("max")
    rows = rows[rows.episodes.eq(latest).fillna(False)]
    return rows.assign(error=rows.errors / rows.scored)


def kept(rows: pd.DataFrame, split: str) -> pd.DataFrame:
    """The rows of one split, of models that read their memory as they were trained to."""
    return rows[(rows.split == split) & (rows.reads == "kept")]


def best_run(rows: pd.DataFrame, validated: pd.DataFrame) -> str | None:
    """Of one name's runs the one with the lowest mean error on the validation split.

    rows: of `evaluated`. validated: those of its validation rows that count. Only runs with most
    levels, on test as well, are compared. A run without rivals needs no validation; None if there
    is no telling.
    """
    candidates = complete(kept(rows, "test"))
    if len(candidates) == 1 and rows.run.nunique() == 1:
        return candidates[0]
    known = validated[validated.run.isin(candidates)]
    means = known[known.run.isin(complete(known))].groupby("run").error.mean()
    return str(means.idxmin()) if len(means) else None


def complete(rows: pd.DataFrame) -> list[str]:
    """The runs of which no other has more rows."""
    counts = rows.groupby("run").size()
    return [str(run) for run in counts.index[counts == counts.max()]]


class Effort(NamedTuple):
    """What the runs of one name took, up to their evaluation if there is one; as text."""

    seeds: str
    episodes: str
    hours: str
    ended: str


def effort(found: Runs, own: pd.DataFrame) -> Effort:
    """own: rows of `found.runs`."""
    last = evaluated(found).groupby("run").episodes.max()
    table = pd.DataFrame([_effort(found, run, last.get(run.run)) for _, run in own.iterrows()])
    done, seeds = int(table.evaluated.sum()), len(table)
    ends = table.end.value_counts(sort=False)
    return Effort(
        str(seeds) if done == seeds else f"{done} of {seeds}",
        _range([units.size(value) for value in sorted(table.episodes)]),
        _range([units.significant(value, 2) for value in sorted(table.hours)]),
        ", ".join(f"{count} {end}" for end, count in ends.items()),
    )


def outside_the_model(found: Runs) -> str:
    """A sentence on the share of the training's time that the models did not take, by kind of run.

    Of lines that say so; "" if there are none.
    """
    said = []
    for curve in learning_lines.curves(found.runs):
        shares = [
            _shares(own)
            for _, own in found.lines[found.lines.name == curve.name].groupby("run")
            if own[own.model_seconds.notna()].seconds.nunique() > 1
        ]
        if shares:
            data, outside = np.mean(shares, axis=0)
            said.append(f"{curve.label} {data:.1%} and {outside:.1%}".replace("%", " %"))
    if not said:
        return ""
    return (
        "Share of the training's time that went into drawing the data, and into all that is not a "
        f"model's forward and backward pass: {'; '.join(said)}."
    )


def _shares(lines: pd.DataFrame) -> tuple[float, float]:
    """Of one run's time drawing data, and outside the model, between its first and last such line.

    A run may have begun with a version that did not record this.
    """
    known = lines[lines.model_seconds.notna()]
    names = ["seconds", "data_seconds", "model_seconds"]
    total, data, model = (known[names].iloc[-1] - known[names].iloc[0]).astype(float)
    return data / total, 1 - model / total


def _effort(found: Runs, run: pd.Series, evaluated_at: int | None) -> dict[str, Any]:
    episodes = int(run.episodes if evaluated_at is None else evaluated_at)
    lines = found.lines[(found.lines.run == run.run) & (found.lines.episodes <= episodes)]
    seconds = lines.seconds.max() if len(lines) else run.minutes * 60
    end = str(run.end)
    if end == "unfinished":
        budget = found.settings[run.run].get("episodes")
        of = f" of {units.size(budget)}" if budget else ""
        end = f"stopped at {units.size(episodes)}{of} episodes"
    return {
        "evaluated": evaluated_at is not None,
        "episodes": episodes,
        "hours": seconds / 3600,
        "end": end,
    }


def _range(texts: list[str]) -> str:
    """From the first to the last."""
    return texts[0] if texts[0] == texts[-1] else f"{texts[0]} to {texts[-1]}"
