"""Run the asv suites on the code as it stands, one thread, in this environment.

    python asv_bench/run.py [--profile quick|figure|full] [--suite NAME ...] [--machine NAME]
                            [--fresh]

Results go where `asv.conf.json` says, under the commit that is checked out, which must be what
Python imports. Beside them are `provenance.jsonl` (for each point that was measured: on which
commit, changes and versions, in which profile), `environment.jsonl` (the same in one for all the
points of the commit) and `reasons-SUITE.jsonl` (why points were left out). Each suite is saved
when it ends; a run that was stopped goes on with the suites that are missing unless `--fresh` is
given. What is kept is found by the machine's name; `--machine` gives one that stays.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from asv.machine import Machine, MachineCollection
from asv.util import UserError

HERE = Path(__file__).parent
if not __package__:  # run as a program
    sys.path.insert(0, str(HERE.parent))

from asv_bench import json_lines, provenance  # noqa: E402

RESULTS = HERE.parent / ".asv" / "results"
SUITES = [
    *("backends", "traces"),
    *("step_time", "sequence_time", "training_memory", "initial_memory"),
    *("linked_time", "total_memory"),
]
ONE_THREAD = {
    f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS", "NUMBA", "VECLIB")
}
KINDS = ("time_", "track_")
Point = tuple[object, ...]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--profile", choices=["quick", "figure", "full"], default="quick")
    parser.add_argument("--suite", choices=SUITES, action="append", help="only this; repeatable")
    add_machine_option(parser)
    parser.add_argument("--fresh", action="store_true", help="measure again what was measured")
    arguments = parser.parse_args()

    provenance.check_imports()
    folder = machine_folder(arguments.machine)
    os.environ["SAM_BENCH_PROFILE"] = arguments.profile
    code = provenance.code()
    progress = folder / f"finished-{arguments.profile}.jsonl"
    finished = [] if arguments.fresh else read_finished(progress).get(str(code), [])
    for suite in arguments.suite or SUITES:
        if suite in finished:
            print(f"{suite}: measured before on this code, kept (--fresh measures again)")
            continue
        print(f"{suite}: {arguments.profile} profile", flush=True)
        status = run_suite(suite, code, folder)
        if provenance.code() != code:
            sys.exit(f"{suite}: the code was changed while it was measured; start again")
        if status == 0:
            finished.append(suite)
            write_json(progress, {str(code): finished})
        else:
            print(f"{suite}: some of its benchmarks failed, as the report will show")
    return 0


def run_suite(suite: str, code: provenance.Code, folder: Path) -> int:
    """asv's exit status; without the commit's hash it would not save what it measures here."""
    chosen, reasons = sort_points(suite)
    lines = "".join(json.dumps(reason) + "\n" for reason in reasons)
    (folder / f"reasons-{suite}.jsonl").write_text(lines)
    if not chosen:
        print(f"{suite}: nothing to measure in this profile")
        return 0
    if code.changes:
        note(suite, chosen, code, folder)  # whatever becomes of the run, asv may keep some of it
    status = asv(
        *("run", "--environment", "existing:same", "--set-commit-hash", code.commit),
        *("--bench", f"^{suite}\\.(?:{'|'.join(map(pattern, chosen))})$"),
        *("--machine", folder.name),
    )
    note(suite, chosen, code, folder)
    return status


def pattern(point: Point) -> str:
    """A regular expression for asv's names of the benchmarks of a class at a point."""
    owner, *parameters = point
    return rf"{owner}\.\w+" + re.escape(f"({', '.join(map(repr, parameters))})")


def note(suite: str, points: list[Point], code: provenance.Code, folder: Path) -> None:
    """Write down what the points of a suite were measured on."""
    profile = os.environ["SAM_BENCH_PROFILE"]
    origin = provenance.origin(code) | {
        "profile": profile,
        "command": f"python asv_bench/run.py --profile {profile}",
    }
    path = folder / "provenance.jsonl"
    json_lines.append(path, [{"suite": suite, "points": points} | origin])
    edited = provenance.any_edited(json_lines.read(path), code.commit)
    versions = provenance.versions()
    write_json(folder / "environment.jsonl", origin | versions | {"uncommitted_changes": edited})


def sort_points(suite: str) -> tuple[list[Point], list[dict[str, Any]]]:
    """Of a suite, class and parameters of the points in the profile, and why others are left out.

    asv itself would start a process for each, only to learn that there is nothing to do.
    """
    points, reasons = [], []
    for owner in suites_in(suite):
        for point in itertools.product(*owner.params):
            reason = owner().reason_to_skip(*point)
            if reason is None:
                points.append((owner.__name__, *point))
            else:
                entry = {"benchmark": owner.__name__, "params": point, "reason": reason}
                reasons.append(entry)
    return points, reasons


def suites_in(suite: str) -> list[type]:
    """The classes of a module of suites that asv finds benchmarks in."""
    module = importlib.import_module(f"asv_bench.benchmarks.{suite}")
    classes = [item for item in vars(module).values() if isinstance(item, type)]
    return [owner for owner in classes if any(name.startswith(KINDS) for name in dir(owner))]


def add_machine_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--machine",
        type=machine_name,
        metavar="NAME",
        help="what to file results under (default: the host's name)",
    )


def machine_name(text: str) -> str:
    """A name that can be a folder's."""
    if not re.fullmatch(r"\w[\w.-]{0,59}(?<!\.json)", text):
        raise argparse.ArgumentTypeError(
            f"got {text!r}, expected letters, digits and any of _ - . (not first), at most 60, and "
            "no .json at the end, as asv's files beside the machines' folders have"
        )
    return text


def machine_folder(name: str | None = None) -> Path:
    """Where asv keeps the results of this machine, or of one of that name."""
    known = None
    if name is None:
        asv("machine", "--yes", quiet=True)
        name = Machine.load(interactive=False).machine
    else:
        with contextlib.suppress(UserError):  # it is not known yet
            known = MachineCollection.load(name)["machine"]
        if known != name:
            MachineCollection.save(name, Machine.get_defaults() | {"machine": name})
    folder = RESULTS / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def asv(command: str, *options: str, quiet: bool = False) -> int:
    """Run asv on the suites here; returns its exit status."""
    return subprocess.run(
        [sys.executable, "-m", "asv", command, "--config", str(HERE / "asv.conf.json"), *options],
        env=os.environ | ONE_THREAD,
        stdout=subprocess.DEVNULL if quiet else None,
        check=False,
    ).returncode


def read_finished(path: Path) -> dict[str, list[str]]:
    """What `main` noted; without a file, or with one that was cut short, nothing is finished."""
    lines = json_lines.read(path)
    return lines[-1] if lines and all(isinstance(each, list) for each in lines[-1].values()) else {}


def write_json(path: Path, content: object) -> None:
    """Replace a file, whole or not at all."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_text(json.dumps(content) + "\n")
    unfinished.replace(path)


if __name__ == "__main__":
    sys.exit(main())
