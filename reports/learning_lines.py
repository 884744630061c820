"""What the learning figures share: a line per kind of run, its marks and its legend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from reports import learning_curves, models, panels, paper
from reports.models import INK, PALETTE, PAPER

_MARKS = 8  # markers along a line, to tell colours apart without colour
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)))
ZEROED: Any = (0, (4, 2.5))
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


def draw_training(
    panel: Axes, curve: Curve, points: pd.DataFrame, ends: pd.Series, value: str = "cost"
) -> None:
    """`value` of one name's thinned points against episodes: mean, band, seeds that went on."""
    mean = learning_curves.in_training(points, value)
    x, y = mean.episodes.to_numpy(float), mean["mean"].to_numpy(float)
    panel.plot(x, y, **curve.style(len(mean)))
    band(panel, curve, x, mean)
    for run, own in points.groupby("run"):
        # Seeds that went on alone, where there is no mean over all of them any more.
        rest = own[own.stretch >= mean.stretch.max()] if len(mean) else own
        draw_seed(panel, curve, rest.episodes, rest[value])
        if ends[run] == "diverged":
            mark_end(panel, curve, own.episodes.iloc[-1], own[value].iloc[-1], diverged=True)


def draw_seed(panel: Axes, curve: Curve, xs: ArrayLike, ys: ArrayLike) -> None:
    """A thin line of a single seed."""
    x, y = np.asarray(xs, dtype=float), np.asarray(ys, dtype=float)
    panel.plot(x, y, color=curve.colour, linewidth=0.7, alpha=0.55, zorder=2)


def draw_by_level(panel: Axes, curve: Curve, rows: pd.DataFrame, value: str) -> None:
    """`value` of one name's evaluations against the level: means, reads zeroed dashed, seeds."""
    for reads, changes in (
        ("kept", {}),
        ("zeroed", {"linestyle": ZEROED, "linewidth": 1.1, "markerfacecolor": PAPER}),
    ):
        mean = learning_curves.over_seeds(rows[rows.reads == reads], value, "level")
        x, y = mean.level.to_numpy(float), mean["mean"].to_numpy(float)
        edge = {"markeredgecolor": curve.colour, "markeredgewidth": 1.0}
        panel.plot(x, y, **curve.style() | {"markevery": None} | edge | changes)
    # A seed that has not learned the task hides in a mean what the others can do.
    kept = rows[rows.reads == "kept"]
    for _, own in kept.sort_values("level").groupby("run"):
        if kept.run.nunique() > 1:
            draw_seed(panel, curve, own.level, own[value])


def last_episode(points: pd.DataFrame) -> float:
    """Where the axis ends: the LSTM, many times faster, may go on for long after all others."""
    others = points[points.model != "lstm"]
    return float((points if others.empty else others).episodes.max())


def hardest_trained(panel: Axes, hardest: Mapping[Curve, float]) -> None:
    """Dotted lines at the hardest level that any seed was trained on, of each line."""
    for curve, level in hardest.items():
        if pd.isna(level):
            continue
        common = len(set(hardest.values())) == 1
        colour = INK if common else curve.colour
        panel.axvline(float(level), color=colour, linestyle=":", linewidth=1.1, zorder=1.8)


def key_of_marks() -> list[Line2D]:
    """Entries of a legend on what stands beside the lines of models."""
    zeroed = Line2D([], [], color=INK, linestyle=ZEROED, linewidth=1.1, label="reads zeroed")
    limit = Line2D([], [], color=INK, linestyle=":", linewidth=1.1, label="hardest trained on")
    return [zeroed, limit, Line2D([], [], label="guessing", **GUESSING)]


def legend(figure: Figure, named: list[Curve], more: list[Line2D] | None = None) -> None:
    by_label = {curve.label: curve for curve in named}
    order = models.in_order(curve.model for curve in named)
    shown = sorted(by_label.values(), key=lambda curve: (order.index(curve.model), curve.number))
    handles = [Line2D([], [], label=curve.label, **curve.style(1)) for curve in shown]
    panels.legend_of(figure, [*handles, *(more or [])])


def title(task: str) -> str:
    if task == paper.BABI:
        return "bAbI"
    words = task.replace("_", " ")
    return words[:1].upper() + words[1:]


def unit(task: str) -> str:
    if task == paper.OMNIGLOT:
        return "characters"
    return paper.TASKS[task].unit if task in paper.TASKS else "level"
