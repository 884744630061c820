"""Measure recall against cost of every backend, its wear, and its answers to recorded traces.

    python -m asv_bench.frontier [--profile quick|full] [--memory-size N ...] [--data KIND ...]
                                 [--backend NAME ...] [--wear-seconds S] [--machine NAME] [--fresh]

One build per memory size, kind of rows and backend; then all its search settings, then wear. A
finished point is added to `backends.jsonl` beside asv's results of this machine, and a run that
was stopped goes on where it stopped unless `--fresh` is given. One thread, in this environment.
"""

from __future__ import annotations

import argparse
import os
import sys

from asv_bench import provenance, run
from asv_bench.benchmarks import grid

SIZES = {"quick": [1024, 65536], "full": grid.BACKEND_SIZES}
WEAR_SECONDS = {"quick": 30.0, "full": 240.0}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m asv_bench.frontier", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--profile", choices=SIZES, default="quick", help="sizes and patience")
    parser.add_argument("--memory-size", type=int, nargs="+", metavar="N", help="of kinds of rows")
    parser.add_argument(
        "--data",
        nargs="+",
        choices=[*grid.DATA, "traces"],
        default=[*grid.DATA, "traces"],
        metavar="KIND",
        help=f"kinds of rows, or recorded traces: {', '.join(grid.DATA)}, traces (default: all)",
    )
    parser.add_argument("--backend", nargs="+", metavar="NAME", help="default: every known one")
    parser.add_argument("--wear-seconds", type=float, metavar="S", help="at most, for updates")
    run.add_machine_option(parser)
    parser.add_argument("--fresh", action="store_true", help="measure again what was measured")
    arguments = parser.parse_args()
    # Before numpy and numba are imported, which read them then.
    os.environ |= run.ONE_THREAD
    from asv_bench.frontier import plan
    from asv_bench.frontier.journal import Journal

    provenance.check_own_imports()
    path = run.machine_folder(arguments.machine) / "backends.jsonl"
    journal = Journal(path, fresh=arguments.fresh)
    points = plan.points(
        plan.chosen(arguments.backend or grid.BACKENDS, journal),
        arguments.memory_size or SIZES[arguments.profile],
        arguments.data,
        arguments.wear_seconds or WEAR_SECONDS[arguments.profile],
    )
    return 0 if plan.carry_out(points, journal) else 1


if __name__ == "__main__":
    sys.exit(main())
