"""The page's section on Omniglot."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

import pandas as pd

from reports import answers, omniglot_results, units
from reports.learning_lines import Curve, curves
from reports.markup import figure, table
from reports.runs import Runs

HEADING = "<h2>Figure 4: Omniglot</h2>"
CAPTION = (
    "Characters of the test set, none of them seen in training. Left: over all presentations of "
    "all characters; thick: means over seeds; thin: each of them; dashed: with what the models "
    "read replaced by zeros; dotted: the most characters that any seed was trained on. A "
    "character's first presentation can only be guessed, so that who names all later ones right "
    "still errs about once in ten, where each is shown ten times. Hollow: what the paper says of "
    "its best runs by validation at 100 characters, over all presentations as far as it says. "
    "Right: the same names by whether it is a character's first presentation, its second and so "
    "on. Guessing one of a sequence's n characters is wrong with a probability of 1 - 1/n."
)
_HEAD = (
    *("model", "seeds", "episodes", "hours", "trained to", "all", "best run", "without first"),
    *("1st", "2nd", "last", "reads zeroed", "ended"),
)


def section(found: Runs, drawings: Mapping[str, str]) -> str:
    """Figure and tables on the runs of Omniglot, as HTML."""
    own = omniglot_results.of_omniglot(found)
    if own.runs.empty:
        return f"{HEADING}\n<p>Not measured: no run for it.</p>"
    rows = omniglot_results.results(own)
    test = rows[rows.split == "test"]
    parts = [HEADING]
    if "figure_4" in drawings:
        parts.append(figure(drawings["figure_4"], CAPTION))
    parts.append(_summary(own, test))
    if not test.empty:
        parts.append(_by_characters(rows))
    if took := answers.outside_the_model(own):
        parts.append(f"<p>{html.escape(took)}</p>")
    parts.append("<p>The numbers: <code>omniglot_results.csv</code>.</p>")
    return "\n".join(parts)


def _summary(found: Runs, test: pd.DataFrame) -> str:
    """What each kind of run took, and its errors at the level that all can be compared at."""
    level = None if test.empty else omniglot_results.common_level(found, test)
    made = omniglot_results.summary(found, level) if level else pd.DataFrame({"name": []})
    results, trained = made.set_index("name"), omniglot_results.trained_to(found)
    names = (
        "best",
        "without_first",
        "presentation_1",
        "presentation_2",
        "last_presentation",
        "zeroed",
    )
    rows = []
    for curve in curves(found.runs):
        own = found.runs[found.runs.name == curve.name]
        took = answers.effort(found, own)
        row = results.loc[curve.name] if curve.name in results.index else pd.Series(dtype=float)
        errors = (_spread(row), *(_share(row.get(name)) for name in names))
        spent = (took.seeds, took.episodes, took.hours, _trained(trained[own.run]))
        rows.append((curve.label, *spent, *errors, took.ended))
    if level:
        rows.append(("guessing", *["-"] * 4, _share(1 - 1 / level), *["-"] * 6, ""))
    words = (
        "<p>Shares of wrong names, means over seeds ± s.d.: over all presentations, over all but "
        "each character's first, and at the first, the second and the last alone. The best run is "
        "the one with the lowest error on the validation split with the most characters. Episodes "
        "and hours are those of one run, up to its evaluation.</p>"
    )
    over = f"test error at {level} characters" if level else "test error"
    groups = [("", 5), (over, 7), ("", 1)]
    return words + table(_HEAD, rows, set(range(1, len(_HEAD) - 1)), groups)


def _by_characters(rows: pd.DataFrame) -> str:
    """A row per kind of run and way of counting, a column per number of characters."""
    test = rows[rows.split == "test"]
    levels = sorted(set(map(int, test.characters)))
    lines: list[tuple[str, ...]] = []
    for curve in curves(test):
        for label, own, value in _ways(curve, rows):
            errors = omniglot_results.by_characters(own, value)
            if len(errors.dropna()):
                lines.append((curve.label, label, *(_share(errors.get(n)) for n in levels)))
    lines.append(("guessing", "all presentations", *(_share(1 - 1 / level) for level in levels)))
    head = ("model", "of", *map(units.size, levels))
    words = "<h3>Test error by number of characters</h3>\n"
    groups = [("", 2), ("characters in the sequence", len(levels))]
    return words + table(head, lines, set(range(2, len(head))), groups)


def _ways(curve: Curve, rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame, str]]:
    """What is counted, of which rows, and the column."""
    own = rows[rows.name == curve.name]
    kept = answers.kept(own, "test")
    ways = [("all presentations", kept, "error")]
    if own.run.nunique() > 1:
        best = kept[kept.run == omniglot_results.best_run(own)]
        ways.append(("all presentations, best run", best, "error"))
    zeroed = own[(own.split == "test") & (own.reads == "zeroed")]
    ways.append(("without the first", kept, "error_without_first"))
    return [*ways, ("all presentations, reads zeroed", zeroed, "error")]


def _trained(levels: pd.Series) -> str:
    if levels.isna().all():
        return "-"
    low, high = units.size(levels.min()), units.size(levels.max())
    return low if low == high else f"{low} to {high}"


def _spread(row: pd.Series) -> str:
    sd = row.get("sd")
    return _share(row.get("error")) + ("" if pd.isna(sd) else f" ± {sd:.2f}")


def _share(value: Any) -> str:
    return "-" if value is None or pd.isna(value) else f"{value:.3f}"
