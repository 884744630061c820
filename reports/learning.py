"""Files of the learning report: tables, figures, and a page of its own."""

from __future__ import annotations

import html
import re
from functools import partial
from pathlib import Path

import pandas as pd

from reports import (
    babi_figures,
    babi_results,
    drawing,
    folders,
    learning_curves,
    learning_figures,
    learning_page,
    learning_tables,
    lettering,
    omniglot_figures,
    omniglot_results,
    page,
    paper,
    paper_babi,
    runs,
)
from reports.folders import Files, Say
from reports.lettering import Lettering
from reports.runs import Runs
from reports.untrusted import Problem


def build(source: Path, out: Path, say: Say, complain: Say) -> Path:
    """Write figures, tables and learning.html on the runs below `source` into `out`.

    Returns the page. Raises `runs.NoRuns` or OSError, and leaves what stands in `out` as it was.
    """
    folders.check(out)
    found, problems = read(source, say, complain)
    letters = lettering.of(found.frames)
    if letters.note:
        complain(letters.note)
    files: Files = {}
    drawings = write(files, found, letters, say)
    files["learning.html"] = _page(found, drawings, letters.note, problems).encode("utf-8")
    return folders.put(files, out, last="learning.html")


def read(source: Path, say: Say, complain: Say) -> tuple[Runs, list[Problem]]:
    """The runs below `source`; `complain` gets a line for each thing that cannot be read."""
    found, problems = runs.load(source)
    for problem in problems:
        complain(f"not read: {problem}")
    say(f"read {len(found.runs)} training run(s) in {source}, {len(problems)} problem(s)")
    return found, problems


def write(files: Files, found: Runs, letters: Lettering, say: Say) -> dict[str, str]:
    """Add tables and figures to `files`; the figures as SVG elements, by name."""
    for name, rows in tables(found).items():
        files[f"{name}.csv"] = rows.to_csv(index=False, float_format="%.6g").encode("utf-8")
    chosen = {
        name: draw
        for module in (learning_figures, omniglot_figures, babi_figures)
        for name, draw in module.FIGURES.items()
        if module.has_data(found, name)
    }
    titles = {name: (draw.__doc__ or name).splitlines()[0] for name, draw in chosen.items()}
    shown = found.map(letters.on)
    drawn = {name: partial(draw, shown) for name, draw in chosen.items()}
    return drawing.draw(drawn, titles, letters, files, say)


def tables(found: Runs) -> dict[str, pd.DataFrame]:
    """What is written as CSV, by name: of bAbI and Omniglot only if there are runs of them."""
    bits = learning_tables.of_bits(found)
    made = {
        "learning_results": learning_tables.results(bits),
        "learning_settings": learning_tables.settings(found),
        "learning_evaluations": bits.evaluations.drop(columns="errors_by_presentation"),
        "learning_curves": learning_curves.thinned(found.lines).drop(columns=["run", "stretch"]),
    }
    if (found.runs.task == paper.BABI).any():
        made |= {
            "babi_results": babi_results.results(found).drop(columns="run"),
            "babi_summary": babi_results.summary(found),
            "babi_paper": paper_babi.table(),
        }
    if (found.runs.task == paper.OMNIGLOT).any():
        made["omniglot_results"] = omniglot_results.wide(omniglot_results.results(found))
    return made


def _page(found: Runs, drawings: dict[str, str], note: str, problems: list[Problem]) -> str:
    parts = {
        "style": page.resource("style.css"),
        "lead": html.escape(learning_page.lead(found)),
        "lettering": page.note(note),
        "sections": learning_page.sections(found, drawings),
        "not_read": page.problems(problems),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda name: parts[name[1]], page.resource("learning.html"))
