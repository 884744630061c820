"""The page's sections on training runs, in the report or on a page of their own."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

import pandas as pd

from reports import (
    babi_page,
    learning_curves,
    learning_lines,
    learning_tables,
    models,
    omniglot_page,
    paper,
    runs,
    units,
)
from reports.markup import figure, table
from reports.runs import Runs

NOT_MEASURED = (
    "<h2>Learning the paper's tasks</h2>\n<p>No training runs were given: "
    "<code>python -m sam sweep</code> makes them, and <code>--runs DIR</code> adds them.</p>"
)
CAPTIONS = {
    "figure_2": (
        "Cost of training sequences, in bits: linear up to one bit, logarithmic above. Lines are "
        "means over seeds, as far as all of them go, shaded by one standard deviation; thin lines "
        "are single seeds that went on. A cross is a run that diverged. Each point is the mean "
        f"over a stretch of episodes, a run having at most {learning_curves.MOST_POINTS}; there is "
        "no other smoothing. The axis ends where the last model with a memory does. Where a "
        "curriculum led to the task, the cost is that of the levels it drew."
    ),
    "figure_3": (
        "Thin: single runs; thick: their mean, in which a run that has ended counts with the level "
        "it reached. A marker is where a run ended, a cross where it diverged."
    ),
    "figure_8": (
        "Held-out sequences, after training. Thick: means over seeds; thin: each of them; "
        "dashed: the same models with what they read replaced by zeros, which is what they can do "
        "without their memory. Dotted: the most pairs that any seed was trained on. Guessing costs "
        "a bit per bit asked for, and gets half of them wrong."
    ),
}
_HEAD = (
    *("task", "model", "run", "seeds", "episodes", "minutes", "level"),
    *("wrong bits", "best", "worst", "cost, bits", "zeroed: wrong bits", "zeroed: cost"),
    *("chance, bits", "all levels: wrong bits", "best", "worst"),
)
_GOAL = f"under {learning_curves.SOLVED:g} wrong bits"


def lead(found: Runs) -> str:
    """Where the runs were made, with what and of which commits."""
    every = found.settings.values()

    def known(*names: str) -> str:
        values = []
        for settings in every:
            value: Any = settings
            for name in names:
                value = value.get(name) if isinstance(value, Mapping) else None
            values.append("not recorded" if value is None else str(value))
        return ", ".join(sorted(set(values)))

    python, torch = (known("versions", name) for name in ("python", "torch"))
    return (
        f"{len(every)} runs; {known('machine', 'processor')}; Python {python}, torch {torch}; "
        f"commit {known('commit')}."
    )


def sections(found: Runs, drawings: Mapping[str, str]) -> str:
    """Figures, tables and settings, as HTML."""
    results = learning_tables.results(learning_tables.of_bits(found))
    graded = runs.of_tasks(found, lambda task: task != paper.BABI)  # whose levels are a difficulty
    reached = learning_tables.results(graded)
    parts = [
        "<h2>Figure 2: learning the paper's tasks</h2>",
        _figure("figure_2", drawings),
        _solved(results[~results.beyond]),
        _held_out(results[~results.beyond]),
        "<h2>Figure 3: the curriculum</h2>",
        _figure("figure_3", drawings),
        _curriculum(reached[reached.beyond]),
        _held_out(results[results.beyond]),
        omniglot_page.section(found, drawings),
        "<h2>Figure 8: generalisation</h2>",
        _figure("figure_8", drawings),
        babi_page.section(found, drawings),
        "<h2>How the runs differ from the paper's</h2>",
        f"<p>{html.escape(paper.TRAINING_NOTE)}</p>",
        _settings(learning_tables.settings(found)),
        _failures(found.runs),
        "<p>The numbers: <code>learning_results.csv</code>, <code>learning_evaluations.csv</code>, "
        "<code>learning_settings.csv</code> and <code>learning_curves.csv</code>.</p>",
    ]
    return "\n".join(filter(None, parts))


def _figure(name: str, drawings: Mapping[str, str]) -> str:
    if name not in drawings:
        return "<p>Not measured: no run for it.</p>"
    return figure(drawings[name], CAPTIONS[name])


def _which(row: pd.Series) -> tuple[str, str, str]:
    task = learning_lines.title(row.task)
    return task, models.look(row.model).label, str(row["name"])


def _solved(results: pd.DataFrame) -> str:
    """When the models first came under the goal in training."""
    if results.empty:
        return ""
    head = (
        "task",
        "model",
        "run",
        "seeds",
        "episodes",
        "minutes",
        _GOAL,
        "after episodes",
        "ended",
    )
    rows = [
        (*_which(row), *_budget(row), f"{row.solved} of {row.seeds}", _after(row), row.ends)
        for _, row in results.iterrows()
    ]
    words = (
        f"<p>In training: how many seeds came {_GOAL} per sequence in the mean of one line of "
        "metrics.jsonl (100 minibatches; with a curriculum, once it had reached the task's hardest "
        "level), and how many episodes the first and the last of them took.</p>"
    )
    return words + table(head, rows, {3, 4, 5, 6, 7})


def _after(row: pd.Series) -> str:
    if not row.solved:
        return "not reached"
    first, last = (units.size(row[f"solved_episodes_{end}"]) for end in ("first", "last"))
    return first if first == last else f"{first} to {last}"


def _curriculum(results: pd.DataFrame) -> str:
    """How far each model came in the curriculum."""
    if results.empty:
        return ""
    head = (*_HEAD[:6], "highest level", "least", "most", "ended")
    names = ("highest_level", "highest_level_least", "highest_level_most")
    rows = [
        (*_which(row), *_budget(row), *(_level(row[name]) for name in names), row.ends)
        for _, row in results.iterrows()
    ]
    return table(head, rows, {3, 4, 5, 6, 7, 8})


def _held_out(results: pd.DataFrame) -> str:
    """What the trained models do on held-out sequences."""
    if results.empty:
        return ""
    rows = []
    for _, row in results.iterrows():
        if not row.evaluated:
            rows.append((*_which(row), *_budget(row), "not evaluated", *["-"] * 10))
            continue
        values = ("wrong_bits", "wrong_bits_best", "wrong_bits_worst", "cost",
                  "wrong_bits_zeroed", "cost_zeroed", "chance",
                  "all_levels", "all_levels_best", "all_levels_worst")  # fmt: skip
        seeds, *spent = _budget(row)
        if row.evaluated < row.seeds:
            seeds = f"{row.evaluated} of {seeds}"
        numbers = (_bits(row[name]) for name in values)
        rows.append((*_which(row), seeds, *spent, _level(row.level), *numbers))
    words = (
        "<p>Held-out sequences, per sequence: mean over seeds, best and worst seed. Reads zeroed: "
        "what the same models do without what they read. Chance is the cost of guessing, which "
        "gets half as many bits wrong. All levels: the mean over every level that the task draws, "
        "where each was evaluated.</p>"
    )
    return words + table(_HEAD, rows, set(range(3, len(_HEAD))))


def _budget(row: pd.Series) -> tuple[str, str, str]:
    return str(row.seeds), units.size(row.episodes), units.significant(row.minutes, 2)


def _level(value: Any) -> str:
    return "-" if pd.isna(value) else units.size(round(float(value)))


def _bits(value: float) -> str:
    if pd.isna(value):
        return "-"
    return f"{value:.4f}" if abs(value) < 1 else units.significant(value)


def _settings(settings: pd.DataFrame) -> str:
    """Of each name what stands beside a setting of the paper and differs, then all the rest."""
    rows = []
    for name, own in settings.groupby("name", sort=False):
        first = own.iloc[0]
        theirs = own[own.paper.notna()]
        differing = [_beside(row) for _, row in theirs.iterrows() if row.value != row.paper]
        others = [f"{row.setting} {row.value}" for _, row in own[own.paper.isna()].iterrows()]
        task, model, _ = _which(first)
        nothing = "none" if len(theirs) else "it says nothing of them"
        rows.append((task, model, str(name), "; ".join(differing) or nothing, "; ".join(others)))
    head = ("task", "model", "run", "differs from the paper", "remark")
    body = table(head, rows, set())
    return f"<details><summary>Settings of {len(rows)} kinds of run</summary>\n{body}</details>"


def _beside(row: pd.Series) -> str:
    name = row.setting.rpartition(".")[2] if row.setting != "optimizer.name" else "optimizer"
    return f"{name} {row.value} (paper: {row.paper})"


def _failures(trained: pd.DataFrame) -> str:
    failed = trained[trained.error.notna()]
    items = "".join(
        f"<li>{html.escape(row['name'])}, seed {row.seed}: {html.escape(row.error)}</li>"
        for _, row in failed.iterrows()
    )
    return f'<h2>Runs that failed</h2>\n<ul class="problem">{items}</ul>' if items else ""
