"""What an index does to training: its recall as training goes on, and the loss."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator

from reports import axes, backend_tables, models, panels, units
from reports.records import Records

WIDEST_LINE = 6.0


def recall_over_time(found: Records) -> Figure:
    """Recall of each index in its default settings as training goes on, from traces."""
    rows = _defaults(found)
    groups = list(rows.groupby(["memory_size", "task"]))
    figure, (drawn,) = panels.grid(1, len(groups), height=3.0)
    for panel, ((memory_size, task), own) in zip(drawn, groups, strict=True):
        _draw_stages(panel, own)
        panels.finish(panel, f"{task}, N = {units.short_size(memory_size)}")
        panels.recall_axis(panel)
        panel.grid(False, axis="x")
        panel.set_xlabel("stage (minibatches)")
    drawn[0].set_ylabel("recall@4")
    panels.legend(figure, map(panels.Line, models.backends_in_order(rows.backend)))
    return figure


def learning(found: Records) -> Figure:
    """Loss over training with each index, one panel per task."""
    rows = found.learning
    tasks = sorted(set(rows.task))
    figure, (drawn,) = panels.grid(1, len(tasks), height=3.2)
    for panel, task in zip(drawn, tasks, strict=True):
        own = rows[rows.task == task]
        _draw_losses(panel, own)
        panels.finish(panel, task)
        panel.set_xlabel("minibatches")
    drawn[0].set_ylabel("loss, nats per bit")
    backends = models.backends_in_order(rows.backend)
    panels.legend(figure, map(panels.Line, backends), markers=False)
    return figure


FIGURES: dict[str, Callable[[Records], Figure]] = {
    "recall_over_time": recall_over_time,
    "learning": learning,
}


def has_data(found: Records, name: str) -> bool:
    """Whether there is anything that a figure of `FIGURES` could draw."""
    return not (found.learning if name == "learning" else _defaults(found)).empty


def _defaults(found: Records) -> pd.DataFrame:
    return found.over_time[found.over_time.default.fillna(False)]


def _draw_stages(panel: Axes, rows: pd.DataFrame) -> None:
    """The traces of one task side by side, each from 0.05 to 0.95 of its place."""
    traces = backend_tables.in_order(rows.data)
    names = []
    for place, trace in enumerate(traces):
        own = rows[rows.data == trace]
        for backend in models.backends_in_order(own.backend):
            curve = own[own.backend == backend].sort_values("part")
            x = place + 0.05 + 0.9 * (curve.part + 0.5) / curve.parts
            style = panels.Line(backend).style()
            panel.plot(x.to_numpy(float), curve.recall.to_numpy(float), zorder=3, **style)
        if place:
            panel.axvline(place, color=axes.GRID, linewidth=1.0, zorder=1)
        first = own.iloc[0]
        when = "" if pd.isna(first.minibatches) else f"\n({units.size(first.minibatches)})"
        names.append(f"{first.stage}{when}")
    panel.set_xlim(0, len(traces))
    panel.xaxis.set_major_locator(FixedLocator([place + 0.5 for place in range(len(traces))]))
    panel.xaxis.set_major_formatter(FixedFormatter(names))


def _draw_losses(panel: Axes, rows: pd.DataFrame) -> None:
    for place, backend in enumerate(models.backends_in_order(rows.backend)):
        # Each is narrower than the one below it, as curves that coincide would hide each other.
        width = max(WIDEST_LINE - place, 1.0)
        style = panels.Line(backend).style(markers=False) | {"linewidth": width}
        for _, curve in rows[rows.backend == backend].groupby("seed", dropna=False):
            curve = curve.sort_values("minibatch")
            panel.plot(curve.minibatch.to_numpy(float), curve.loss.to_numpy(float), **style)
    if (rows.loss > 0).all():
        panel.set_yscale("log")
