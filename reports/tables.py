"""Derived tables: ratios beside the paper's, and slopes of cost against size."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from reports import models, paper, units
from reports.paper import Claim

RATIO_COLUMNS = (
    "key",
    "label",
    "unit",
    "measured",
    "memory_size",
    "sequence_length",
    "status",
    "paper",
    "paper_text",
    "paper_memory_size",
    "measured_over_paper",
    "source",
    "note",
    "headline",
)
SLOPE_COLUMNS = (
    "quantity",
    "unit",
    "model",
    "against",
    "memory_size",
    "sequence_length",
    "points",
    "smallest",
    "largest",
    "slope",
    "last_points",
    "last_smallest",
    "slope_last",
)

_RATIO_SIZES = ("memory_size", "sequence_length", "paper_memory_size")
_SLOPE_SIZES = (
    "memory_size",
    "sequence_length",
    "points",
    "smallest",
    "largest",
    "last_points",
    "last_smallest",
)

# Small memories are dominated by a step's fixed cost, so the last points get a slope of their own.
LAST_POINTS = 3


@dataclass(frozen=True)
class Cell:
    """One measurement, or the words for why there is none."""

    value: float | None
    status: str


def cell(
    frame: pd.DataFrame, quantity: str, model: str, memory_size: int, sequence_length: int | None
) -> Cell:
    """The measurement of `model` at these sizes, or "not measured", "skipped: ..." and so on."""
    rows = _rows(frame, quantity, model, sequence_length)
    rows = rows[rows.memory_size == memory_size]
    if rows.empty:
        return Cell(None, "not measured")
    row = rows.iloc[0]
    if row.status != "measured":
        return Cell(None, str(row.reason))
    return Cell(float(row.value), "measured")


def _rows(
    frame: pd.DataFrame, quantity: str, model: str, sequence_length: int | None
) -> pd.DataFrame:
    rows = frame[(frame.quantity == quantity) & (frame.model == model)]
    if sequence_length is not None:
        rows = rows[rows.sequence_length == sequence_length]
    return rows


def measured(frame: pd.DataFrame) -> pd.DataFrame:
    """The measured rows whose value has a logarithm; zero and negative values have none."""
    return frame[(frame.status == "measured") & (frame.value > 0)]


def ratios(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per claim of the paper and per further SAM index, columns `RATIO_COLUMNS`.

    A ratio is taken at the paper's memory size where both sides were measured there, else at the
    largest size that both have; `note` then says what stood in the way. Without such a size,
    `measured` is empty and `status` says why.
    """
    rows = [_ratio(frame, claim) for claim in _all_ratios(frame)]
    rows += [_flatness(frame, model) for model in _sam_models(frame, "training_peak")]
    rows += [_value(frame, claim) for claim in paper.VALUES]
    table = pd.DataFrame(rows, columns=list(RATIO_COLUMNS))
    # At another memory size than the paper's the quotient would say nothing.
    same = table.memory_size.isna() | (table.memory_size == table.paper_memory_size)
    table["measured_over_paper"] = (table.measured / table.paper).where(same)
    return table.astype(dict.fromkeys(_RATIO_SIZES, "Int64"))


def _sam_models(frame: pd.DataFrame, quantity: str) -> list[str]:
    names = frame[frame.quantity == quantity].model.dropna()
    return models.in_order({"sam-exact", *filter(models.is_sam, names)})


def _all_ratios(frame: pd.DataFrame) -> list[Claim]:
    """The paper's ratios, then NTM against each SAM index that the paper did not measure."""
    claims = []
    for claim in paper.RATIOS:
        claims.append(claim)
        if claim.key not in ("step_ntm_sam_kd", "memory_ntm_sam"):
            continue
        known = {other.denominator for other in paper.RATIOS if other.quantity == claim.quantity}
        for model in _sam_models(frame, claim.quantity):
            if model not in known:
                claims.append(_without_paper(claim, model))
    return claims


def _without_paper(claim: Claim, model: str) -> Claim:
    title = claim.label.partition(",")[0]
    return replace(
        claim,
        key=f"{claim.quantity}_ntm_{model}",
        label=f"{title}, NTM / {models.look(model).label}",
        denominator=model,
        paper=None,
        text="-",
        source="",
        headline=False,
    )


def _base(claim: Claim, unit: str) -> dict[str, Any]:
    return {
        "key": claim.key,
        "label": claim.label,
        "unit": unit,
        "measured": math.nan,
        "memory_size": claim.memory_size,
        "sequence_length": claim.sequence_length,
        "paper": math.nan if claim.paper is None else claim.paper,
        "paper_text": claim.text,
        "paper_memory_size": claim.memory_size if claim.paper is not None else None,
        "source": claim.source,
        "note": "",
        "headline": claim.headline,
    }


