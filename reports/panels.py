"""What figures of several small panels share: their size, axes, titles and legend."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from reports import axes, models, units
from reports.models import INK, PAPER

TITLE_SIZE = 9.0
# Of a figure and of a panel in it, in inches.
WIDTH, NARROWEST, WIDEST = 11.0, 1.8, 4.6
# Of an entry of the legend: beside its text, and per letter.
INCHES_PER_NAME, INCHES_PER_LETTER, INCHES_PER_LINE = 0.6, 0.07, 0.2
MOST_LINES = 8
# Of a title, in letters. An escaped dollar sign stays in one piece.
LONGEST_LINE, LONGEST_WORD = 48, 36
_PIECES = re.compile(r"(?:\\\$|.){1,22}")
_DASHES: tuple[Any, ...] = ("-", (0, (4, 2)), (0, (1, 1.5)))
_RECALL_TICKS = (0, 0.25, 0.5, 0.75, 1)


@dataclass(frozen=True)
class Line:
    """One line of an index: the n-th of its builds, which is named where there are several."""

    backend: str
    build: str = ""
    number: int = 0

    def style(self, *, markers: bool = True) -> dict[str, Any]:
        """Keyword arguments of matplotlib's `plot`."""
        look = models.look_of_backend(self.backend)
        return {
            "color": look.colour,
            "linestyle": _DASHES[self.number % len(_DASHES)],
            "linewidth": 1.3,
            "marker": look.marker if markers else "",
            "markersize": 6 if look.marker in "*+x" else 4,
            "markeredgecolor": PAPER,
            "markeredgewidth": 0.4,
        }

    @property
    def label(self) -> str:
        name = models.look_of_backend(self.backend).label
        return f"{name}, {self.build.replace('=True', '')}" if self.build else name


def grid(down: int, across: int, height: float) -> tuple[Figure, list[list[Axes]]]:
    """A figure of `down` x `across` panels, each so many inches high."""
    width = min(max(WIDTH / across, NARROWEST), WIDEST)
    figure = Figure(figsize=(width * across + 0.4, height * down + 0.5), layout="constrained")
    return figure, [list(line) for line in figure.subplots(down, across, squeeze=False)]


def finish(panel: Axes, title: str) -> None:
    panel.set_title(_folded(title), loc="left", fontsize=TITLE_SIZE, color=INK)
    axes.style(panel)


def _folded(title: str) -> str:
    """Lines that are far too long for a panel in pieces."""
    return "\n".join(
        "\n".join(_PIECES.findall(line)) if _is_long(line) else line for line in title.split("\n")
    )


def _is_long(line: str) -> bool:
    longest_word = max(map(len, line.split()), default=0)
    return len(line) > LONGEST_LINE or longest_word > LONGEST_WORD


def recall_axis(panel: Axes) -> None:
    """Recall from 0 to 1, upward."""
    panel.set_ylim(-0.03, 1.05)
    panel.yaxis.set_major_locator(FixedLocator(_RECALL_TICKS))
    panel.yaxis.set_major_formatter(FixedFormatter([f"{tick:g}" for tick in _RECALL_TICKS]))


def cost_axis(panel: Axes, low: float, high: float) -> None:
    """Times from `low` to `high` seconds, logarithmic, with few round ticks."""
    low, high = axes.widened(low / 1.4, high * 1.4)
    panel.set_xlim(low, high)
    panel.set_xscale("log")
    decades = [10.0**power for power in range(-9, 6) if low <= 10.0**power <= high]
    ticks = axes.thin(decades, 4)
    panel.xaxis.set_major_locator(FixedLocator(ticks))
    panel.xaxis.set_major_formatter(FixedFormatter([units.tick(t, "seconds") for t in ticks]))
    panel.xaxis.set_minor_locator(NullLocator())


def legend(figure: Figure, lines: Iterable[Line], *, markers: bool = True) -> None:
    styled = [(line.label, line.style(markers=markers)) for line in lines]
    legend_of(figure, [Line2D([], [], label=label, **style) for label, style in styled])


def legend_of(figure: Figure, handles: list[Line2D]) -> None:
    """A legend below the panels, in as many columns as there is room for."""
    longest = max((len(str(handle.get_label())) for handle in handles), default=0)
    across = int(figure.get_figwidth() / (INCHES_PER_NAME + INCHES_PER_LETTER * longest))
    across = max(min(len(handles), across), 1)
    lines = math.ceil(len(handles) / across)
    if lines > MOST_LINES:  # what a figure of the usual height has room for
        higher = (lines - MOST_LINES) * INCHES_PER_LINE
        figure.set_figheight(figure.get_figheight() + higher)
    figure.legend(
        handles=handles,
        loc="outside lower left",
        ncols=across,
        frameon=False,
        fontsize=axes.LABEL_SIZE,
        labelcolor=INK,
    )
