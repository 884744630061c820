"""`python -m sam sweep`: many runs, here or on a cluster, which can be stopped and resumed."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path
from typing import Any

from sam import training
from sam.commands import train
from sam.commands.options import read_toml
from sam.commands.study import grid, runs_of
from sam.commands.terminal import say
from sam.training import RunSettings
from sam.training.sweeps import ENGINES, Place, Sweep

DESCRIPTION = """\
Train every model on every task, with every index and seed:

    python -m sam sweep --model sam ntm --task copy --ann exact kd_forest --seed 0 1 2 \\
        --episodes 100000 --out runs/copy

or the recipes of a study, a TOML file of shared settings, seeds = [0, 1, 2], and a table [[runs]]
for each recipe, with a name and the settings of its own:

    python -m sam sweep --config study.toml --out runs/study

Other flags hold for all runs whose model or task has such a setting. Each run has its folder
OUT/<name>/seed-<seed>, as of `python -m sam train`, with what it printed in output.txt. The table
is OUT/table.csv: a row per run, evaluated level, and reads kept or zeroed; times are in times.csv.

Ctrl-C and SIGTERM save all runs and stop; the same command goes on, even after a power cut: runs
that are done are kept. Exit status: 0 if all runs are trained, 1 if some failed, diverged or are
left, 2 for bad input, 128 + n when signal n stopped it.
"""


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "sweep",
        help="train many models, tasks, indexes and seeds",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="of all runs")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="NAME", help='or patterns, such as "copy/*"'
    )
    parser.add_argument(
        "--checkpoint-seconds", type=float, default=60.0, metavar="S", help="default: 60"
    )
    where = parser.add_argument_group("where")
    where.add_argument(
        "--engine", choices=ENGINES, default="processes", help="default: processes here"
    )
    where.add_argument("--jobs", type=int, metavar="N", help="runs at a time; default: all cores")
    where.add_argument(
        "--address", help="of a Ray or Dask cluster that shares OUT; default: one started here"
    )
    train.add_settings(parser, several=True)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    place = Place(arguments.engine, arguments.jobs, arguments.address)
    settings = settings_of(arguments)
    for rounding in dict.fromkeys(each.rounding for each in settings if each.rounding):
        say(rounding)
    swept = training.sweep(
        settings,
        arguments.out,
        place=place,
        only=arguments.only,
        checkpoint_seconds=arguments.checkpoint_seconds,
        say=say,
    )
    return report(swept, arguments.out)


def settings_of(arguments: argparse.Namespace) -> list[RunSettings]:
    """The runs that the flags and the file of recipes ask for."""
    study = read_toml(arguments.config) if arguments.config else {}
    lists = {name: getattr(arguments, name) for name in ("model", "task", "ann", "seed")}
    above = train.settings_of(argparse.Namespace(**vars(arguments) | dict.fromkeys(lists)))
    if lists["seed"]:
        above["seeds"] = lists["seed"]
    if "runs" not in study:
        models, tasks = (lists[name] or [study.get(name)] for name in ("model", "task"))
        return runs_of({**study, "runs": grid(models, tasks, lists["ann"] or [])}, above)
    for name in ("model", "task", "ann"):
        if lists[name]:
            raise ValueError(f"--{name}: got one, expected none beside a file with [[runs]]")
    return runs_of(study, above)


def report(swept: Sweep, folder: Path) -> int:
    """Say how a sweep ended; returns the exit status."""
    statuses = [run.outcome.status for run in swept.runs]
    counts = ", ".join(f"{statuses.count(each)} {each}" for each in sorted(set(statuses)))
    say(f"{counts}. The table is {folder / 'table.csv'}")
    if swept.stopped_by:
        say(f"Stopped by {swept.stopped_by}; the same command goes on")
        return 128 + signal.Signals[swept.stopped_by]
    return int(statuses.count("trained") < len(statuses))
