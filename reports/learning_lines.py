"""What the learning figures share: a line per kind of run, its marks and its legend."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports import models, panels, paper
from reports.models import PALETTE, PAPER

_MARKS = 8  # markers along a line, to tell colours apart without colour
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)))
GUESSING: dict[str, Any] = {
    "color": PALETTE["grey"],
    "linewidth": 1.2,
    "zorder": 1.9,
}


@dataclass(frozen=True)
class Curve:
    """One line of a panel; of `several` names that have the same model the n-th."""

    model: str
    name: str
    number: int = 0
    several: bool = False

    @property
    def label(self) -> str:
        label = models.look(self.model).label
        return f"{label}, {self.name}" if self.several else label

    @property
    def colour(self) -> str:
        return models.look(self.model).colour

    def style(self, points: int = 0) -> dict[str, Any]:
        """Keyword arguments of matplotlib's `plot`, for a line of so many points."""
        look = models.look(self.model)
        order = list(models.LOOKS).index(self.model) if self.model in models.LOOKS else 0
        step = max(points // _MARKS, 1)
        return {
            "color": look.colour,
            "linestyle": _DASHES[self.number % len(_DASHES)],
            "linewidth": 1.5,
            "marker": look.marker,
            # Each model begins elsewhere, so that the markers of close lines do not coincide.
            "markevery": (order * step // 5 % step, step),
            "markersize": 5,
            "markeredgecolor": PAPER,
            "markeredgewidth": 0.5,
            "zorder": 3,
        }


def curves(rows: pd.DataFrame) -> Iterator[Curve]:
    """The lines of one panel, a line per name, by model."""
    pairs = rows[["model", "name"]].drop_duplicates()
    for model in models.in_order(pairs.model):
        names = sorted(pairs[pairs.model == model].name)
        for number, name in enumerate(names):
            yield Curve(model, name, number, len(names) > 1)


def band(panel: Axes, curve: Curve, x: np.ndarray, mean: pd.DataFrame) -> None:
    """One standard deviation to either side, down to zero; nothing of a single seed."""
    sd = mean.sd.to_numpy(float)
    if np.isnan(sd).all():
        return
    middle = mean["mean"].to_numpy(float)
    low, high = (middle - sd).clip(0), middle + sd
    panel.fill_between(x, low, high, color=curve.colour, alpha=0.2, linewidth=0, zorder=2)


def mark_end(panel: Axes, curve: Curve, x: float, y: float, *, diverged: bool) -> None:
    look = models.look(curve.model)
    panel.plot(
        float(x),
        float(y),
        marker="x" if diverged else look.marker or "|",
        markersize=7,
        markeredgewidth=1.6 if diverged or not look.marker else 0.6,
        color=curve.colour,
        markeredgecolor=curve.colour if diverged or not look.marker else PAPER,
        linestyle="",
        zorder=5 if diverged else 4,
        clip_on=False,
    )


def legend(figure: Figure, named: list[Curve], more: list[Line2D] | None = None) -> None:
    by_label = {curve.label: curve for curve in named}
    order = models.in_order(curve.model for curve in named)
    shown = sorted(by_label.values(), key=lambda curve: (order.index(curve.model), curve.number))
    handles = [Line2D([], [], label=curve.label, **curve.style(1)) for curve in shown]
    panels.legend_of(figure, [*handles, *(more or [])])


def title(task: str) -> str:
    return task.replace("_", " ").capitalize()


def unit(task: str) -> str:
    return paper.TASKS[task].unit if task in paper.TASKS else "level"
