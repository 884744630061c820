"""The page's sections on indexes by themselves, and on learning with them."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

import pandas as pd

from reports import backend_tables, models, units
from reports.markup import table
from reports.records import Records

MEASURES_IT = "<code>python -m asv_bench.frontier</code> measures it."
CAPTIONS = {
    "frontier": (
        "Share of the 4 nearest rows that are found, against the time of an access to one memory: "
        "4 searches and 20 rows updated, the rebuilds that they bring about included. A marker is "
        "a search setting, a line one build. Dotted: the exact scan; right of it an index is of "
        "no use. K is 1,024 and M its square. One thread."
    ),
    "frontier_traces": (
        "The same on what SAM asked of its index in training: its own queries, and as many rows "
        "updated as it wrote."
    ),
    "recall_over_time": (
        "Recall@4 in consecutive parts of traces recorded at stages of training; every index in "
        "its default settings."
    ),
    "learning": "Loss of SAM with each index, all else equal.",
}


def sections(found: Records, drawings: Mapping[str, str], commit: str) -> dict[str, str]:
    """What this file puts into the template, by placeholder."""
    learning = "<p>Not measured: no learning.jsonl beside the results.</p>"
    return {
        "frontier": (_figure("frontier", drawings) or f"<p>Not measured. {MEASURES_IT}</p>")
        + _figure("frontier_traces", drawings)
        + _absent(found.points)
        + _other_commit(found.points, commit),
        "costs": _costs(backend_tables.costs(found)),
        "wear": _wear(backend_tables.wear(found)),
        "recall_over_time": _figure("recall_over_time", drawings)
        or f"<p>Not measured, or no trace was recorded. {MEASURES_IT}</p>",
        "learning": (_figure("learning", drawings) + _learned(found.learning)) or learning,
    }


def _figure(name: str, drawings: Mapping[str, str]) -> str:
    if name not in drawings:
        return ""
    caption = f"<figcaption>{html.escape(CAPTIONS[name])}</figcaption>"
    return f"<figure>\n{drawings[name]}\n{caption}</figure>\n"


def _absent(points: pd.DataFrame) -> str:
    """Backends that were not measured at some place, and why."""
    rows = points[points.status != "measured"]
    if rows.empty:
        return ""
    items = []
    for (backend, reason), own in rows.groupby(["backend", "reason"]):
        places = ", ".join(
            f"{row.data} at N = {units.size(row.memory_size)}"
            for row in own.itertuples()
            if pd.notna(row.data) and pd.notna(row.memory_size)
        )
        name = models.look_of_backend(backend).label
        where = f" ({places})" if places else ""
        items.append(f"<li>{html.escape(f'{name}{where}: {reason}')}</li>")
    return f"<p>Not measured:</p>\n<ul>{''.join(items)}</ul>\n"


def _other_commit(points: pd.DataFrame, commit: str) -> str:
    others = points[~points.commit.isin([commit, ""])]
    if others.empty:
        return ""
    name, date = others.commit.iloc[0][:10], others.date.max()[:10]
    return f'<p class="note">Measured on another commit, {html.escape(f"{name}, {date}")}.</p>\n'


def _costs(costs: pd.DataFrame) -> str:
    """One table per kind of rows and trace, the first open."""
    if costs.empty:
        return f"<p>Not measured. {MEASURES_IT}</p>"
    head = ("N", "index", "recall wanted", "settings", "recall", "access", "search of 4",
            "update of a row", "build", "index per row")  # fmt: skip
    parts: list[str] = []
    for data in dict.fromkeys(costs.data):
        own = costs[costs.data == data]
        same = ["memory_size", "backend", "settings", "status"]
        rows = [_cost(group) for _, group in own.groupby(same, sort=False)]
        opened = "" if parts else " open"
        body = table(head, rows, {0, 4, 5, 6, 7, 8, 9})
        parts.append(f"<details{opened}><summary>{html.escape(data)}</summary>\n{body}</details>")
    return "\n".join(parts)


def _cost(group: pd.DataFrame) -> tuple[str, ...]:
    """The targets that one setting serves."""
    row = group.iloc[0]
    targets = ", ".join(f"{target:.2f}" for target in group.target)
    if row.status != "reached":
        targets += " not reached"
    return (
        units.size(row.memory_size),
        models.look_of_backend(row.backend).label,
        targets,
        row.settings,
        f"{row.recall:.3f}",
        *(_microseconds(row[name]) for name in ("access_us", "search_us", "update_us")),
        "-" if pd.isna(row.build_s) else units.seconds(row.build_s),
        "-" if pd.isna(row.bytes_per_row) else units.bytes_(row.bytes_per_row),
    )


def _microseconds(value: float) -> str:
    return "-" if pd.isna(value) else units.seconds(value * 1e-6)


def _wear(wear: pd.DataFrame) -> str:
    if wear.empty:
        return f"<p>Not measured. {MEASURES_IT}</p>"
    head = ("rows", "N", "index", "settings", "recall fresh", "worn", "worn / fresh",
            "search fresh", "worn", "worn / fresh", "remark")  # fmt: skip
    rows = [_worn(row) for _, row in wear.iterrows()]
    return table(head, rows, {1, 4, 5, 6, 7, 8, 9})


def _worn(row: pd.Series) -> tuple[str, ...]:
    place = (row.data, units.size(row.memory_size), models.look_of_backend(row.backend).label)
    if row.status != "measured":
        return (*place, row.settings, *["-"] * 6, row.status)
    return (
        *place,
        row.settings,
        *(f"{row[name]:.3f}" for name in ("recall_fresh", "recall_worn")),
        _ratio(row.recall_ratio),
        *(_microseconds(row[name]) for name in ("search_us_fresh", "search_us_worn")),
        _ratio(row.search_ratio),
        "",
    )


def _ratio(value: float) -> str:
    return "-" if pd.isna(value) else f"{value:.2f}"


def _learned(learning: pd.DataFrame) -> str:
    """How each run of learning ended."""
    if learning.empty:
        return ""
    head = ("task", "index", "seed", "minibatches", "last loss", "wrong bits", "time")
    rows = []
    for task in sorted(set(learning.task)):
        own = learning[learning.task == task]
        for backend in models.backends_in_order(own.backend):
            runs = own[own.backend == backend].groupby("seed", dropna=False)
            rows += [_run(task, backend, curve.sort_values("minibatch")) for _, curve in runs]
    return table(head, rows, {2, 3, 4, 5, 6})


def _run(task: str, backend: str, curve: pd.DataFrame) -> tuple[str, ...]:
    last: Any = curve.iloc[-1]
    return (
        task,
        models.look_of_backend(backend).label,
        "" if pd.isna(last.seed) else str(last.seed),
        units.size(last.minibatch),
        units.significant(last.loss),
        "-" if pd.isna(last.wrong_bits) else f"{last.wrong_bits:.4f}",
        "-" if pd.isna(last.seconds) else units.seconds(last.seconds),
    )
