"""How cost grows: slopes of its logarithm on that of the size."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from reports import models, tables

COLUMNS = (
    "quantity",
    "unit",
    "model",
    "against",
    "memory_size",
    "sequence_length",
    "memory",
    "points",
    "smallest",
    "largest",
    "slope",
    "last_points",
    "last_smallest",
    "slope_last",
)

_SIZES = (
    "memory_size",
    "sequence_length",
    "points",
    "smallest",
    "largest",
    "last_points",
    "last_smallest",
)

_AGAINST_MEMORY_SIZE = (
    *("step_time", "sequence_time", "training_peak", "initial_memory"),
    *("linked_time", "total_memory"),
)

# Small memories are dominated by a step's fixed cost, so the last points get a slope of their own.
LAST_POINTS = 3


def slopes(frame: pd.DataFrame) -> pd.DataFrame:
    """Least-squares slopes of log(cost) on log(size), columns `COLUMNS`.

    A slope of 1 is linear growth and 0 is none. `against` is the size: "memory_size" with
    `sequence_length` (and `memory`, which says what it holds at first) fixed, or "sequence_length"
    with `memory_size` fixed.
    """
    rows: list[dict[str, Any]] = []
    plain = tables.measured(frame)
    for quantity in _AGAINST_MEMORY_SIZE:
        rows += _slopes(plain[plain.quantity == quantity], "memory_size", "sequence_length")
    passes = plain[plain.quantity == "sequence_time"]
    rows += _slopes(passes, "sequence_length", "memory_size")
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(
        dict.fromkeys(_SIZES, "Int64") | {"slope": "float64", "slope_last": "float64"}
    )


def _slopes(rows: pd.DataFrame, against: str, fixed: str) -> list[dict[str, Any]]:
    """One slope per model, `memory` and value of `fixed`; a single size has none, so no row."""
    found = []
    for model in models.in_order(rows.model.dropna()):
        group = rows[rows.model == model].sort_values(against)
        for (value, memory), points in group.groupby([fixed, "memory"], dropna=False):
            sizes = points[against].to_numpy(dtype=float)
            costs = points.value.to_numpy(dtype=float)
            if len(set(sizes)) < 2:
                continue
            found.append(
                {
                    "quantity": points.quantity.iloc[0],
                    "unit": points.unit.iloc[0],
                    "model": model,
                    "against": against,
                    fixed: None if pd.isna(value) else int(value),
                    "memory": None if pd.isna(memory) else memory,
                    "points": len(sizes),
                    "smallest": int(sizes[0]),
                    "largest": int(sizes[-1]),
                    "slope": power_law(sizes, costs),
                    **_last(sizes, costs),
                }
            )
    return found


def _last(sizes: np.ndarray, costs: np.ndarray) -> dict[str, Any]:
    if len(sizes) <= LAST_POINTS:
        return {"last_points": None, "last_smallest": None, "slope_last": math.nan}
    return {
        "last_points": LAST_POINTS,
        "last_smallest": int(sizes[-LAST_POINTS]),
        "slope_last": power_law(sizes[-LAST_POINTS:], costs[-LAST_POINTS:]),
    }


def power_law(sizes: np.ndarray, costs: np.ndarray) -> float:
    """The exponent b of the least-squares fit cost = a * size**b, both [points] and positive."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])
