"""The report's page: one file that needs nothing else."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from importlib import resources

import pandas as pd

from reports import backend_page, facts, growth, metrics, missing, models, paper, units
from reports.files import Run
from reports.markup import table
from reports.records import Records
from reports.untrusted import Problem


@dataclass(frozen=True)
class Report:
    """All that a page shows; `others` are the result files not used."""

    run: Run
    frame: pd.DataFrame
    ratios: pd.DataFrame
    slopes: pd.DataFrame
    records: Records
    figures: dict[str, str]  # name -> <svg> element; of the records those with anything to draw
    note: str  # on their letters; may be empty
    tasks: str  # the sections on training runs, as HTML
    problems: list[Problem]
    others: list[Run]


def render(report: Report) -> str:
    """The page's HTML."""
    known = facts.facts(report.run)
    counts = report.frame.status.value_counts()
    summary = ", ".join(f"{count} {status}" for status, count in counts.items())
    parts = {
        "title": f"Sparse access memory: {known['Machine']} at {report.run.commit[:10]}",
        "lead": facts.lead(known),
        "last_points": str(growth.LAST_POINTS),
        "paper_note": paper.NTM_NOTE,
        "data_summary": f"{len(report.frame)} rows: {summary}",
        "source": report.run.path.name,
    }
    parts = {key: html.escape(text) for key, text in parts.items()}
    parts |= {
        "style": resource("style.css"),
        "facts": "\n".join(_fact(*item) for item in known.items()),
        "cards": "\n".join(_card(row) for _, row in report.ratios.iterrows() if row.headline),
        "ratios": _ratios(report.ratios),
        "slopes": _slopes(report.slopes),
        "missing": _missing(report.frame),
        "lettering": note(report.note),
        "not_read": problems(report.problems),
        "tasks": report.tasks,
        "data": _data(report.frame),
        "unknown": _unknown(report.frame),
        "other_runs": _other_runs(report.others),
    }
    parts |= {name: _figure(report, name) for name in missing.DRAWN}
    parts |= backend_page.sections(report.records, report.figures, report.run.commit)
    # One pass, so that braces inside a part are never taken for a placeholder.
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], resource("template.html"))


def resource(name: str) -> str:
    """The text of a file of this package."""
    return resources.files("reports").joinpath(name).read_text(encoding="utf-8")


def _fact(label: str, value: str) -> str:
    return f"<div><dt>{html.escape(label)}</dt><dd>{html.escape(value)}</dd></div>"


def _size(value: object) -> str:
    return "" if pd.isna(value) else units.size(float(str(value)))


def _measured(row: pd.Series) -> str:
    return units.quantity(row.measured, row.unit) if pd.notna(row.measured) else str(row.status)


def _card(row: pd.Series) -> str:
    kind = "big" if pd.notna(row.measured) else "big none"
    where = f"at {_size(row.memory_size)} words; " if pd.notna(row.memory_size) else ""
    said = f"paper: {row.paper_text}"
    if pd.notna(row.paper_memory_size):
        said += f" at {_size(row.paper_memory_size)}"
    if pd.isna(row.measured):
        where = ""
    note = f"<p>{html.escape(row.note)}</p>" if row.note else ""
    return (
        f'<article class="card"><h3>{html.escape(row.label)}</h3>'
        f'<p class="{kind}">{html.escape(_measured(row))}</p>'
        f"<p>{html.escape(where + said)}</p>{note}</article>"
    )


def _ratios(ratios: pd.DataFrame) -> str:
    head = ("quantity", "words N", "T", "measured", "paper", "paper's N", "measured / paper",
            "remark")  # fmt: skip
    rows = []
    for _, row in ratios.iterrows():
        quotient = row.measured_over_paper
        remark = "; ".join(filter(None, (row.note, row.source and f"paper: {row.source}")))
        rows.append(
            (
                row.label,
                _size(row.memory_size),
                _size(row.sequence_length),
                _measured(row),
                row.paper_text,
                _size(row.paper_memory_size),
                "-" if pd.isna(quotient) else units.significant(quotient, 2),
                remark,
            )
        )
    return table(head, rows, {1, 2, 4, 5, 6})


