"""Naming lines at their ends and marks at their side, without covering one another."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from reports.models import PAPER

SIZE = 9.0
LINE_HEIGHT = 11.0  # points between two labels
WIDEST = 216.0  # points that one label may take


@dataclass(frozen=True)
class Label:
    """A name for the point x, y; `mark` for one of the paper's, else it names a line's end."""

    x: float
    y: float
    text: str
    colour: str
    mark: bool = False


# Where a label may stand: offset in points, horizontal and vertical alignment; best first.
_BESIDE = ((8, 0, "left", "center"), (-8, 0, "right", "center"))
_PLACES = (
    *_BESIDE,
    (-5, 7, "right", "bottom"),
    (5, -7, "left", "top"),
    (0, 8, "center", "bottom"),
    (0, -8, "center", "top"),
    (5, 7, "left", "bottom"),
    (-5, -7, "right", "top"),
    (-8, 14, "center", "bottom"),
    (8, -14, "center", "top"),
)


def place(panel: Axes, labels: list[Label]) -> None:
    """Write all labels: those of the rightmost line ends outside, the others where room is."""
    figure = panel.figure
    ends = [label for label in labels if not label.mark]
    last = max((label.x for label in ends), default=0.0)
    column = [label for label in ends if label.x == last]
    written = _write_column(panel, column, inside=last < _rightmost(panel))
    figure.draw_without_rendering()  # type: ignore[union-attr]
    taken = [text.get_window_extent() for text in written]
    lines = _line_points(panel)
    for label in sorted(set(labels) - set(column), key=lambda label: (label.mark, label.y)):
        taken.append(_write_free(panel, label, lines, taken))


def _rightmost(panel: Axes) -> float:
    xs = [np.asarray(line.get_xdata(), dtype=float).max() for line in panel.get_lines()]
    return float(max(xs, default=0.0))


def _write(panel: Axes, label: Label, where: tuple[float, float, str, str]) -> Annotation:
    dx, dy, across, along = where
    text = panel.annotate(
        label.text,
        (label.x, label.y),
        xytext=(dx, dy),
        textcoords="offset points",
        ha=across,
        va=along,
        fontsize=SIZE - 1 if label.mark else SIZE,
        fontweight="normal" if label.mark else "bold",
        fontstyle="italic" if label.mark else "normal",
        color=label.colour,
        zorder=6,
        annotation_clip=False,
    )
    text.set_path_effects([patheffects.withStroke(linewidth=2.5, foreground=PAPER)])
    return _cut(text)


def _cut(text: Annotation) -> Annotation:
    """Without the middle of what is so wide that it would leave the panels no room."""
    words, kept = text.get_text(), len(text.get_text())
    most = WIDEST / 72 * text.figure.dpi
    while kept > 8 and Text.get_window_extent(text).width > most:
        kept -= max(1, kept // 10)
        text.set_text(f"{words[: kept - kept // 2]}\u2026{words[-(kept // 2) :]}")
    return text


def _write_column(panel: Axes, column: list[Label], inside: bool) -> list[Annotation]:
    """Labels right of the panel, moved apart, from the lowest up.

    `inside`: the lines end before the panel does (a mark lies further right), so that thin leaders
    join the two.
    """
    column = sorted(column, key=lambda label: label.y)
    points = panel.get_window_extent().height * 72 / panel.figure.dpi
    low, high = (math.log(limit) for limit in panel.get_ylim())
    heights = [(math.log(label.y) - low) / (high - low) * points for label in column]
    written = []
    for height, there, label in zip(heights, apart(heights), column, strict=True):
        if inside:
            written.append(_write_with_leader(panel, label, there / points))
        else:
            written.append(_write(panel, label, (8, there - height, "left", "center")))
    return written


def _write_with_leader(panel: Axes, label: Label, height: float) -> Annotation:
    text = panel.annotate(
        label.text,
        (label.x, label.y),
        xytext=(1.015, height),
        textcoords="axes fraction",
        va="center",
        fontsize=SIZE,
        fontweight="bold",
        color=label.colour,
        arrowprops={
            "arrowstyle": "-",
            "linestyle": ":",
            "linewidth": 0.8,
            "color": label.colour,
            "shrinkA": 2,
            "shrinkB": 5,
            "relpos": (0, 0.5),
        },
    )
    return _cut(text)


def apart(heights: list[float]) -> list[float]:
    """`heights` (ascending) moved as little as possible so that neighbours keep `LINE_HEIGHT`."""
    blocks: list[tuple[float, int]] = []  # labels that touch: sum of their wished starts, number
    for number, height in enumerate(heights):
        total, count = height - number * LINE_HEIGHT, 1
        # Blocks whose mean starts are out of order become one (isotonic regression).
        while blocks and blocks[-1][0] / blocks[-1][1] > total / count:
            before, more = blocks.pop()
            total, count = total + before, count + more
        blocks.append((total, count))
    starts = [total / count for total, count in blocks for _ in range(count)]
    return [start + number * LINE_HEIGHT for number, start in enumerate(starts)]


def _line_points(panel: Axes) -> np.ndarray:
    """Points on all lines of the panel, in pixels, [points, 2]."""
    pieces = [np.empty((0, 2))]
    for line in panel.get_lines():
        ends = line.get_transform().transform(line.get_xydata())
        steps = np.linspace(0.0, 1.0, 60)[:, None]
        pieces += [start + steps * (end - start) for start, end in pairwise(ends)]
        pieces.append(ends)
    return np.concatenate(pieces)


def _write_free(panel: Axes, label: Label, lines: np.ndarray, taken: list[Bbox]) -> Bbox:
    """Write `label` at the place where it covers least, and return its box."""
    places = _PLACES if not label.mark else (_BESIDE[1], _BESIDE[0], *_PLACES[2:])
    costs = []
    for where in places:
        trial = _write(panel, label, where)
        costs.append(_cost(panel, trial.get_window_extent(), lines, taken))
        trial.remove()
    return _write(panel, label, places[costs.index(min(costs))]).get_window_extent()


def _cost(panel: Axes, box: Bbox, lines: np.ndarray, taken: list[Bbox]) -> int:
    """What a label at `box` would cover: points of lines, other labels, what is off the panel."""
    wide = box.padded(3)
    inside = (lines > [wide.x0, wide.y0]) & (lines < [wide.x1, wide.y1])
    frame = panel.get_window_extent()
    outside = box.x0 < frame.x0 or box.x1 > frame.x1 or box.y0 < frame.y0 or box.y1 > frame.y1
    others = sum(bool(wide.overlaps(other)) for other in taken)
    return int(inside.all(axis=1).sum()) + 100 * others + 200 * outside
