"""Recall of indexes by themselves against what they cost, drawn."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports import backend_tables, models, panels, units
from reports.models import PALETTE
from reports.records import Records

Place = tuple[str, int]  # data, memory size
PLACES_PER_LINE = 6
LONGEST_TITLE = 20


def frontier(found: Records) -> Figure:
    """Recall against the cost of an access, by kind of rows and memory size."""
    points = _measured(found, "frontier")
    sizes, kinds = sorted(set(points.memory_size)), backend_tables.in_order(points.data)
    if max(len(sizes), len(kinds)) > PLACES_PER_LINE:
        return _frontiers(points, _measured_places(points))
    places = [[(kind, size) for size in sizes] for kind in kinds]
    if len(kinds) > len(sizes):
        places = [[(kind, size) for kind in kinds] for size in sizes]
    return _frontiers(points, places)


def frontier_traces(found: Records) -> Figure:
    """Recall against the cost of an access, on recorded traces."""
    points = _measured(found, "trace")
    return _frontiers(points, _measured_places(points))


def _measured_places(points: pd.DataFrame) -> list[list[Place]]:
    """By memory size, in lines of at most `PLACES_PER_LINE`."""
    places = []
    for size in sorted(set(points.memory_size)):
        data = backend_tables.in_order(points[points.memory_size == size].data)
        lines = range(0, len(data), PLACES_PER_LINE)
        places += [[(t, size) for t in data[first : first + PLACES_PER_LINE]] for first in lines]
    return places


FIGURES: dict[str, Callable[[Records], Figure]] = {
    "frontier": frontier,
    "frontier_traces": frontier_traces,
}


def has_data(found: Records, name: str) -> bool:
    """Whether there is anything that a figure of `FIGURES` could draw."""
    return not _measured(found, "frontier" if name == "frontier" else "trace").empty


def _measured(found: Records, measure: str) -> pd.DataFrame:
    return found.points[(found.points.measure == measure) & (found.points.status == "measured")]


def _frontiers(points: pd.DataFrame, places: list[list[Place]]) -> Figure:
    """A panel for each place; the lines of panels may differ in length."""
    figure, drawn = panels.grid(len(places), max(map(len, places)), height=2.0)
    lines = _lines(points)
    for across, row in zip(places, drawn, strict=True):
        row[0].set_ylabel("recall@4")
        for place, panel in zip(across, row, strict=False):
            data, size = place
            _draw(panel, points[(points.data == data) & (points.memory_size == size)], lines)
            _finish(panel, place, points)
        for panel in row[len(across) :]:
            panel.set_visible(False)
    for panel in drawn[-1]:
        panel.set_xlabel("time of an access")
    panels.legend(figure, lines)
    return figure


def _lines(points: pd.DataFrame) -> list[panels.Line]:
    lines = []
    for backend in models.backends_in_order(points.backend):
        builds = list(dict.fromkeys(points[points.backend == backend].build))
        several = len(builds) > 1
        lines += [
            panels.Line(backend, build if several else "", number)
            for number, build in enumerate(builds)
        ]
    return lines


def _draw(panel: Axes, points: pd.DataFrame, lines: list[panels.Line]) -> None:
    """A line per build, a marker per search setting; `exact` is the mark to be beaten."""
    for line in lines:
        own = points[points.backend == line.backend]
        if sum(other.backend == line.backend for other in lines) > 1:
            own = own[own.build == line.build]
        own = own.sort_values("access_us")
        seconds = own.access_us.to_numpy(dtype=float) * 1e-6
        panel.plot(seconds, own.recall.to_numpy(dtype=float), zorder=3, **line.style())
        if line.backend == "exact" and len(own):
            colour = line.style()["color"]
            panel.axvline(seconds[0], color=colour, linewidth=0.8, linestyle=":", zorder=1.5)
    if points.empty:
        panel.text(
            *(0.5, 0.5, "not measured"),
            transform=panel.transAxes,
            ha="center",
            va="center",
            fontsize=panels.TITLE_SIZE,
            color=PALETTE["grey"],
        )


def _finish(panel: Axes, place: Place, points: pd.DataFrame) -> None:
    """Panels of one memory size have one axis of cost."""
    data, size = place
    title = f"{data}, N = {units.short_size(size)}"
    panels.finish(panel, title if len(title) <= LONGEST_TITLE else title.replace(", ", "\n"))
    panels.recall_axis(panel)
    same_size = points[points.memory_size == size].access_us * 1e-6
    panels.cost_axis(panel, same_size.min(), same_size.max())
