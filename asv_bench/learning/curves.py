"""How SAM learns with each index: loss curves on copy, all else equal.

    python -m asv_bench.learning.curves [--backend NAME ...] [--seeds N] [--minibatches N]
                                        [--machine NAME] [--fresh]

The task and the model are those of the learning test: copy of 1 to 10 words with a controller too
small to hold them. A finished run is added to `learning.jsonl` beside asv's results of this
machine; runs that are there already for this commit are left out unless `--fresh` is given.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from asv_bench import json_lines, provenance, run
from asv_bench.benchmarks import grid

# Minibatches that a point of a curve is the mean of.
POINT = 100


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m asv_bench.learning.curves", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--backend", nargs="+", metavar="NAME", help="default: every known one")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="runs per index")
    parser.add_argument(
        "--minibatches", type=int, default=6000, metavar="N", help="length of a run"
    )
    run.add_machine_option(parser)
    parser.add_argument("--fresh", action="store_true", help="run again what was run")
    arguments = parser.parse_args()
    # Before numpy and torch are imported, which read them then.
    os.environ |= run.ONE_THREAD

    provenance.check_own_imports()
    path = run.machine_folder(arguments.machine) / "learning.jsonl"
    code = provenance.code()
    done = set() if arguments.fresh else finished(path, str(code))
    for seed, backend in itertools.product(
        range(arguments.seeds), arguments.backend or grid.BACKENDS
    ):
        reason = grid.not_ready(backend)
        if reason or (backend, seed) in done:
            print(f"{backend}, seed {seed}: {reason or 'run before on this code, kept'}")
            continue
        print(f"{backend}, seed {seed}: ", end="", flush=True)
        record = learn(backend, seed, arguments.minibatches)
        print(f"{record['wrong_bits']:.2%} of the bits wrong after {record['seconds']:.0f} s")
        json_lines.append(path, [record | provenance.origin(code)])
    return 0


def learn(backend: str, seed: int, minibatches: int) -> dict[str, Any]:
    """One run: the curve, and the share of wrong bits at the longest length when it is over."""
    import torch

    import sam
    from asv_bench.learning import training

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    model = sam.SAM(**training.SMALL, k=grid.K, ann=backend)
    started = time.monotonic()
    losses = list(
        itertools.islice(training.minibatches(model, training.COPY, seed=seed), minibatches)
    )
    points = range(POINT, len(losses) + 1, POINT)
    return {
        "measure": "learning",
        "backend": backend,
        "task": "copy",
        "seed": seed,
        "minibatches": list(points),
        "loss": [statistics.fmean(losses[end - POINT : end]) for end in points],
        "wrong_bits": training.wrong_at_longest(model),
        "seconds": time.monotonic() - started,
        "batch_size": training.BATCH_SIZE,
        "threads": 1,
    }


def finished(path: Path, code: str) -> set[tuple[str, int]]:
    """Backend and seed of the runs of this code."""
    records = [record for record in json_lines.read(path) if record.get("code") == code]
    return {(record["backend"], record["seed"]) for record in records}


if __name__ == "__main__":
    sys.exit(main())
