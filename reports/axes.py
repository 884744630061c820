"""Log axes that read well: limits, ticks with units, thin spines."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from reports import units
from reports.models import INK

GRID = "#d9d9da"
LABEL_SIZE = 8.5


def style(panel: Axes) -> None:
    """Thin left and bottom spines, a faint grid behind."""
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        panel.spines[side].set_linewidth(0.7)
        panel.spines[side].set_color(INK)
    panel.grid(True, which="major", color=GRID, linewidth=0.6)
    panel.set_axisbelow(True)
    panel.tick_params(labelsize=LABEL_SIZE, width=0.7, length=3, colors=INK)
    for text in (panel.title, panel.xaxis.label, panel.yaxis.label):
        text.set_color(INK)
    panel.xaxis.label.set_fontsize(LABEL_SIZE + 0.5)
    panel.yaxis.label.set_fontsize(LABEL_SIZE + 0.5)


def set_ticks(panel: Axes, unit: str, against: str) -> None:
    """Limits around the data, then ticks at measured sizes and at round values with units."""
    sizes = _sizes(panel)
    if not sizes:
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_locator(NullLocator())
            axis.set_minor_locator(NullLocator())
        return
    room = 1.3 if len(sizes) > 1 else 2.0
    panel.set_xlim(sizes[0] / room, sizes[-1] * room)
    width = panel.get_position().width * panel.get_figure().get_figwidth()  # type: ignore[union-attr]
    shown = thin(sizes, max(int(width / 0.42), 2))
    text = units.short_size if against == "memory_size" else units.size
    panel.xaxis.set_major_locator(FixedLocator(shown))
    panel.xaxis.set_major_formatter(FixedFormatter([text(size) for size in shown]))
    panel.xaxis.set_minor_locator(NullLocator())
    low, high = widened(*panel.get_ylim())
    panel.set_ylim(low, high)
    values = value_ticks(low, high, unit)
    panel.yaxis.set_major_locator(FixedLocator(values))
    panel.yaxis.set_major_formatter(FixedFormatter([units.tick(v, unit) for v in values]))
    panel.yaxis.set_minor_locator(NullLocator())


def _sizes(panel: Axes) -> list[float]:
    """The sizes at which anything stands in `panel`."""
    found: set[float] = set()
    for line in panel.get_lines():
        if line.get_transform() == panel.transData:
            found.update(np.asarray(line.get_xdata(), dtype=float).tolist())
    return sorted(found)


def thin(values: list[float], most: int) -> list[float]:
    """Every n-th of `values` so that at most `most` are left, the last one always kept."""
    step = math.ceil(len(values) / most)
    return values[::-1][::step][::-1]


def widened(low: float, high: float) -> tuple[float, float]:
    """Limits at least a factor of 30 apart: a flat line shall look flat."""
    missing = 30.0 / (high / low)
    if missing <= 1:
        return low, high
    return low / math.sqrt(missing), high * math.sqrt(missing)


def value_ticks(low: float, high: float, unit: str) -> list[float]:
    """Round values from `low` to `high`: decades of seconds, powers of two of bytes; 8 at most."""
    if unit == "seconds" and high / low < 200:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)))
        ticks = [digit * 10.0**power for power in decades for digit in (1, 2, 5)]
        return [tick for tick in ticks if low <= tick <= high]
    base, steps = (10.0, [1, 2, 3]) if unit == "seconds" else (2.0, [2, 4, 5, 10])
    first, last = math.log(low, base), math.log(high, base)
    for step in steps:
        powers = range(math.ceil(first / step) * step, math.floor(last) + 1, step)
        if len(powers) <= 8:
            break
    return [base**power for power in powers]
