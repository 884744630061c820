"""Building a report: read, choose, compute, draw, and only then replace the last report."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from reports import (
    backend_figures,
    backend_tables,
    figures,
    files,
    growth,
    page,
    records,
    results,
    svg,
    tables,
    training_figures,
)
from reports.files import Problem, Run
from reports.records import Records

Say = Callable[[str], None]


@dataclass(frozen=True)
class Choice:
    """Which of the result files to report on; "" stands for any, the latest is taken."""

    machine: str = ""
    commit: str = ""
    env: str = ""


class NothingRead(Exception):
    """Raised when there is no result to report on."""


def build(source: Path, out: Path, choice: Choice, say: Say, complain: Say) -> Path:
    """Write the report on `source` into `out` and return its index.html.

    `say` gets a line per step, `complain` one per file that cannot be read. Raises `NothingRead`,
    `files.NoSuchRun` or `OSError`, and leaves what stands in `out` as it was.
    """
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
    with _beside(out) as folder:
        _write(Path(folder), run, frame, found, problems + malformed + wrong, others, say)
        return _move(Path(folder), out)


def _nothing(source: Path, problems: list[Problem]) -> str:
    if problems:
        return f"nothing could be read in {source}: {len(problems)} problem(s), each named above"
    return f"no result file in {source}: expected {source}/<machine>/<commit>-<environment>.json"


def _beside(out: Path) -> tempfile.TemporaryDirectory[str]:
    """A folder on the same file system as `out`, so that moving is atomic."""
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"{out} is not a directory")
    out.parent.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(prefix=".report-", dir=out.parent)


def _write(
    folder: Path,
    run: Run,
    frame: pd.DataFrame,
    found: Records,
    problems: list[Problem],
    others: list[Run],
    say: Say,
) -> None:
    ratios, slopes = tables.ratios(frame), growth.slopes(frame)
    written = {
        "results": frame,
        "ratios": ratios,
        "slopes": slopes,
        "backends": found.points,
        "costs": backend_tables.costs(found),
        "wear": backend_tables.wear(found),
        "recall_over_time": found.over_time,
        "learning": found.learning,
    }
    for name, rows in written.items():
        rows.to_csv(folder / f"{name}.csv", index=False)
    say(f"tables: {len(frame)} measurements, {len(ratios)} ratios, {len(slopes)} slopes")
    drawings = {}
    for name, draw in _drawn(frame, found).items():
        figure = draw()
        (folder / f"{name}.svg").write_text(svg.svg_text(figure), encoding="utf-8")
        figure.savefig(folder / f"{name}.png", dpi=svg.DPI)
        drawings[name] = svg.inline(figure, name, (draw.func.__doc__ or name).splitlines()[0])
        say(f"drew {name}")
    report = page.Report(run, frame, ratios, slopes, found, drawings, problems, others)
    (folder / "index.html").write_text(page.render(report), encoding="utf-8")


def _drawn(frame: pd.DataFrame, found: Records) -> dict[str, partial[Figure]]:
    """Every figure of asv's results, and of the records those that have anything to draw."""
    chosen = {name: partial(draw, frame) for name, draw in figures.FIGURES.items()}
    for module in (backend_figures, training_figures):
        for name, draw in module.FIGURES.items():
            if module.has_data(found, name):
                chosen[name] = partial(draw, found)
    return chosen


def _move(folder: Path, out: Path) -> Path:
    """Move file by file (other files in `out` are the user's), the page last."""
    out.mkdir(exist_ok=True)
    for path in sorted(folder.iterdir(), key=lambda path: path.name == "index.html"):
        os.replace(path, out / path.name)
    return out / "index.html"