def _ratio(frame: pd.DataFrame, claim: Claim) -> dict[str, Any]:
    assert claim.denominator is not None
    row = _base(claim, "x")
    sides = (claim.numerator, claim.denominator)
    cells = [
        cell(frame, claim.quantity, side, claim.memory_size, claim.sequence_length)
        for side in sides
    ]
    missing = _missing(sides, cells)
    if missing:
        common = _common_sizes(frame, claim)
        if not common:
            return {**row, "status": missing}
        row["memory_size"] = max(common)
        row["note"] = f"at {units.size(claim.memory_size)} words: {missing}"
        cells = [
            cell(frame, claim.quantity, side, max(common), claim.sequence_length) for side in sides
        ]
    above, below = cells[0].value, cells[1].value
    assert above is not None
    assert below is not None
    if above <= 0 or below <= 0:
        return {**row, "status": "no ratio: a value is zero or below"}
    return {**row, "measured": above / below, "status": "measured"}


def _missing(sides: tuple[str, str], cells: list[Cell]) -> str:
    """Why a ratio cannot be taken: `NTM skipped: ...`; "" where it can."""
    return "; ".join(
        f"{models.look(side).label} {found.status}"
        for side, found in zip(sides, cells, strict=True)
        if found.value is None
    )


def _common_sizes(frame: pd.DataFrame, claim: Claim) -> set[int]:
    above, below = (
        set(_rows(measured(frame), claim.quantity, side, claim.sequence_length).memory_size)
        for side in (claim.numerator, str(claim.denominator))
    )
    return {int(size) for size in above & below}


def _value(frame: pd.DataFrame, claim: Claim) -> dict[str, Any]:
    unit = "seconds" if claim.quantity.endswith("time") else "bytes"
    found = cell(frame, claim.quantity, claim.numerator, claim.memory_size, claim.sequence_length)
    value = math.nan if found.value is None else found.value
    return {**_base(claim, unit), "measured": value, "status": found.status}


def _flatness(frame: pd.DataFrame, model: str) -> dict[str, Any]:
    """Largest over smallest training memory over N: 1 where memory does not depend on N at all."""
    rows = _rows(frame[frame.status == "measured"], "training_peak", model, None)
    row = _base(
        Claim(
            key=f"flatness_{model}",
            label=f"Training memory, {models.look(model).label}: largest / smallest over N",
            quantity="training_peak",
            numerator=model,
            denominator=None,
            memory_size=0,
            sequence_length=100,
            paper=1.0 if model == "sam-exact" else None,
            text="flat" if model == "sam-exact" else "-",
            source=paper.FIGURE_1 if model == "sam-exact" else "",
            headline=model == "sam-exact",
        ),
        "x",
    )
    row["memory_size"] = row["paper_memory_size"] = None
    if rows.empty:
        return {**row, "status": "not measured"}
    if len(rows) == 1:
        return {**row, "status": "measured at one size only"}
    if rows.value.min() <= 0:
        return {**row, "status": "no ratio: a value is zero or below"}
    sizes = f"{units.size(rows.memory_size.min())} to {units.size(rows.memory_size.max())} words"
    note = f"over {len(rows)} sizes, {sizes}"
    factor = rows.value.max() / rows.value.min()
    return {**row, "measured": float(factor), "status": "measured", "note": note}


def slopes(frame: pd.DataFrame) -> pd.DataFrame:
    """Least-squares slopes of log(cost) on log(size), columns `SLOPE_COLUMNS`.

    A slope of 1 is linear growth and 0 is none. `against` is the size: "memory_size" with
    `sequence_length` fixed, or "sequence_length" with `memory_size` fixed.
    """
    rows: list[dict[str, Any]] = []
    plain = measured(frame)
    for quantity in ("step_time", "sequence_time", "training_peak", "initial_memory"):
        rows += _slopes(plain[plain.quantity == quantity], "memory_size", "sequence_length")
    passes = plain[plain.quantity == "sequence_time"]
    rows += _slopes(passes, "sequence_length", "memory_size")
    return pd.DataFrame(rows, columns=list(SLOPE_COLUMNS)).astype(
        dict.fromkeys(_SLOPE_SIZES, "Int64") | {"slope": "float64", "slope_last": "float64"}
    )


def _slopes(rows: pd.DataFrame, against: str, fixed: str) -> list[dict[str, Any]]:
    """One slope per model and value of `fixed`; a single size has none and makes no row."""
    found = []
    for model in models.in_order(rows.model.dropna()):
        group = rows[rows.model == model].sort_values(against)
        for value, points in group.groupby(fixed, dropna=False):
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
