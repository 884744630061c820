"""Numbers as people read them: times, bytes, memory sizes and ratios."""

from __future__ import annotations

import math

_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_BYTES = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B"))


def significant(value: float, digits: int = 3) -> str:
    """`value` to `digits` significant digits, grouped by thousands; `-` for NaN.

    With an exponent only where nothing is measured: from 1e15 on, and below 1e-9.
    """
    if math.isnan(value):
        return "-"
    if value == 0:
        return "0"
    if not 1e-9 <= abs(value) < 1e15:
        return f"{value:.{digits - 1}e}"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    rounded = round(value, places)
    return f"{rounded:,.{max(places, 0)}f}"


def seconds(value: float, digits: int = 3) -> str:
    """A time with its unit: `12 s`, `7.30 ms`."""
    factor, unit = next((pair for pair in _TIMES if abs(value) >= pair[0]), _TIMES[-1])
    return f"{significant(value / factor, digits)} {unit}"


def bytes_(value: float, digits: int = 3) -> str:
    """An amount of memory with its binary unit: `7.80 MiB`; whole numbers of bytes below 1 KiB."""
    factor, unit = next((pair for pair in _BYTES if abs(value) >= pair[0]), _BYTES[-1])
    if factor == 1:
        return f"{value:,.0f} B"
    return f"{significant(value / factor, digits)} {unit}"


def ratio(value: float) -> str:
    """A factor: `1,630x`, `1.02x`."""
    return f"{significant(value)}x"


def size(value: float) -> str:
    """A memory size or sequence length in full: `65,536`; `-` for NaN."""
    return "-" if math.isnan(value) else f"{value:,.0f}"


def short_size(value: float) -> str:
    """A memory size as a tick label: powers of two from 1024 on as `4K`, `1M`."""
    for factor, letter in ((2**20, "M"), (2**10, "K")):
        if value >= factor and value % factor == 0:
            return f"{value / factor:,.0f}{letter}"
    return f"{value:,.0f}"


def quantity(value: float, unit: str, digits: int = 3) -> str:
    """`value` in `unit` ("seconds", "bytes", "x" for a ratio, or any other word)."""
    if math.isnan(value):
        return "-"
    if unit == "seconds":
        return seconds(value, digits)
    if unit == "bytes":
        return bytes_(value, digits)
    if unit == "x":
        return ratio(value)
    return f"{significant(value, digits)} {unit}".strip()


def tick(value: float, unit: str) -> str:
    """`value` as a short tick label: `10 µs`, `64 MiB`."""
    if unit == "seconds":
        factor, name = next((pair for pair in _TIMES if value >= pair[0] * 0.9999), _TIMES[-1])
    else:
        factor, name = next((pair for pair in _BYTES if value >= pair[0]), _BYTES[-1])
    return f"{value / factor:,.6g} {name}"
