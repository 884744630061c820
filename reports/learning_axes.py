"""Axes of learning figures: bits, episodes and levels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from reports import axes, units


def bits(panel: Axes) -> None:
    """Bits upward from 0: linear to one bit, logarithmic above, so that zero has its place."""
    top = max((float(np.nanmax(ys)) for ys in _ys(panel) if len(ys)), default=1.0)
    top = max(top, 1.0)
    panel.set_yscale("symlog", linthresh=1.0)
    panel.set_ylim(-0.04, top * 1.35)
    decades = [10.0**power for power in range(math.floor(math.log10(top * 1.35)) + 1)]
    ticks = [0.0, 0.5, *decades]
    panel.yaxis.set_major_locator(FixedLocator(ticks))
    panel.yaxis.set_major_formatter(FixedFormatter([f"{tick:,g}" for tick in ticks]))
    panel.yaxis.set_minor_locator(
        FixedLocator([digit * decade for decade in decades for digit in range(2, 10)])
    )
    panel.tick_params(axis="y", which="minor", length=1.5)


def episodes(panel: Axes, last: float) -> None:
    """Episodes from 0 to `last`, linear."""
    panel.set_xlim(0, last * 1.02)
    panel.xaxis.set_major_locator(MaxNLocator(5))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    panel.set_xlabel("episodes")


def logarithmic(panel: Axes) -> None:
    """Episodes and levels, both logarithmic."""
    panel.set_xscale("log")
    low, high = panel.get_xlim()
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    digits = (1,) if high / low >= 100 else (1, 2, 5)
    ticks = [digit * 10.0**power for power in powers for digit in digits]
    _set_ticks(panel.xaxis, [tick for tick in ticks if low <= tick <= high], short)
    panel.set_yscale("log", base=2)
    low, high = panel.get_ylim()
    powers = range(math.floor(math.log2(low)), math.ceil(math.log2(high)) + 1)
    halves = (2,) if high / low >= 4 else (2, 3)
    ticks = [half * 2.0 ** (power - 1) for power in powers for half in halves]
    _set_ticks(panel.yaxis, [t for t in ticks if t >= 1 and low <= t <= high], units.size)


def levels(panel: Axes, measured: Iterable[float]) -> None:
    """Levels to the right, logarithmic, with ticks where they were measured."""
    panel.set_xscale("log", base=2)
    _set_ticks(panel.xaxis, sorted(set(measured)), units.size)


def short(value: float) -> str:
    """A count as a tick label: `500`, `20k`, `1.5M`."""
    for factor, letter in ((1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:g}{letter}"
    return f"{value:g}"


def _set_ticks(axis: Axis, ticks: list[float], text: Callable[[float], str]) -> None:
    shown = axes.thin(ticks, 8) if ticks else []
    axis.set_major_locator(FixedLocator(shown))
    axis.set_major_formatter(FixedFormatter([text(tick) for tick in shown]))
    axis.set_minor_locator(NullLocator())


def _ys(panel: Axes) -> list[np.ndarray]:
    return [np.asarray(line.get_ydata(), dtype=float) for line in panel.get_lines()]
