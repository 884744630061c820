"""What figures of costs against a size share: one line per model on log axes, named at its end."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports import axes, labels, models, paper, tables, units
from reports.labels import Label
from reports.models import INK, PALETTE, PAPER
from reports.panels import legend_of

TITLE_SIZE = 9.5


def title(panel: Axes, text: str) -> None:
    panel.set_title(text, loc="left", fontsize=TITLE_SIZE, color=INK)


def one_large(small: int) -> tuple[Figure, Axes, list[Axes]]:
    """A figure with one large panel and `small` smaller ones stacked beside it."""
    figure = Figure(figsize=(10.0 if small else 7.0, max(5.0, 2.4 * small)), layout="constrained")
    if not small:
        return figure, figure.add_subplot(), []
    grid = figure.add_gridspec(small, 2, width_ratios=(2.1, 1), wspace=0.06)
    main = figure.add_subplot(grid[:, 0])
    return figure, main, [figure.add_subplot(grid[row, 1]) for row in range(small)]


def draw(
    panel: Axes,
    rows: pd.DataFrame,
    *,
    against: str = "memory_size",
    small: bool = False,
    beside: Mapping[str, str] | None = None,
) -> list[Label]:
    """One line per model on log axes, with the interquartile range as a band; what to name.

    beside: what follows a model's name.
    """
    panel.set_xscale("log", base=2 if against == "memory_size" else 10)
    panel.set_yscale("log")
    plain = tables.measured(rows)
    named: list[Label] = []
    for model in models.in_order(plain.model.dropna()):
        line = plain[plain.model == model].sort_values(against)
        look = models.look(model)
        if model == "lstm" and against == "memory_size" and len(line) == 1:
            value = float(line.value.iloc[0])
            # The LSTM has no memory: a level to compare with, not a line over N.
            panel.axhline(value, color=INK, linestyle=(0, (5, 3)), linewidth=0.9, zorder=1.5)
            named.append(Label(float(plain[against].max()), value, "LSTM, no memory", INK))
            continue
        _line(panel, line, against, look, small)
        x, y = float(line[against].iloc[-1]), float(line.value.iloc[-1])
        named.append(Label(x, y, look.label + (beside or {}).get(model, ""), look.colour))
    if plain.empty:
        _say_empty(panel, rows)
    return [] if small else named


def _line(panel: Axes, line: pd.DataFrame, against: str, look: models.Look, small: bool) -> None:
    x = line[against].to_numpy(dtype=float)
    panel.plot(
        x,
        line.value.to_numpy(dtype=float),
        look.line,
        color=look.colour,
        marker=look.marker,
        markersize=4 if small else 5.5,
        markeredgecolor=PAPER,
        markeredgewidth=0.5,
        linewidth=1.2 if small else 1.7,
        zorder=3,
    )
    low, high = (line[column].to_numpy(dtype=float) for column in ("q25", "q75"))
    panel.fill_between(x, low, high, color=look.colour, alpha=0.22, linewidth=0, zorder=2)


def paper_values(panel: Axes, quantity: str) -> list[Label]:
    """The paper's own points, hollow, in the marker and colour of their model."""
    named = []
    for claim in paper.VALUES:
        if claim.quantity != quantity or claim.paper is None:
            continue
        look = models.look(claim.numerator)
        panel.plot(
            claim.memory_size,
            claim.paper,
            look.marker,
            markersize=8,
            markerfacecolor="none",
            markeredgecolor=look.colour,
            markeredgewidth=1.3,
            zorder=4,
        )
        words = f"paper: {claim.text}"
        named.append(Label(claim.memory_size, claim.paper, words, look.colour, mark=True))
    return named


def paper_ratios(
    panel: Axes, frame: pd.DataFrame, quantity: str, memory: str | None = None
) -> list[Label]:
    """Upright bars between the two sides of each ratio that the paper states, and its number.

    memory: what it holds at first, where that is part of the measurement.
    """
    named = []
    for claim in paper.RATIOS:
        if claim.paper is None or (claim.quantity, claim.memory) != (quantity, memory):
            continue
        pair = tables.pair(tables.measured(frame), claim)
        if isinstance(pair, str):
            continue
        panel.plot(
            [pair.memory_size] * 2,
            [pair.below, pair.above],
            ":",
            color=INK,
            linewidth=1.0,
            zorder=2.5,
        )
        middle = math.sqrt(pair.below * pair.above)
        words = f"{units.ratio(pair.above / pair.below)} (paper: {claim.text})"
        named.append(Label(pair.memory_size, middle, words, INK, mark=True))
    return named


def _say_empty(panel: Axes, rows: pd.DataFrame) -> None:
    counts = rows.status.value_counts()
    words = ", ".join(f"{count} {status}" for status, count in counts.items())
    panel.text(
        0.5,
        0.5,
        f"nothing measured\n({words or 'not run'})",
        transform=panel.transAxes,
        ha="center",
        va="center",
        fontsize=TITLE_SIZE,
        color=PALETTE["grey"],
    )


def finish(
    figure: Figure,
    panels: list[Axes],
    unit: str,
    *,
    against: str = "memory_size",
    named: list[Label] | None = None,
    note: str = "",
) -> None:
    """Axes, ticks and labels, once all is drawn; `named` and `note` are for the first panel."""
    figure.draw_without_rendering()  # lays the panels out: ticks depend on their width
    for panel in panels:
        axes.style(panel)
        axes.set_ticks(panel, unit, against)
        panel.set_xlabel("memory words N" if against == "memory_size" else "sequence length T")
    if note:
        figure.supxlabel(note, x=0.01, ha="left", fontsize=TITLE_SIZE, color=INK)
    figure.draw_without_rendering()
    labels.place(panels[0], named or [])


def legend(figure: Figure, names: list[str]) -> None:
    if not names:
        return
    handles = [
        Line2D(
            [],
            [],
            color=look.colour,
            marker=look.marker,
            linestyle=look.line,  # type: ignore[arg-type]
            markersize=5,
            linewidth=1.4,
            label=look.label,
        )
        for look in map(models.look, names)
    ]
    legend_of(figure, handles)
