"""Record what SAM in training asks of its index, at the start, in the middle and at the end.

    python -m asv_bench.learning.traces [--task copy|recall ...] [--memory-size N] [--steps N]
                                        [--out FOLDER]

copy: 1 to 10 words, the memory carried from minibatch to minibatch, as truncated BPTT does, so
that it is full by the middle. recall: associative recall with an empty memory for every
minibatch, as in the paper, and a curriculum from one pair on, so that an episode's few hundred
words are all that there is to find. Each model is trained with the exact index. The files, one
per task and stage, are for `ann_backends.replay`; large ones are looked for in `.asv/traces`.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from asv_bench import run
from asv_bench.benchmarks import grid

LARGE_MEMORY = 65536
LARGE_FOLDER = run.HERE.parent / ".asv" / "traces"
TASKS = ("copy", "recall")
# Minibatches of training before a trace begins.
STAGES = {"start": 0, "middle": 4000, "end": 16000}
BATCH_SIZE = {"copy": 4, "recall": 16}
HIDDEN_SIZE = {"copy": 100, "recall": 48}
# With four heads, associative recall stayed at two pairs for 12,000 minibatches.
NUM_HEADS = {"copy": grid.NUM_HEADS, "recall": 1}


class Training(NamedTuple):
    """A model, its losses as it is trained, minibatch by minibatch, and what a trace says of it."""

    model: Any
    losses: Iterator[float]
    info: dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m asv_bench.learning.traces", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--task", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--memory-size", type=int, default=LARGE_MEMORY, metavar="N")
    parser.add_argument("--steps", type=int, default=500, metavar="N", help="steps of a trace")
    parser.add_argument("--out", type=Path, default=LARGE_FOLDER, metavar="FOLDER")
    arguments = parser.parse_args()
    # Before numpy and torch are imported, which read them then.
    os.environ |= run.ONE_THREAD
    import torch

    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for task in arguments.task:
        record(task, arguments.memory_size, arguments.steps, arguments.out)
    return 0


def record(task: str, memory_size: int, steps: int, folder: Path) -> None:
    """Train on a task and write a trace `task-stage.npz` at each stage."""
    import sam

    training, trained, started = start(task, memory_size), 0, time.monotonic()
    for stage, first in STAGES.items():
        losses = [next(training.losses) for _ in range(first - trained)]
        info = training.info | {"stage": stage, "minibatches": first}
        path = folder / f"{task}-{stage}.npz"
        with sam.record_trace(
            training.model, path, max_steps=steps, memories=1, info=info
        ) as recorder:
            recorded = 0
            while not recorder.is_full:
                losses.append(next(training.losses))
                recorded += 1
        trained = first + recorded
        recent = losses[-100:]
        print(
            f"{path}: after {first:,} minibatches, {time.monotonic() - started:.0f} s, "
            f"loss {sum(recent) / len(recent):.3f}",
            flush=True,
        )


def start(task: str, memory_size: int) -> Training:
    import torch

    import sam
    from asv_bench.learning import training

    torch.manual_seed(0)
    chosen = training.COPY if task == "copy" else training.RECALL
    sizes = {
        **{"input_size": chosen.input_size, "output_size": chosen.output_size},
        **{"memory_size": memory_size, "word_size": grid.WORD_SIZE},
        **{"num_heads": NUM_HEADS[task], "k": grid.K, "hidden_size": HIDDEN_SIZE[task]},
    }
    model = sam.SAM(**sizes, ann="exact")
    info = {"task": repr(chosen), "batch_size": BATCH_SIZE[task], "seed": 0, "model": sizes}
    if task == "copy":
        losses = training.minibatches(model, chosen, batch_size=BATCH_SIZE[task], keep_memory=True)
    else:
        losses = training.minibatches(
            model, training.Curriculum(chosen), batch_size=BATCH_SIZE[task]
        )
    return Training(model, losses, info | {"memory_carried": task == "copy"})


if __name__ == "__main__":
    sys.exit(main())
