"""Building a report: read, choose, compute, draw, and only then replace the last report."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from reports import (
    backend_figures,
    backend_tables,
    drawing,
    figures,
    files,
    folders,
    growth,
    learning,
    learning_page,
    lettering,
    page,
    records,
    results,
    tables,
    training_figures,
)
from reports.files import Run
from reports.folders import Files, Say
from reports.lettering import Lettering
from reports.records import Records
from reports.untrusted import Problem


@dataclass(frozen=True)
class Choice:
    """Which of the result files to report on; "" stands for any, the latest is taken."""

    machine: str = ""
    commit: str = ""
    env: str = ""


class NothingRead(Exception):
    """Raised when there is no result to report on."""


def build(
    source: Path,
    out: Path,
    choice: Choice,
    say: Say,
    complain: Say,
    training: Path | None = None,
) -> Path:
    """Write the report on `source` into `out` and return its index.html.

    `say` gets a line per step, `complain` one per file that cannot be read. training: a folder of
    training runs to report on as well. Raises `NothingRead`, `files.NoSuchRun`, `runs.NoRuns` or
    `OSError`, and leaves what stands in `out` as it was.
    """
    folders.check(out)
    runs, problems = files.find_runs(source)
    for problem in problems:
        complain(f"not read: {problem}")
    if not runs:
        raise NothingRead(_nothing(source, problems))
    say(f"read {len(runs)} result file(s) in {source}, {len(problems)} not read")
    run = files.choose(runs, choice.machine, choice.commit, choice.env)
    say(f"machine {run.machine}, commit {run.commit[:10]}: {run.path.name}")
    frame, malformed = results.tidy(run)
    found, wrong = records.load(run.path.resolve().parent, run.commit)
    for problem in malformed + wrong:
        complain(f"not read: {problem}")
    if not (frame.status != "not run").any():
        raise NothingRead(f"{run.path}: holds no benchmark that could be read")
    others = [other for other in runs if other is not run]
    trained, unread = learning.read(training, say, complain) if training else (None, [])
    all_problems = problems + malformed + wrong + unread
    letters = lettering.of((frame, *found.frames, *(trained.frames if trained else ())))
    if letters.note:
        complain(letters.note)
    written: Files = {}
    tasks = learning_page.NOT_MEASURED
    if trained:
        drawings = learning.write(written, trained, letters, say)
        tasks = learning_page.sections(trained, drawings)
    _write(written, run, frame, found, letters, tasks, all_problems, others, say)
    return folders.put(written, out, last="index.html")


def _nothing(source: Path, problems: list[Problem]) -> str:
    if problems:
        return f"nothing could be read in {source}: {len(problems)} problem(s), each named above"
    return f"no result file in {source}: expected {source}/<machine>/<commit>-<environment>.json"


def _write(
    written: Files,
    run: Run,
    frame: pd.DataFrame,
    found: Records,
    letters: Lettering,
    tasks: str,
    problems: list[Problem],
    others: list[Run],
    say: Say,
) -> None:
    ratios, slopes = tables.ratios(frame), growth.slopes(frame)
    made = {
        "results": frame,
        "ratios": ratios,
        "slopes": slopes,
        "backends": found.points,
        "costs": backend_tables.costs(found),
        "wear": backend_tables.wear(found),
        "recall_over_time": found.over_time,
        "learning": found.learning,
    }
    for name, rows in made.items():
        written[f"{name}.csv"] = rows.to_csv(index=False).encode("utf-8")
    say(f"tables: {len(frame)} measurements, {len(ratios)} ratios, {len(slopes)} slopes")
    chosen = _chosen(letters.on(frame), found.map(letters.on))
    titles = {name: (draw.func.__doc__ or name).splitlines()[0] for name, draw in chosen.items()}
    drawings = drawing.draw(chosen, titles, letters, written, say)
    report = page.Report(
        run, frame, ratios, slopes, found, drawings, letters.note, tasks, problems, others
    )
    written["index.html"] = page.render(report).encode("utf-8")


def _chosen(frame: pd.DataFrame, found: Records) -> dict[str, partial[Figure]]:
    """Every figure of asv's results, and of the records those that have anything to draw."""
    chosen = {name: partial(draw, frame) for name, draw in figures.FIGURES.items()}
    for module in (backend_figures, training_figures):
        for name, draw in module.FIGURES.items():
            if module.has_data(found, name):
                chosen[name] = partial(draw, found)
    return chosen
