"""The report's figures: each a function from the tidy table to a matplotlib figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports import axes, labels, models, paper, tables, units
from reports.labels import Label
from reports.models import INK, PALETTE, PAPER

TITLE_SIZE = 9.5
LABEL_SIZE = 8.5
_RECALL_DATA = ("random", "clustered")
_RECALL_NOTE = "beside a name: recall@4 of the index, random / clustered rows (?: not measured)"


def figure_1a(frame: pd.DataFrame) -> Figure:
    """Time of one step against N: T = 1 large, the other lengths small beside it."""
    rows = frame[frame.quantity == "step_time"]
    several = tables.measured(rows).groupby("sequence_length").memory_size.nunique() > 1
    lengths = sorted({1, *map(int, several[several].index)})
    others = [(rows[rows.sequence_length == length], f"T = {length}") for length in lengths[1:]]
    figure, main, small = _one_large(len(others))
    recalls = _recalls(frame)
    alone = rows[rows.sequence_length == 1]
    named = _draw(main, alone, marks="step_time", beside=recalls)
    main.set_title("One step alone, T = 1", loc="left", fontsize=TITLE_SIZE, color=INK)
    main.set_ylabel("forward and backward, per step")
    for panel, (part, title) in zip(small, others, strict=True):
        _draw(panel, part, small=True)
        panel.set_title(f"Per step of a pass, {title}", loc="left", fontsize=TITLE_SIZE, color=INK)
    _finish(figure, [main, *small], "seconds", named=named, note=_RECALL_NOTE if recalls else "")
    return figure


def figure_1b(frame: pd.DataFrame) -> Figure:
    """Memory of training over 100 steps against N; beside it, small, that of initialisation."""
    figure, main, (panel,) = _one_large(1)
    named = _draw(main, frame[frame.quantity == "training_peak"], marks="training_peak")
    main.set_title("Physical peak of training, T = 100", loc="left", fontsize=TITLE_SIZE, color=INK)
    main.set_ylabel("memory beyond initialisation")
    _draw(panel, frame[frame.quantity == "initial_memory"], small=True)
    panel.set_title("Initialisation", loc="left", fontsize=TITLE_SIZE, color=INK)
    _finish(figure, [main, panel], "bytes", named=named)
    return figure


def sequence_time(frame: pd.DataFrame) -> Figure:
    """Time of a pass against its length T, one panel per memory size."""
    rows = frame[frame.quantity == "sequence_time"]
    # The LSTM has no memory: its line is drawn in every panel and asks for none of its own.
    memories = rows[rows.model != "lstm"]
    sizes = sorted(set(map(int, (rows if memories.empty else memories).memory_size.dropna())))
    count = max(len(sizes), 1)
    figure = Figure(figsize=(max(3.0 * count, 4.6) + 0.4, 3.9), layout="constrained")
    panels = list(figure.subplots(1, count, sharey=True, squeeze=False)[0])
    for panel, size in zip(panels, sizes or [0], strict=True):
        part = rows[(rows.memory_size == size) | (rows.model == "lstm")]
        _draw(panel, part, against="sequence_length", small=True)
        title = f"N = {units.short_size(size)}" if sizes else ""
        panel.set_title(title, loc="left", fontsize=TITLE_SIZE, color=INK)
    panels[0].set_ylabel("one forward and backward pass")
    _finish(figure, panels, "seconds", against="sequence_length")
    _legend(figure, models.in_order(tables.measured(rows).model.dropna()))
    return figure


FIGURES: dict[str, Callable[[pd.DataFrame], Figure]] = {
    "figure_1a": figure_1a,
    "figure_1b": figure_1b,
    "sequence_time": sequence_time,
}


def _one_large(small: int) -> tuple[Figure, Axes, list[Axes]]:
    """A figure with one large panel and `small` smaller ones stacked beside it."""
    figure = Figure(figsize=(10.0 if small else 7.0, max(5.0, 2.4 * small)), layout="constrained")
    if not small:
        return figure, figure.add_subplot(), []
    grid = figure.add_gridspec(small, 2, width_ratios=(2.1, 1), wspace=0.06)
    main = figure.add_subplot(grid[:, 0])
    return figure, main, [figure.add_subplot(grid[row, 1]) for row in range(small)]


def _draw(
    panel: Axes,
    rows: pd.DataFrame,
    *,
    against: str = "memory_size",
    small: bool = False,
    marks: str | None = None,
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
    if marks:
        named += _paper_marks(panel, marks)
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


def _recalls(frame: pd.DataFrame) -> dict[str, str]:
    """What is written beside an approximate index's name: its recall where N is largest."""
    rows = frame[(frame.quantity == "backend_recall") & (frame.status == "measured")]
    drawn = tables.measured(frame[frame.quantity == "step_time"])
    words = {}
    for model in set(filter(models.is_sam, drawn.model.dropna())) - {"sam-exact"}:
        own = rows[rows.backend == models.backend_of(model)]
        size = own.memory_size.max()
        found = own[own.memory_size == size].set_index("data").value
        if found.empty:
            words[model] = " (recall ?)"
            continue
        numbers = " / ".join(
            f"{found[kind]:.2f}" if kind in found else "-" for kind in _RECALL_DATA
        )
        largest = drawn[drawn.model == model].memory_size.max()
        words[model] = f" {numbers}" + (
            "" if size == largest else f" (at {units.short_size(size)})"
        )
    return words


def _paper_marks(panel: Axes, quantity: str) -> list[Label]:
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


def _finish(
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
        panels[0].set_xlabel(f"{panels[0].get_xlabel()}\n{note}")
    figure.draw_without_rendering()
    labels.place(panels[0], named or [])


def _legend(figure: Figure, names: list[str]) -> None:
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
    figure.legend(
        handles=handles,
        loc="outside lower left",
        ncols=6,
        frameon=False,
        fontsize=LABEL_SIZE,
        labelcolor=INK,
    )
