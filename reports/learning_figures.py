"""The paper's Figures 2, 3 and 8: learning, the curriculum, and generalisation."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports import axes, learning_axes, learning_curves, learning_tables, panels, paper
from reports.learning_lines import (
    GUESSING,
    Curve,
    curves,
    draw_by_level,
    draw_training,
    hardest_trained,
    key_of_marks,
    last_episode,
    legend,
    mark_end,
    title,
    unit,
)
from reports.models import INK
from reports.runs import Runs

GENERALISATION = "associative_recall"


def figure_2(found: Runs) -> Figure:
    """Cost per sequence against episodes, one panel per task, in training."""
    lines, ends = _training(found, beyond=False)
    tasks = learning_tables.tasks(lines)
    figure, (drawn,) = panels.grid(1, len(tasks), height=3.3)
    named: list[Curve] = []
    for panel, task in zip(drawn, tasks, strict=True):
        points = learning_curves.thinned(lines[lines.task == task])
        for curve in curves(points):
            named.append(curve)
            own = points[points.name == curve.name]
            draw_training(panel, curve, own, ends)
        _chance(panel, found.evaluations[found.evaluations.run.isin(points.run)])
        panels.finish(panel, title(task))
        learning_axes.bits(panel)
        learning_axes.episodes(panel, last_episode(points))
    drawn[0].set_ylabel("cost per sequence, bits")
    legend(figure, named)
    return figure


def figure_3(found: Runs) -> Figure:
    """Highest level that the curriculum has reached against episodes, one panel per task."""
    lines, ends = _training(found, beyond=True)
    tasks = learning_tables.tasks(lines)
    figure, (drawn,) = panels.grid(1, len(tasks), height=3.4)
    named: list[Curve] = []
    for panel, task in zip(drawn, tasks, strict=True):
        rows = lines[lines.task == task]
        for curve in curves(rows):
            named.append(curve)
            _draw_levels(panel, curve, rows[rows.name == curve.name], ends)
        panels.finish(panel, title(task))
        learning_axes.logarithmic(panel)
        panel.set_xlabel("episodes")
        panel.set_ylabel(f"highest level, {unit(task)}")
    legend(figure, named, _end_marks(set(ends)))
    return figure


def figure_8(found: Runs) -> Figure:
    """Cost and wrong bits of associative recall against the number of pairs, beyond training."""
    rows, runs = _generalisation(found)
    figure, (drawn,) = panels.grid(1, 2, height=3.6)
    named = list(curves(rows))
    chance = rows.groupby("level").chance.first()
    for panel, value, guess in zip(drawn, ("cost", "errors"), (chance, chance / 2), strict=True):
        for curve in named:
            own = rows[rows.name == curve.name]
            draw_by_level(panel, curve, own, value)
        panel.plot(list(map(float, guess.index)), guess.to_numpy(float), **GUESSING)
        panels.finish(panel, f"{title(GENERALISATION)}: {_WORDS[value]}")
        hardest_trained(panel, _hardest(runs, named))
        learning_axes.bits(panel)
        learning_axes.levels(panel, map(float, rows.level))
        panel.set_xlabel(f"{unit(GENERALISATION)} in the sequence")
    drawn[0].set_ylabel("bits per sequence")
    legend(figure, named, key_of_marks())
    return figure


FIGURES: dict[str, Callable[[Runs], Figure]] = {
    "figure_2": figure_2,
    "figure_3": figure_3,
    "figure_8": figure_8,
}
_WORDS = {"cost": "cost", "errors": "wrong bits"}


def has_data(found: Runs, name: str) -> bool:
    """Whether there is anything that a figure of `FIGURES` could draw."""
    if name == "figure_8":
        return not _generalisation(found)[0].empty
    return not _training(found, beyond=name == "figure_3")[0].empty


def _training(found: Runs, *, beyond: bool) -> tuple[pd.DataFrame, pd.Series]:
    """Lines of the runs whose curriculum goes beyond the paper's task, or of the others; ends.

    bAbI is in neither figure, Omniglot only with a curriculum, to which the paper sets no end.
    """
    apart = [paper.BABI] if beyond else paper.ANSWER_TASKS
    runs = found.runs[(found.runs.beyond == beyond) & ~found.runs.task.isin(apart)].set_index("run")
    lines = found.lines[found.lines.run.isin(runs.index)]
    return (lines[lines.level.notna()] if beyond else lines), runs.end


def _draw_levels(panel: Axes, curve: Curve, lines: pd.DataFrame, ends: pd.Series) -> None:
    mean = learning_curves.levels(lines)
    style = curve.style() | {"marker": "", "linewidth": 2.0}
    panel.step(mean.episodes.to_numpy(float), mean.level.to_numpy(float), where="post", **style)
    for run, own in lines.groupby("run"):
        if lines.run.nunique() > 1:
            panel.step(
                own.episodes.to_numpy(float),
                own.level.to_numpy(float),
                where="post",
                color=curve.colour,
                linewidth=0.7,
                alpha=0.55,
                zorder=2,
            )
        last = own.iloc[-1]
        mark_end(panel, curve, last.episodes, last.level, diverged=ends[run] == "diverged")


def _generalisation(found: Runs) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Evaluations and runs of Figure 8: those whose curriculum goes on, if there are any."""
    rows = found.evaluations[found.evaluations.task == GENERALISATION]
    runs = found.runs[found.runs.run.isin(rows.run)]
    if runs.beyond.any():
        runs = runs[runs.beyond]
    return rows[rows.run.isin(runs.run)], runs


def _hardest(runs: pd.DataFrame, named: list[Curve]) -> dict[Curve, float]:
    return {curve: runs[runs.name == curve.name].level.max() for curve in named}


def _chance(panel: Axes, evaluations: pd.DataFrame) -> None:
    """What guessing costs, of a task where that is the same at several levels."""
    chances = evaluations.chance.dropna().unique()
    if len(chances) == 1 and evaluations.level.nunique() > 1:
        panel.axhline(float(chances[0]), **GUESSING)
        panel.annotate(
            "guessing",
            (1.0, float(chances[0])),
            xycoords=("axes fraction", "data"),
            xytext=(-2, 3),
            textcoords="offset points",
            ha="right",
            fontsize=axes.LABEL_SIZE - 1,
            color=INK,
        )


def _end_marks(ends: set[str]) -> list[Line2D]:
    """What stands at the end of a run."""
    shown = [("o", "a run's end", ends != {"diverged"}), ("x", "diverged", "diverged" in ends)]
    return [
        Line2D([], [], color=INK, marker=marker, linestyle="", markersize=6, label=label)
        for marker, label, there in shown
        if there
    ]
