"""bAbI: error by task beside the paper's, and the curves of training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator

from reports import (
    answers,
    babi_results,
    learning_axes,
    learning_curves,
    panels,
    paper_babi,
)
from reports.learning_lines import Curve, curves, draw_training, last_episode, legend
from reports.models import INK, PAPER
from reports.runs import Runs

# In inches: of a panel, at least and at most, of all of them, and of the tasks' names.
NARROWEST, WIDEST, WIDTH, NAMES, HEIGHT = 1.45, 4.0, 8.8, 2.2, 6.0
_TICKS = (0, 2, 5, 10, 20, 50)
_LIMIT: dict[str, Any] = {"color": INK, "linestyle": ":", "linewidth": 1.1, "zorder": 1.8}
_OURS: dict[str, Any] = {"marker": "o", "linestyle": "", "markersize": 5.5, "zorder": 4}
_SEED: dict[str, Any] = {"marker": "|", "linestyle": "", "markersize": 7, "alpha": 0.7, "zorder": 3}
_THEIRS: dict[str, Any] = {
    "marker": "o",
    "linestyle": "",
    "markersize": 8,
    "markerfacecolor": "none",
    "markeredgecolor": INK,
    "markeredgewidth": 1.0,
    "zorder": 5,
}


def babi(found: Runs) -> Figure:
    """Test error of each bAbI task, one panel per kind of run, beside the paper's best run."""
    rows = answers.kept(babi_results.results(found), "test")
    named = babi_results.curves(rows)
    width = min(max(WIDTH / len(named), NARROWEST), WIDEST)
    size = (NAMES + width * len(named), HEIGHT)
    figure = Figure(figsize=size, layout="constrained")
    (drawn,) = figure.subplots(1, len(named), squeeze=False, sharey=True)
    for panel, curve in zip(drawn, named, strict=True):
        _draw_tasks(panel, curve, rows[rows.name == curve.name])
        # The name of a run stands below its model's, for the panels are narrow.
        panels.finish(panel, curve.label.replace(", ", "\n", 1))
        panel.tick_params(axis="y", length=0)
        _error_axis(panel)
    _task_axis(drawn[0])
    handles = [
        Line2D([], [], color=INK, label="best run here, by validation", **_OURS),
        Line2D([], [], label="the paper's best run", **_THEIRS),
        Line2D([], [], label=f"{paper_babi.FAILED:g} %: failed beyond", **_LIMIT),
    ]
    if rows.groupby("name").run.nunique().max() > 1:
        handles.insert(1, Line2D([], [], color=INK, label="other seeds", **_SEED))
    panels.legend_of(figure, handles)
    return figure


def babi_training(found: Runs) -> Figure:
    """Cost and wrong answers of bAbI's training stories against episodes."""
    own = babi_results.of_babi(found)
    points = learning_curves.thinned(own.lines)
    ends = own.runs.set_index("run").end
    figure, (drawn,) = panels.grid(1, 2, height=3.3)
    named = list(curves(points))
    for panel, value, title in ((drawn[0], "cost", "Cost"), (drawn[1], "errors", "Wrong answers")):
        for curve in named:
            draw_training(panel, curve, points[points.name == curve.name], ends, value)
        panels.finish(panel, f"{title}, training stories of all tasks")
        learning_axes.episodes(panel, last_episode(points))
    learning_axes.bits(drawn[0])
    drawn[0].set_ylabel("cost per story, bits")
    drawn[1].set_ylim(bottom=0)
    drawn[1].set_ylabel("wrong answers per story")
    legend(figure, named)
    return figure


FIGURES: dict[str, Callable[[Runs], Figure]] = {"babi": babi, "babi_training": babi_training}


def has_data(found: Runs, name: str) -> bool:
    """Whether there is anything that a figure of `FIGURES` could draw."""
    if name == "babi":
        return not answers.kept(babi_results.results(found), "test").empty
    return not babi_results.of_babi(found).lines.empty


def _draw_tasks(panel: Axes, curve: Curve, rows: pd.DataFrame) -> None:
    ours = rows[rows.best_run].set_index("task").error_percent
    others = rows[~rows.best_run].set_index("task").error_percent
    theirs = _paper(babi_results.family(curve.model))
    for task in ours.index.intersection(theirs.index):
        ends = [ours[task], theirs[task]]
        panel.plot(ends, [task, task], color=curve.colour, linewidth=0.8, alpha=0.6, zorder=2)
    filled = {"color": curve.colour, "markeredgecolor": PAPER, "markeredgewidth": 0.5, **_OURS}
    for errors, style in (
        (others, {"color": curve.colour, **_SEED}),
        (ours, filled),
        (theirs, _THEIRS),
    ):
        if len(errors):
            x, y = errors.to_numpy(float), errors.index.to_numpy(float)
            panel.plot(x, y, clip_on=False, **style)
    panel.axvline(paper_babi.FAILED, **_LIMIT)


def _paper(model: str) -> pd.Series:
    """The errors of the paper's best run by task, none of a model that it does not have."""
    if model not in paper_babi.models():
        return pd.Series(dtype=float)
    best = paper_babi.by_model(model).best
    return pd.Series({task: best[str(task)] for task in paper_babi.TASKS})


def _error_axis(panel: Axes) -> None:
    """Per cent to the right: linear as far as a task counts as solved, logarithmic beyond."""
    panel.set_xscale("symlog", linthresh=paper_babi.FAILED, linscale=0.6)
    panel.set_xlim(0, 100)
    panel.xaxis.set_major_locator(FixedLocator(_TICKS))
    panel.xaxis.set_major_formatter(FixedFormatter([f"{tick}" for tick in _TICKS]))
    panel.xaxis.set_minor_locator(FixedLocator([]))
    panel.set_xlabel("test error, %")


def _task_axis(panel: Axes) -> None:
    """The tasks downward, by number and name, for all panels of the figure."""
    panel.set_ylim(len(paper_babi.TASKS) + 0.6, 0.4)
    panel.yaxis.set_major_locator(FixedLocator(list(paper_babi.TASKS)))
    names = [f"{name}  {task}" for task, name in paper_babi.TASKS.items()]
    panel.yaxis.set_major_formatter(FixedFormatter(names))
