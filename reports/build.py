"""Building a report: read, choose, compute, draw, and only then replace the last report."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from reports import figures, files, page, results, svg, tables
from reports.files import Problem, Run

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
    for problem in malformed:
        complain(f"not read: {problem}")
    if not (frame.status != "not run").any():
        raise NothingRead(f"{run.path}: holds no benchmark that could be read")
    others = [other for other in runs if other is not run]
    with _beside(out) as folder:
        _write(Path(folder), run, frame, problems + malformed, others, say)
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
    problems: list[Problem],
    others: list[Run],
    say: Say,
) -> None:
    ratios, slopes = tables.ratios(frame), tables.slopes(frame)
    for name, rows in (("results", frame), ("ratios", ratios), ("slopes", slopes)):
        rows.to_csv(folder / f"{name}.csv", index=False)
    say(f"tables: {len(frame)} measurements, {len(ratios)} ratios, {len(slopes)} slopes")
    drawings = {}
    for name, draw in figures.FIGURES.items():
        figure = draw(frame)
        (folder / f"{name}.svg").write_text(svg.svg_text(figure), encoding="utf-8")
        figure.savefig(folder / f"{name}.png", dpi=svg.DPI)
        drawings[name] = svg.inline(figure, name, (draw.__doc__ or name).splitlines()[0])
        say(f"drew {name}")
    report = page.Report(run, frame, ratios, slopes, drawings, problems, others)
    (folder / "index.html").write_text(page.render(report), encoding="utf-8")


def _move(folder: Path, out: Path) -> Path:
    """Move file by file (other files in `out` are the user's), the page last."""
    out.mkdir(exist_ok=True)
    for path in sorted(folder.iterdir(), key=lambda path: path.name == "index.html"):
        os.replace(path, out / path.name)
    return out / "index.html"
