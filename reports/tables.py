"""Measured ratios and values beside the paper's."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from reports import metrics, models, paper, units
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

_RATIO_SIZES = ("memory_size", "sequence_length", "paper_memory_size")


@dataclass(frozen=True)
class Cell:
    """One measurement, or the words for why there is none."""

    value: float | None
    status: str


@dataclass(frozen=True)
class Pair:
    """The two sides of a claim, both measured at one memory size; `note` says why at another."""

    above: float
    below: float
    memory_size: int
    note: str = ""


def measured(frame: pd.DataFrame) -> pd.DataFrame:
    """The measured rows whose value has a logarithm; zero and negative values have none."""
    return frame[(frame.status == "measured") & (frame.value > 0)]


def ratios(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per claim of the paper and per further SAM index, columns `RATIO_COLUMNS`.

    A ratio or difference is taken at the paper's memory size where both sides were measured there,
    else at the largest size that both have; `note` then says what stood in the way. Without such a
    size, `measured` is empty and `status` says why.
    """
    rows = [_ratio(frame, claim) for claim in _all_ratios(frame)]
    rows += [_links(frame, claim) for claim in paper.LINKS]
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
    row, sides = _base(claim, "x"), pair(frame, claim)
    if isinstance(sides, str):
        return {**row, "status": sides}
    row |= {"memory_size": sides.memory_size, "note": sides.note}
    if sides.above <= 0 or sides.below <= 0:
        return {**row, "status": "no ratio: a value is zero or below"}
    return {**row, "measured": sides.above / sides.below, "status": "measured"}


def _links(frame: pd.DataFrame, claim: Claim) -> dict[str, Any]:
    """What the numerator takes more than the denominator, per step and batch element."""
    row, sides = _base(claim, "seconds"), pair(frame, claim)
    if isinstance(sides, str):
        return {**row, "status": sides}
    row |= {"memory_size": sides.memory_size, "note": sides.note}
    share = (sides.above - sides.below) / metrics.SPEED_BATCH_SIZE
    return {**row, "measured": share, "status": "measured"}


def pair(frame: pd.DataFrame, claim: Claim) -> Pair | str:
    """Both sides of `claim` at its memory size, else at the largest that both have.

    Without such a size, why there is none: `NTM skipped: ...`.
    """
    names = (claim.numerator, str(claim.denominator))
    sides = [_of(frame, claim, name) for name in names]
    size, note = claim.memory_size, ""
    missing = _missing(names, [_cell(rows, size) for rows in sides])
    if missing:
        common = set.intersection(*(set(measured(rows).memory_size) for rows in sides))
        if not common:
            return missing
        size, note = int(max(common)), f"at {units.size(size)} words: {missing}"
    above, below = (_cell(rows, size).value for rows in sides)
    assert above is not None
    assert below is not None
    return Pair(above, below, size, note)


def _missing(names: tuple[str, str], cells: list[Cell]) -> str:
    """Why a pair is none: `NTM skipped: ...`; "" where it is one."""
    return "; ".join(
        f"{models.look(name).label} {found.status}"
        for name, found in zip(names, cells, strict=True)
        if found.value is None
    )


def _of(frame: pd.DataFrame, claim: Claim, model: str) -> pd.DataFrame:
    """The rows of `model` that a claim is about, one per memory size."""
    rows = frame[(frame.quantity == claim.quantity) & (frame.model == model)]
    if claim.sequence_length is not None:
        rows = rows[rows.sequence_length == claim.sequence_length]
    if claim.memory is not None:
        rows = rows[rows.memory == claim.memory]
    return rows


def _cell(rows: pd.DataFrame, memory_size: int) -> Cell:
    """The measurement at this size, or "not measured", "skipped: ..." and so on."""
    rows = rows[rows.memory_size == memory_size]
    if rows.empty:
        return Cell(None, "not measured")
    row = rows.iloc[0]
    if row.status != "measured":
        return Cell(None, str(row.reason))
    return Cell(float(row.value), "measured")


def _value(frame: pd.DataFrame, claim: Claim) -> dict[str, Any]:
    unit = "seconds" if claim.quantity.endswith("time") else "bytes"
    found = _cell(_of(frame, claim, claim.numerator), claim.memory_size)
    value = math.nan if found.value is None else found.value
    return {**_base(claim, unit), "measured": value, "status": found.status}


def _flatness(frame: pd.DataFrame, model: str) -> dict[str, Any]:
    """Largest over smallest training memory over N: 1 where memory does not depend on N at all."""
    claim = Claim(
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
    )
    rows, row = _of(frame[frame.status == "measured"], claim, model), _base(claim, "x")
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
