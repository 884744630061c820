"""The command line: `python -m reports build RESULTS --out DIR`, and `learning RUNS`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from reports import build, files, learning, runs
from reports.text import visible

_EXAMPLES = """\
examples:
  python -m reports build .asv/results
  python -m reports build .asv/results --machine laptop --commit 1a2b3c4 --out /tmp/report
  python -m reports build .asv/results/laptop/1a2b3c4d-existing.json
  python -m reports build .asv/results --runs runs
  python -m reports learning runs --out /tmp/learning
  python -m reports list .asv/results

exit status: 0 with a report (files that could not be read are named on stderr and in the report),
1 without one (a report that stood there before stays as it was), 2 for a wrong command line,
130 if interrupted.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    choice = build.Choice(options.machine, options.commit, options.env)
    try:
        if options.command == "list":
            return _list(options.results)
        if options.command == "learning":
            index = learning.build(options.runs, options.out, _say, _complain)
        else:
            index = build.build(options.results, options.out, choice, _say, _complain, options.runs)
    except (build.NothingRead, files.NoSuchRun, runs.NoRuns, OSError) as error:
        _complain(f"no report: {error}")
        return 1
    except KeyboardInterrupt:
        _complain("no report: interrupted")
        return 130
    _say(f"report: {index}")
    return 0


def _say(message: str) -> None:
    _print(message, sys.stdout)


def _complain(message: str) -> None:
    _print(message, sys.stderr)


def _print(message: str, file: TextIO | None) -> None:
    """Print a line; what the terminal has no letters for, and what would steer it, as numbers.

    A report does not depend on whether anyone can read how it is made.
    """
    if file is None:
        return
    encoding = file.encoding or "utf-8"
    text = visible(message).encode(encoding, "backslashreplace").decode(encoding)
    try:
        print(text, file=file, flush=True)
    except OSError:  # a closed pipe, a full disk: from now on nothing is printed
        os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())


def _list(source: Path) -> int:
    runs, problems = files.find_runs(source)
    for run in runs:
        date = run.date.date().isoformat() if run.date else "no date"
        _say(f"{run.machine}  {run.commit[:10]}  {date}  {run.path}")
    for problem in problems:
        _complain(f"not read: {problem}")
    if not runs:
        _complain(f"no result file in {source}")
    return 0 if runs else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m reports",
        description=(
            "The paper's Figures 1 and 7 from asv results; 2, 3, 4, 8 and its bAbI tables from "
            "training runs."
        ),
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    # `list` takes no choice; build always has one.
    parser.set_defaults(machine="", commit="", env="")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    job = commands.add_parser(
        "build",
        help="write index.html, tables and figures",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_results(job)
    _add_out(job)
    job.add_argument(
        "--runs",
        type=Path,
        metavar="DIR",
        help="training runs to report on as well (Figures 2, 3, 4, 8 and bAbI)",
    )
    job.add_argument("--machine", default="", metavar="NAME", help="only this machine's results")
    job.add_argument(
        "--commit",
        default="",
        metavar="HASH",
        help="this commit, a prefix will do (default: latest)",
    )
    job.add_argument(
        "--env", default="", metavar="TEXT", help="only environments whose name contains TEXT"
    )
    job = commands.add_parser("learning", help="write the report on training runs alone")
    job.add_argument(
        "runs", type=Path, metavar="RUNS", help="a folder of runs of `python -m sam train` or sweep"
    )
    _add_out(job)
    _add_results(commands.add_parser("list", help="list the result files there are"))
    return parser


def _add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("build/report"),
        metavar="DIR",
        help="folder of the report (default: %(default)s); other files in it are left alone",
    )


def _add_results(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "results",
        type=Path,
        metavar="RESULTS",
        help="an asv results directory, one machine's folder in it, or one result file",
    )


if __name__ == "__main__":
    sys.exit(main())
