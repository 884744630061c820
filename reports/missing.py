"""What was skipped, failed or never ran, in words; and each figure's caption."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from reports import facts, models, units
from reports.limits import MOST_PANELS

_ORDER = {"failed": 0, "skipped": 1, "not run": 2}

DRAWN = {
    "figure_1a": ("step_time",),
    "figure_1b": ("training_peak", "initial_memory"),
    "figure_7a": ("linked_time",),
    "figure_7b": ("total_memory",),
    "sequence_time": ("sequence_time",),
}
_CAPTIONS = {
    "figure_1a": (
        "Wall-clock time of one forward and backward pass through T steps, divided by T, against "
        "the number of memory words N; batch 8. An approximate index has the recall of its "
        "default settings beside its name: one that finds little is fast."
    ),
    "figure_1b": (
        "Memory of one forward and backward pass over 100 steps, beyond what was resident after "
        "initialisation, against the number of memory words N; batch 1."
    ),
    "figure_7a": (
        "Wall-clock time of one forward and backward pass through T steps, divided by T, against "
        "the number of memory words N; batch 8, full memory. SDNC less SAM is what links take. "
        "The upright bar is the ratio at the largest N of the DNC, with the paper's in brackets."
    ),
    "figure_7b": (
        "Memory of an initial state and of one forward and backward pass over 10 steps from it, "
        "together, against the number of memory words N; batch 1. Large: every word given at the "
        "start, those words counted once; small: the model's own initial state. The upright bar is "
        "the ratio at the largest N of the DNC, with the paper's in brackets."
    ),
    "sequence_time": (
        "Wall-clock time of one forward and backward pass against its length T, by memory size N."
    ),
}


@dataclass(frozen=True)
class Group:
    """Parameter combinations of one benchmark that lack a value for one reason.

    model: the model, or the backend where it is measured by itself.
    """

    status: str
    benchmark: str
    model: str
    reason: str
    sizes: str
    count: int


def missing(frame: pd.DataFrame) -> list[Group]:
    """All combinations without a value, failures first."""
    rows = frame[frame.status != "measured"]
    rows = rows.assign(model=rows.model.fillna(rows.backend))
    keys = ["status", "benchmark", "model", "reason"]
    groups = [
        Group(
            status=status,
            benchmark=benchmark,
            model="" if pd.isna(model) else str(model),
            reason=reason,
            sizes=_sizes(part),
            count=len(part),
        )
        for (status, benchmark, model, reason), part in rows.groupby(keys, dropna=False)
    ]
    known = models.in_order(group.model for group in groups)
    return sorted(
        groups,
        key=lambda group: (_ORDER[group.status], group.benchmark, known.index(group.model)),
    )


def _sizes(part: pd.DataFrame) -> str:
    """The sizes of a group, `N = 65,536, 262,144 (at T = 10, 100)`; alike lengths join."""
    lengths: dict[str, list[str]] = {}
    for length, rows in part.groupby("sequence_length", dropna=False):
        sizes = ", ".join(units.size(size) for size in sorted(set(rows.memory_size.dropna())))
        lengths.setdefault(sizes, [])
        if pd.notna(length):
            lengths[sizes].append(units.size(length))
    words = []
    for sizes, at in lengths.items():
        parts = ([f"T = {', '.join(at)}"] if at else []) + ([f"N = {sizes}"] if sizes else [])
        words.append(f"{parts[1]} (at {parts[0]})" if len(parts) == 2 else ", ".join(parts))
    columns = (part.parameters, part.data, part.memory)
    others = [text for column in columns for text in sorted(set(column.dropna()))]
    return "; ".join(filter(None, [*words, *others]))


def caption(frame: pd.DataFrame, figure: str, threads: str) -> str:
    """What the figure shows, on how many threads, and what of it could not be drawn."""
    rows = frame[frame.quantity.isin(DRAWN[figure])]
    words = [_CAPTIONS[figure], "K is 1,024 and M its square.", _threads(threads)]
    if rows.q25.notna().any():
        words.append("Bands: interquartile range.")
    if figure in ("figure_1a", "figure_1b"):
        words.append(
            "Hollow marks: the paper's numbers, in their model's marker, from another machine."
        )
    absent = rows[rows.status != "measured"]
    if not absent.empty:
        counts = absent.status.value_counts()
        listed = ", ".join(f"{count} {status}" for status, count in counts.items())
        words.append(f"Not drawn: {listed} (see What is missing).")
    panels = {"sequence_time": rows.memory_size, "figure_1b": rows.quantity}
    if panels.get(figure, rows.sequence_length).nunique() > MOST_PANELS:
        words.append(f"The largest {MOST_PANELS} have a panel.")
    zero = int(((rows.status == "measured") & (rows.value <= 0)).sum())
    if zero:
        words.append(f"Not drawn either: {zero} values of zero or below, which have no logarithm.")
    return " ".join(words)


def _threads(threads: str) -> str:
    if threads == facts.NOT_RECORDED:
        return "Number of threads not recorded."
    return f"{threads} {'thread' if threads == '1' else 'threads'}."