def _slopes(slopes: pd.DataFrame) -> str:
    if slopes.empty:
        return "<p>No model was measured at two sizes or more.</p>"
    head = ("quantity", "model", "against", "at", "range", "points", "slope", "slope, last")
    rows = []
    for _, row in slopes.iterrows():
        fixed = (
            ("T = ", _size(row.sequence_length)),
            ("N = ", _size(row.memory_size)),
            ("", "" if pd.isna(row.memory) else row.memory),
        )
        last = "-" if pd.isna(row.slope_last) else (
            f"{row.slope_last:.2f} (from {_size(row.last_smallest)})"
        )  # fmt: skip
        rows.append(
            (
                metrics.short_label(row.quantity),
                models.look(row.model).label,
                "N" if row.against == "memory_size" else "T",
                ", ".join(f"{name}{value}" for name, value in fixed if value),
                f"{_size(row.smallest)} to {_size(row.largest)}",
                str(row.points),
                f"{row.slope:.2f}",
                last,
            )
        )
    return table(head, rows, {5, 6, 7})


def _missing(frame: pd.DataFrame) -> str:
    groups = missing.missing(frame)
    if not groups:
        return "<p>Nothing: every benchmark was run and gave a value.</p>"
    rows = [
        (group.status, group.benchmark, group.model, group.sizes, str(group.count), group.reason)
        for group in groups
    ]
    counts = {status: sum(group.count for group in groups if group.status == status)
              for status in dict.fromkeys(group.status for group in groups)}  # fmt: skip
    words = ", ".join(f"{count} {status}" for status, count in counts.items())
    head = ("status", "benchmark", "model", "sizes", "number", "remark")
    return f"<p>{html.escape(words)}.</p>\n{table(head, rows, {4})}"


def note(words: str) -> str:
    """A remark, if there is one."""
    return f'<p class="note">{html.escape(words)}</p>' if words else ""


def problems(found: list[Problem]) -> str:
    """What could not be read, as a list."""
    if not found:
        return "<p>Every file was read.</p>"
    items = (f"<li><code>{html.escape(item.path)}</code>: {html.escape(item.reason)}</li>"
             for item in found)  # fmt: skip
    return f'<ul class="problem">{"".join(items)}</ul>'


def _data(frame: pd.DataFrame) -> str:
    head = ("quantity", "model", "N", "T", "other", "value", "quartiles", "samples", "status")
    named = frame.assign(model=frame.model.fillna(frame.backend))
    order = named.assign(rank=named.model.map(_ranks(named)).fillna(-1)).sort_values(
        ["quantity", "rank", "memory_size", "sequence_length", "data"], kind="stable"
    )
    rows = []
    for _, row in order.iterrows():
        quartiles = "" if pd.isna(row.q25) else " to ".join(
            units.quantity(value, row.unit) for value in (row.q25, row.q75)
        )  # fmt: skip
        rows.append(
            (
                row.quantity,
                "" if pd.isna(row.model) else row.model,
                _size(row.memory_size),
                _size(row.sequence_length),
                ", ".join(
                    text for text in (row.data, row.memory, row.parameters) if pd.notna(text)
                ),
                "" if pd.isna(row.value) else units.quantity(row.value, row.unit),
                quartiles,
                _size(row.samples),
                row.status,
            )
        )
    return table(head, rows, {2, 3, 5, 6, 7})


def _unknown(frame: pd.DataFrame) -> str:
    names = sorted(set(frame[~frame.benchmark.isin(metrics.BY_BENCHMARK)].benchmark))
    if not names:
        return ""
    listed = ", ".join(f"<code>{html.escape(name)}</code>" for name in names)
    return f"<p>Not known to this report, so only in this table and results.csv: {listed}.</p>"


def _ranks(frame: pd.DataFrame) -> dict[str, int]:
    return {name: rank for rank, name in enumerate(models.in_order(frame.model.dropna()))}


def _other_runs(others: list[Run]) -> str:
    if not others:
        return ""
    rows = [
        (
            run.machine,
            run.commit[:10],
            run.date.date().isoformat() if run.date else "",
            run.path.name,
        )
        for run in others
    ]
    listing = table(("machine", "commit", "date", "file"), rows, set())
    return f"<h2>Other result files, not used here</h2>\n{listing}"


def _figure(report: Report, name: str) -> str:
    caption = missing.caption(report.frame, name, facts.facts(report.run)["Threads"])
    words = f"<figcaption>{html.escape(caption)}</figcaption>"
    return f"<figure>\n{report.figures[name]}\n{words}</figure>"
