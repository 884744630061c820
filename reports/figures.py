"""The report's figures: each a function from the tidy table to a matplotlib figure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from reports import lines, models, tables, units
from reports.limits import MOST_PANELS

_RECALL_DATA = ("random", "clustered")
_RECALL_NOTE = "beside a name: recall@4 of the index, random / clustered rows (?: not measured)"


def figure_1a(frame: pd.DataFrame) -> Figure:
    """Time of one step against N: T = 1 large, the other lengths small beside it."""
    return _step_time(frame, "step_time", main_length=1)


def figure_1b(frame: pd.DataFrame) -> Figure:
    """Memory of training over 100 steps against N; beside it, small, that of initialisation."""
    figure, main, (panel,) = lines.one_large(1)
    named = lines.draw(main, frame[frame.quantity == "training_peak"])
    named += lines.paper_values(main, "training_peak")
    lines.title(main, "Physical peak of training, T = 100")
    main.set_ylabel("memory beyond initialisation")
    lines.draw(panel, frame[frame.quantity == "initial_memory"], small=True)
    lines.title(panel, "Initialisation")
    lines.finish(figure, [main, panel], "bytes", named=named)
    return figure


def figure_7a(frame: pd.DataFrame) -> Figure:
    """Time of one step of DNC, SDNC and SAM against N: T = 10 large, T = 1 small beside it."""
    return _step_time(frame, "linked_time", main_length=10)


def figure_7b(frame: pd.DataFrame) -> Figure:
    """Total memory of DNC, SDNC and SAM against N: full large, empty small beside it."""
    rows = frame[frame.quantity == "total_memory"]
    empty = [memory for memory in _measured_over_sizes(rows, "memory") if memory == "empty"]
    figure, main, small = lines.one_large(len(empty))
    named = lines.draw(main, rows[rows.memory == "full"])
    named += lines.paper_ratios(main, frame, "total_memory", memory="full")
    lines.title(main, "Physical peak of all, T = 10, from a full memory")
    main.set_ylabel("initial state and one pass")
    for panel in small:
        lines.draw(panel, rows[rows.memory == "empty"], small=True)
        lines.title(panel, "From an empty memory")
    lines.finish(figure, [main, *small], "bytes", named=named)
    return figure


def sequence_time(frame: pd.DataFrame) -> Figure:
    """Time of a pass against its length T, one panel per memory size."""
    rows = frame[frame.quantity == "sequence_time"]
    # The LSTM has no memory: its line is drawn in every panel and asks for none of its own.
    memories = rows[rows.model != "lstm"]
    sizes = sorted(set(map(int, (rows if memories.empty else memories).memory_size.dropna())))
    sizes = sizes[-MOST_PANELS:]
    count = max(len(sizes), 1)
    figure = Figure(figsize=(max(3.0 * count, 4.6) + 0.4, 3.9), layout="constrained")
    panels = list(figure.subplots(1, count, sharey=True, squeeze=False)[0])
    for panel, size in zip(panels, sizes or [0], strict=True):
        part = rows[(rows.memory_size == size) | (rows.model == "lstm")]
        lines.draw(panel, part, against="sequence_length", small=True)
        lines.title(panel, f"N = {units.short_size(size)}" if sizes else "")
    panels[0].set_ylabel("one forward and backward pass")
    lines.finish(figure, panels, "seconds", against="sequence_length")
    lines.legend(figure, models.in_order(tables.measured(rows).model.dropna()))
    return figure


FIGURES: dict[str, Callable[[pd.DataFrame], Figure]] = {
    "figure_1a": figure_1a,
    "figure_1b": figure_1b,
    "figure_7a": figure_7a,
    "figure_7b": figure_7b,
    "sequence_time": sequence_time,
}


def _step_time(frame: pd.DataFrame, quantity: str, main_length: int) -> Figure:
    """Time of a step against N: for passes of `main_length` steps large, of others small."""
    rows = frame[frame.quantity == quantity]
    lengths = _measured_over_sizes(rows, "sequence_length")
    others = [length for length in lengths if length != main_length][-MOST_PANELS + 1 :]
    figure, main, small = lines.one_large(len(others))
    recalls = _recalls(frame, quantity)
    named = lines.draw(main, rows[rows.sequence_length == main_length], beside=recalls)
    # Of Figure 7 the paper's text gives ratios alone, no point.
    named += lines.paper_values(main, quantity) or lines.paper_ratios(main, frame, quantity)
    lines.title(main, _step_title(main_length))
    main.set_ylabel("forward and backward, per step")
    for panel, length in zip(small, others, strict=True):
        lines.draw(panel, rows[rows.sequence_length == length], small=True)
        lines.title(panel, _step_title(length))
    note = _RECALL_NOTE if recalls else ""
    lines.finish(figure, [main, *small], "seconds", named=named, note=note)
    return figure


def _step_title(length: int) -> str:
    return "One step alone, T = 1" if length == 1 else f"Per step of a pass, T = {length}"


def _measured_over_sizes(rows: pd.DataFrame, column: str) -> list[Any]:
    """The values of a column at which more than one memory size was measured."""
    several = tables.measured(rows).groupby(column).memory_size.nunique() > 1
    return sorted(several[several].index)


def _recalls(frame: pd.DataFrame, quantity: str) -> dict[str, str]:
    """What is written beside an approximate index's name: its recall where N is largest."""
    rows = frame[(frame.quantity == "backend_recall") & (frame.status == "measured")]
    drawn = tables.measured(frame[frame.quantity == quantity])
    words = {}
    for model in set(filter(models.is_approximate, drawn.model.dropna())):
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
