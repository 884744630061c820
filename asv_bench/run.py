"""Run the asv suites on the code as it stands, one thread, in this environment.

    python asv_bench/run.py [--profile quick|figure|full] [--suite NAME ...] [--fresh]

Results go where `asv.conf.json` says, under the commit that is checked out, with
`environment.jsonl` (what was run, on which versions) and `reasons-SUITE.jsonl` (why points were
left out) beside them. Each suite is saved when it ends; a run that was stopped goes on with the
suites that are missing unless `--fresh` is given.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import importlib
import importlib.metadata
import itertools
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from asv.machine import Machine

HERE = Path(__file__).parent
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
PACKAGES = ("torch", "numpy", "numba", "faiss-cpu", "hnswlib", "pynndescent")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--profile", choices=["quick", "figure", "full"], default="quick")
    parser.add_argument("--suite", choices=SUITES, action="append", help="only this; repeatable")
    parser.add_argument("--fresh", action="store_true", help="measure again what was measured")
    arguments = parser.parse_args()

    commit, changes = git("rev-parse", "HEAD"), git("diff", "HEAD")
    folder = machine_folder()
    os.environ["SAM_BENCH_PROFILE"] = arguments.profile
    progress = folder / f"finished-{arguments.profile}.jsonl"
    finished = [] if arguments.fresh else read_json(progress).get(code(commit, changes), [])
    for suite in arguments.suite or SUITES:
        if suite in finished:
            print(f"{suite}: measured before on this code, kept (--fresh measures again)")
            continue
        print(f"{suite}: {arguments.profile} profile", flush=True)
        status = run_suite(suite, commit, folder)
        write_json(folder / "environment.jsonl", environment(commit, changes, arguments.profile))
        if status == 0:
            finished.append(suite)
            write_json(progress, {code(commit, changes): finished})
        else:
            print(f"{suite}: some of its benchmarks failed, as the report will show")
    return 0


def run_suite(suite: str, commit: str, folder: Path) -> int:
    """asv's exit status; without the commit's hash it would not save what it measures here."""
    points, reasons = sort_points(suite)
    lines = "".join(json.dumps(reason) + "\n" for reason in reasons)
    (folder / f"reasons-{suite}.jsonl").write_text(lines)
    if not points:
        print(f"{suite}: nothing to measure in this profile")
        return 0
    return asv(
        *("run", "--environment", "existing:same", "--set-commit-hash", commit),
        *("--bench", f"^{suite}\\.(?:{'|'.join(points)})$", "--machine", folder.name),
    )


def sort_points(suite: str) -> tuple[list[str], list[dict[str, Any]]]:
    """Of a suite, patterns of the points in the profile, and why the others are left out.

    asv itself would start a process for each, only to learn that there is nothing to do.
    """
    points, reasons = [], []
    for owner in suites_in(suite):
        for point in itertools.product(*owner.params):
            reason = owner().reason_to_skip(*point)
            if reason is None:
                listed = ", ".join(map(repr, point))
                points.append(rf"{owner.__name__}\.\w+{re.escape(f'({listed})')}")
            else:
                entry = {"benchmark": owner.__name__, "params": point, "reason": reason}
                reasons.append(entry)
    return points, reasons


def suites_in(suite: str) -> list[type]:
    """The classes of a module of suites that asv finds benchmarks in."""
    module = importlib.import_module(f"benchmarks.{suite}")
    classes = [item for item in vars(module).values() if isinstance(item, type)]
    return [owner for owner in classes if any(name.startswith(KINDS) for name in dir(owner))]


def machine_folder() -> Path:
    """Where asv keeps the results of this machine."""
    asv("machine", "--yes", quiet=True)
    folder = RESULTS / Machine.load(interactive=False).machine
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


def environment(commit: str, changes: str, profile: str) -> dict[str, object]:
    """What a reader needs to judge the figures, beside what asv says of the machine."""
    return {
        "command": f"python asv_bench/run.py --profile {profile}",
        "profile": profile,
        "threads": 1,
        "commit": commit,
        "uncommitted_changes": bool(changes),
        "date": now(),
        "python": platform.python_version(),
        **versions(),
    }


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Of the packages measured or measured with, those that are installed."""
    installed = {item.name: item.version for item in importlib.metadata.distributions()}
    return {name: installed[name] for name in PACKAGES if name in installed}


def code(commit: str, changes: str) -> str:
    """Stands for the code as it is: the commit, and what differs from it."""
    return f"{commit} {hashlib.sha256(changes.encode()).hexdigest()}" if changes else commit


def git(*arguments: str) -> str:
    """What git prints, run on this project."""
    done = subprocess.run(
        ["git", *arguments], cwd=HERE, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"asv files results by commit, so a git clone is needed: {done.stderr.strip()}")
    return done.stdout.strip()


def read_json(path: Path) -> dict[str, list[str]]:
    return json.loads(path.read_text()) if path.exists() else {}


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content) + "\n")


if __name__ == "__main__":
    sys.exit(main())
