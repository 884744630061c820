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
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

from asv.machine import Machine

HERE = Path(__file__).parent
RESULTS = HERE.parent / ".asv" / "results"
SUITES = ["recall", "step_time", "sequence_time", "training_memory", "initial_memory"]
ONE_THREAD = {
    f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS", "NUMBA", "VECLIB")
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--profile", choices=["quick", "figure", "full"], default="quick")
    parser.add_argument("--suite", choices=SUITES, action="append", help="only this; repeatable")
    parser.add_argument("--fresh", action="store_true", help="measure again what was measured")
    arguments = parser.parse_args()

    commit, changes = git("rev-parse", "HEAD"), git("diff", "HEAD")
    code = f"{commit} {hashlib.sha256(changes.encode()).hexdigest()}" if changes else commit
    asv("machine", "--yes", quiet=True)
    folder = RESULTS / Machine.load(interactive=False).machine
    folder.mkdir(parents=True, exist_ok=True)
    progress = folder / f"finished-{arguments.profile}.jsonl"
    finished = [] if arguments.fresh else read_json(progress).get(code, [])
    for suite in arguments.suite or SUITES:
        if suite in finished:
            print(f"{suite}: measured before on this code, kept (--fresh measures again)")
            continue
        print(f"{suite}: {arguments.profile} profile", flush=True)
        status = run_suite(suite, arguments.profile, commit, folder)
        write_json(folder / "environment.jsonl", environment(commit, changes, arguments.profile))
        if status == 0:
            finished.append(suite)
            write_json(progress, {code: finished})
        else:
            print(f"{suite}: some of its benchmarks failed, as the report will show")
    return 0


def run_suite(suite: str, profile: str, commit: str, folder: Path) -> int:
    """asv's exit status; without the commit's hash it would not save what it measures here."""
    reasons = folder / f"reasons-{suite}.jsonl"
    reasons.unlink(missing_ok=True)
    variables = {"SAM_BENCH_PROFILE": profile, "SAM_BENCH_REASONS": str(reasons.absolute())}
    return asv(
        *("run", "--environment", "existing:same", "--set-commit-hash", commit),
        *("--bench", rf"^{suite}\.", "--machine", folder.name),
        variables=variables,
    )


def asv(
    command: str, *options: str, variables: dict[str, str] | None = None, quiet: bool = False
) -> int:
    """Run asv on the suites here; returns its exit status."""
    return subprocess.run(
        [sys.executable, "-m", "asv", command, "--config", str(HERE / "asv.conf.json"), *options],
        env=os.environ | ONE_THREAD | (variables or {}),
        stdout=subprocess.DEVNULL if quiet else None,
        check=False,
    ).returncode


def environment(commit: str, changes: str, profile: str) -> dict[str, object]:
    """What a reader needs to judge the figures, beside what asv says of the machine."""
    versions = {name: importlib.metadata.version(name) for name in ("torch", "numpy", "numba")}
    return {
        "command": f"python asv_bench/run.py --profile {profile}",
        "profile": profile,
        "threads": 1,
        "commit": commit,
        "uncommitted_changes": bool(changes),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        **versions,
    }


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
