"""Derived tables of indexes by themselves: the cheapest setting for a recall, and wear."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from reports import models, records
from reports.records import Records

TARGETS = (0.9, 0.95, 0.99)
KINDS = ("clustered", "near", "random")
_FIGURES = (
    *("recall", "access_us", "search_us", "update_us", "update_median_us"),
    *("build_s", "bytes_per_row"),
)
COST_COLUMNS = (
    *("data", "memory_size", "backend", "target", "settings"),
    *_FIGURES,
    "status",
)
WEAR_COLUMNS = (
    *("data", "memory_size", "backend", "settings", "times_overwritten"),
    *("recall_fresh", "recall_worn", "recall_ratio"),
    *("search_us_fresh", "search_us_worn", "search_ratio"),
    "status",
)


def in_order(data: pd.Series) -> list[str]:
    """Kinds of rows as `KINDS`, then traces by name with their stages in order of training."""
    stages = ("start", "middle", "end")

    def rank(name: str) -> tuple[Any, ...]:
        if name in KINDS:
            return (0, KINDS.index(name))
        task, _, stage = name.rpartition("-")
        return (1, task, stages.index(stage) if stage in stages else len(stages), name)

    return sorted(set(data.dropna()), key=rank)


def costs(found: Records) -> pd.DataFrame:
    """The setting of the least cost per access that reaches each of `TARGETS`.

    A row per memory size, data, backend and target, columns `COST_COLUMNS`; where no setting
    reaches the target, the one with the most recall, and the status says so.
    """
    points = found.points[found.points.status == "measured"]
    rows = []
    for place, group in points.groupby(["data", "memory_size", "backend"]):
        for target in TARGETS:
            reaching = group[group.recall >= target]
            if reaching.empty:
                chosen = group.sort_values(["recall", "access_us"]).iloc[-1]
            else:
                chosen = reaching.sort_values("access_us").iloc[0]
            rows.append(
                dict(zip(("data", "memory_size", "backend"), place, strict=True))
                | {"target": target, "settings": records.settings(chosen.build, chosen.search)}
                | {name: chosen[name] for name in _FIGURES}
                | {"status": "not reached" if reaching.empty else "reached"}
            )
    return _sorted(pd.DataFrame(rows, columns=list(COST_COLUMNS)), ["target"])


def wear(found: Records) -> pd.DataFrame:
    """Recall and search time after every row was overwritten three times, against a fresh build's.

    A row per memory size, data, backend and build, columns `WEAR_COLUMNS`: of the search settings
    the first that reaches a recall of 0.9 fresh, else that with the most. The ratios are worn over
    fresh. Where the overwriting took too long, the status is the reason.
    """
    rows = []
    keys = ["data", "memory_size", "backend", "build"]
    for (data, memory_size, backend, build), group in found.wear.groupby(keys):
        place = {"data": data, "memory_size": memory_size, "backend": backend}
        measured = group[group.status == "measured"].sort_values("search_us_fresh")
        reaching = measured[measured.recall_fresh >= TARGETS[0]]
        if measured.empty:
            last = group.iloc[-1]
            rows.append(place | {"settings": build or "defaults", "status": last.reason}
                        | {"times_overwritten": last.times_overwritten})  # fmt: skip
            continue
        best = measured.sort_values("recall_fresh").iloc[-1]
        chosen = best if reaching.empty else reaching.iloc[0]
        rows.append(
            place
            | {name: chosen[name] for name in WEAR_COLUMNS if name in chosen and name not in place}
            | {
                "settings": records.settings(chosen.build, chosen.search),
                "recall_ratio": _ratio(chosen.recall_worn, chosen.recall_fresh),
                "search_ratio": _ratio(chosen.search_us_worn, chosen.search_us_fresh),
            }
        )
    return _sorted(pd.DataFrame(rows, columns=list(WEAR_COLUMNS)), ["settings"])


def _ratio(above: float, below: float) -> float:
    return above / below if below else math.nan


def _sorted(frame: pd.DataFrame, last: list[str]) -> pd.DataFrame:
    """By data, size and backend in the order of the page, then by `last`."""
    data, backends = in_order(frame.data), models.backends_in_order(frame.backend)
    ranked = frame.assign(d=frame.data.map(data.index), b=frame.backend.map(backends.index))
    ordered = ranked.sort_values(["d", "memory_size", "b", *last], kind="stable")
    return ordered[frame.columns].reset_index(drop=True)
