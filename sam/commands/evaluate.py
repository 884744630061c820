"""`python -m sam evaluate`: a trained model on levels that it was perhaps never trained on."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from sam import checks
from sam.commands.options import add_pairs
from sam.commands.terminal import say
from sam.training import evaluation, json_files
from sam.training.settings import check_levels, check_seed

DESCRIPTION = """\
Evaluate the model of a run's checkpoint on fresh sequences, as it is and with its reads zeroed:

    python -m sam evaluate runs/recall --levels 6 12 24 60 --model-set memory_size=1048576

Levels (words, pairs or keys, as the task says) may be beyond those trained on. The records are
also added to evaluation.jsonl in the run's folder.
"""


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "evaluate",
        help="evaluate a trained model, also on longer sequences",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="of a run")
    parser.add_argument("--levels", type=int, nargs="+", metavar="LEVEL")
    parser.add_argument("--sequences", type=int, metavar="N", help="default: the run's")
    parser.add_argument("--batch-size", type=int, default=64, metavar="B", help="default: 64")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="default: 0")
    add_pairs(
        parser,
        "--model-set",
        "another setting than in training, such as memory_size=1048576 or ann=lsh",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    changes = dict(arguments.model_set)
    loaded = evaluation.load(arguments.folder, **changes)
    settings = loaded.settings
    torch.set_num_threads(settings.threads)
    task = settings.build_task()
    levels = tuple(arguments.levels or settings.evaluate or task.evaluation_levels)
    sequences = settings.sequences if arguments.sequences is None else arguments.sequences
    check_levels("levels", levels, task)
    checks.positive_sizes(sequences=sequences, batch_size=arguments.batch_size)
    check_seed(arguments.seed)
    records = 2 * len(task.splits) * len(levels)  # with reads and without
    json_files.check_writable(loaded.files.evaluation, 1024 * records)
    task.prepare()
    header = f"{'split':>10} {'level':>6} {'reads':>7} {'cost, bits':>11} {'chance':>8}"
    say(f"{header} {task.unit:>28} {'of':>7}")
    for record in evaluation.evaluate_all(
        loaded.model,
        task,
        levels,
        sequences,
        batch_size=arguments.batch_size,
        seed=arguments.seed,
    ):
        at = {"kind": "evaluation", "minibatch": loaded.minibatch, "episodes": loaded.episodes}
        json_files.append(loaded.files.evaluation, at | record | {"model_settings": changes})
        say(
            f"{record['split']:>10} {record['level']:>6} {record['reads']:>7} "
            f"{record['cost']:>11.3f} {record['chance']:>8.1f} {record['errors']:>28.3f} "
            f"{record['scored']:>7.1f}"
        )
    return 0
