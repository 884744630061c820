"""The page's section on bAbI."""

from __future__ import annotations

import html
from collections.abc import Mapping
from itertools import groupby

import pandas as pd

from reports import answers, babi_results, paper_babi
from reports.markup import Cell, figure, table
from reports.paper_babi import FAILED
from reports.runs import Runs

HEADING = "<h2>bAbI: one model over all twenty tasks</h2>"
CAPTIONS = {
    "babi": (
        "Per task, the share of the test questions with a wrong word in the answer: linear up to "
        f"{FAILED:g} %, where a task counts as solved, logarithmic beyond. Filled: of the runs "
        "here the one with the lowest mean validation error; hollow: the paper's."
    ),
    "babi_training": (
        "Training stories, drawn evenly from the twenty tasks; the cost is linear up to one bit, "
        "logarithmic above. Means over seeds, shaded by one standard deviation; each point is the "
        "mean over a stretch of episodes. An episode is a story."
    ),
}
NOTES = (
    "The best run is the one with the lowest mean validation error over the tasks; its test error "
    f"has no part in the choice. A task is failed with a test error above {FAILED:g} %. Reads "
    "zeroed: what the same models do without what they read. Episodes and hours are those of one "
    "run, up to its evaluation.",
    "Archives of the release may lack the 10,000 training questions of task 3; where the archive "
    "lacks it, task 3 was trained on 385 distinct stories. So the mean over the other 19 tasks "
    "stands beside that over all.",
    paper_babi.NOTE,
)
_HEAD = (
    *("model", "seeds", "episodes", "hours"),
    *("best run", "failed", "mean ± s.d.", "without task 3", "reads zeroed"),
    *("best run", "failed", "mean ± s.d.", "ended"),
)
_GROUPS = (("", 4), ("here: mean error, %, and failed tasks", 5), ("the paper", 3), ("", 1))
_TABLES = {
    "best": (
        "<h3>Test error by task, best runs, %</h3>\n"
        f"<p>Bold: solved, at most {FAILED:g} %. Grey: failed.</p>"
    ),
    "mean": (
        "<h3>Test error by task, mean ± s.d. over seeds, %</h3>\n"
        "<p>Marked alike. A single seed has no standard deviation.</p>"
    ),
}
_FAILED = {True: "failing", False: "solved"}  # classes of the style sheet


def section(found: Runs, drawings: Mapping[str, str]) -> str:
    """Figures, tables and notes on the runs of bAbI, as HTML."""
    own = babi_results.of_babi(found)
    if own.runs.empty:
        return f"{HEADING}\n<p>Not measured: no run for it.</p>"
    parts = [
        HEADING,
        _summary(own),
        *(
            f"<p>{html.escape(note)}</p>"
            for note in (*NOTES, answers.outside_the_model(own))
            if note
        ),
        *(figure(drawings[name], CAPTIONS[name]) for name in CAPTIONS if name in drawings),
    ]
    if not babi_results.results(own).empty:
        parts += [_by_task(own, kind, words) for kind, words in _TABLES.items()]
    parts.append(
        "<p>The numbers: <code>babi_results.csv</code>, <code>babi_summary.csv</code> and "
        "<code>babi_paper.csv</code>.</p>"
    )
    return "\n".join(parts)


def _summary(found: Runs) -> str:
    """A row per kind of run: what it took, what it came to, what the paper's came to."""
    results = babi_results.summary(found).set_index("name")
    rows = []
    for curve in babi_results.curves(found.runs):
        took = answers.effort(found, found.runs[found.runs.name == curve.name])
        row = results.loc[curve.name]
        ended = took.ended
        if 0 < row.tasks < len(paper_babi.TASKS):
            ended += f"; {row.tasks} of {len(paper_babi.TASKS)} tasks evaluated"
        numbers = (
            *(_percent(row.error_best), _count(row.failed_best)),
            *(_spread(row.error_mean, row.error_sd), _percent(row.without_task_3_best)),
            *(_percent(row.zeroed_mean), _percent(row.paper_error_best)),
            *(_count(row.paper_failed_best), _spread(row.paper_error_mean, row.paper_error_sd)),
        )
        rows.append((curve.label, took.seeds, took.episodes, took.hours, *numbers, ended))
    return table(_HEAD, rows, set(range(1, len(_HEAD) - 1)), _GROUPS)


def _by_task(found: Runs, kind: str, words: str) -> str:
    """A row per task, and means: of each model ours and the paper's; kind: "best" or "mean"."""
    columns = babi_results.columns(found)
    labels = {"error": "mean", "without_task_3": "mean without task 3", "failed": "failed tasks"}
    rows: list[tuple[str | Cell, ...]] = [
        (str(task), name, *(_marked(column.errors.loc[str(task)], kind) for column in columns))
        for task, name in paper_babi.TASKS.items()
    ]
    rows += [
        ("", labels[total], *(_text(column.errors.loc[total], kind, total) for column in columns))
        for total in babi_results.TOTALS
    ]
    head = ("", "task", *("ours" if column.ours else "paper" for column in columns))
    over = [(label, len(list(own))) for label, own in groupby(columns, lambda each: each.label)]
    return words + table(head, rows, {0, *range(2, len(head))}, [("", 2), *over])


def _marked(errors: pd.Series, kind: str) -> Cell:
    """A task's error, told from others if the task is failed or solved."""
    value = errors[kind]
    return Cell(_text(errors, kind), "" if pd.isna(value) else _FAILED[value > FAILED])


def _text(errors: pd.Series, kind: str, total: str = "error") -> str:
    if kind == "mean":
        return _spread(errors["mean"], errors.sd)
    return _count(errors.best) if total == "failed" else _percent(errors.best)


def _percent(value: float) -> str:
    return "-" if pd.isna(value) else f"{value:.1f}"


def _count(value: float) -> str:
    return "-" if pd.isna(value) else f"{value:.0f}"


def _spread(mean: float, sd: float) -> str:
    return _percent(mean) if pd.isna(sd) else f"{mean:.1f} ± {sd:.1f}"
