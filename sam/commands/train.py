"""`python -m sam train`: one run, from flags or a TOML file, which can be stopped and resumed."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sam import training
from sam.commands import terminal
from sam.commands.options import add_pairs, full_name, merged, nested, pair, read_toml
from sam.models import MODELS
from sam.tasks import TASKS
from sam.training import parallel
from sam.training.folder import RunFolder
from sam.training.settings import OPTIMIZERS

# Flags that are settings of the model.
SIZES = ("memory_size", "word_size", "num_heads", "k", "hidden_size", "link_size")
DESCRIPTION = """\
Train a model on a task. Settings come from a TOML file, and from flags, which count more:

    python -m sam train --model sam --task copy --ann kd_forest --episodes 100000 --out runs/copy
    python -m sam train --config run.toml --seed 1 --out runs/copy-1
    python -m sam train --resume runs/copy --override learning_rate=0.0001
    python -m sam train --config long.toml --init-from runs/copy --out runs/copy-long
    torchrun --standalone --nproc-per-node 2 -m sam train ...   # each takes half of a minibatch

The folder gets run.json, metrics.jsonl, TensorBoard's files, checkpoint.pt and, at the end,
evaluation.jsonl; no other process can train in it meanwhile. Ctrl-C and SIGTERM save and stop; a
run that was stopped, even by a power cut, goes on with --resume to the same bits. Exit status: 0
at the end of the budget, 1 if the loss exploded, 2 for bad input, 128 + n when signal n stopped it.
"""


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "train",
        help="train a model on a task",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--out", type=Path, metavar="FOLDER", help="a new folder for the run")
    place.add_argument("--resume", type=Path, metavar="FOLDER", help="go on with a run")
    begin = parser.add_argument_group("how it begins")
    begin.add_argument(
        "--restart", action="store_true", help="begin anew; the run in the folder is dropped"
    )
    begin.add_argument(
        "--init-from",
        type=Path,
        metavar="RUN",
        help="begin with the weights of another run's folder or checkpoint",
    )
    add_pairs(
        begin,
        "--override",
        "with --resume: go on with another setting, such as learning_rate=0.0001 or "
        "task_settings.max_length=40",
    )
    add_settings(parser)
    parser.add_argument(
        "--checkpoint-seconds", type=float, default=60.0, metavar="S", help="default: 60"
    )
    parser.add_argument("--no-tensorboard", action="store_true", help="JSON lines only")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def add_settings(parser: argparse.ArgumentParser, several: bool = False) -> None:
    """The flags that say what a run is; with `several`, lists of models, tasks, indexes, seeds."""
    each: dict[str, Any] = {"nargs": "+"} if several else {}
    what = parser.add_argument_group("what is trained")
    what.add_argument("--config", type=Path, metavar="FILE", help="a TOML file of settings")
    what.add_argument("--model", help=f"one of {', '.join(MODELS)}", **each)
    what.add_argument("--task", help=f"one of {', '.join(TASKS)}", **each)
    what.add_argument("--ann", help="the index of SAM and SDNC, by name", **each)
    for size in SIZES:
        what.add_argument(f"--{size.replace('_', '-')}", type=int, metavar="N")
    add_pairs(what, "--model-set", "any other setting of the model")
    add_pairs(what, "--task-set", "a setting of the task, such as max_length=10")
    how = parser.add_argument_group("how")
    how.add_argument("--optimizer", help=f"one of {', '.join(OPTIMIZERS)}; default: adam")
    how.add_argument("--learning-rate", type=float, metavar="X", help="default: 0.001")
    how.add_argument(
        "--cooldown",
        type=float,
        metavar="SHARE",
        help="of the episodes, at the end, in which the learning rate falls to 0; default: 0",
    )
    how.add_argument("--clip-norm", type=float, metavar="X", help="of the gradient; default: 10")
    add_pairs(how, "--optimizer-set", "another argument of torch's optimizer, such as momentum=0.9")
    how.add_argument(
        "--curriculum",
        nargs="*",
        type=pair,
        metavar="KEY=VALUE",
        help="begin with easy sequences and double the highest level when it is mastered: "
        "start=1 threshold=0.01 window=100 growth=2 end=...",
    )
    how.add_argument("--batch-size", type=int, metavar="B", help="default: 16")
    how.add_argument("--seed", type=int, metavar="S", help="default: 0", **each)
    how.add_argument("--threads", type=int, metavar="N", help="default: 1")
    until = parser.add_argument_group("how long")
    until.add_argument("--episodes", type=int, metavar="N", help="sequences to train on")
    until.add_argument("--minutes", type=float, metavar="M", help="minutes to train for")
    after = parser.add_argument_group("evaluation at the end")
    after.add_argument(
        "--evaluate", type=int, nargs="+", metavar="LEVEL", help="default: the task's bounds"
    )
    after.add_argument("--sequences", type=int, metavar="N", help="per level; default: 256")


def settings_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings that the flags give, nested as in a TOML file, without defaults."""
    flags = vars(arguments)

    def given(*names: str) -> dict[str, Any]:
        return {name: flags[name] for name in names if flags[name] is not None}

    optimizer = given("learning_rate", "cooldown", "clip_norm")
    if arguments.optimizer is not None:
        optimizer["name"] = arguments.optimizer
    tables = {
        "model_settings": given("ann", *SIZES) | dict(arguments.model_set),
        "task_settings": dict(arguments.task_set),
        "optimizer": optimizer | _filled("options", dict(arguments.optimizer_set)),
        "curriculum": None if arguments.curriculum is None else dict(arguments.curriculum),
    }
    scalars = given(
        *("model", "task", "batch_size", "seed", "threads", "episodes", "minutes"),
        *("evaluate", "sequences"),
    )
    kept = {name: table for name, table in tables.items() if table}
    if arguments.curriculum == []:
        kept["curriculum"] = {}
    return scalars | kept


def _filled(name: str, table: dict[str, Any]) -> dict[str, Any]:
    return {name: table} if table else {}


def run(arguments: argparse.Namespace) -> int:
    say: Callable[[str], None] = terminal.say if parallel.leads() else lambda line: None
    given = settings_of(arguments)
    if arguments.config:
        given = merged(read_toml(arguments.config), given)
    overrides: list[str] = []
    if arguments.resume:
        files = RunFolder.holding_a_run(arguments.resume)
        given = merged(files.read_settings().as_mapping(), given)
        for key, value in arguments.override:
            overrides.append(full_name(key, given))
            given = merged(given, nested(overrides[-1], value))
    elif arguments.override:
        raise ValueError("--override: got one, expected none without --resume")
    settings = training.RunSettings.of(given)
    if settings.rounding:
        say(settings.rounding)
    folder = arguments.resume or arguments.out
    result = training.train(
        settings,
        folder,
        resume=bool(arguments.resume),
        restart=arguments.restart,
        init_from=arguments.init_from,
        overrides=() if arguments.restart else overrides,
        checkpoint_seconds=arguments.checkpoint_seconds,
        tensorboard=not arguments.no_tensorboard,
        show_progress=not arguments.quiet and is_terminal(),
    )
    return report(result, folder, say)


def is_terminal() -> bool:
    """Whether somebody looks at a bar; in a file it would be thousands of lines."""
    return sys.stderr is not None and sys.stderr.isatty()


def report(result: training.Result, folder: Path, say: Callable[[str], None] = terminal.say) -> int:
    """Say how a run ended; returns the exit status."""
    done = f"{result.minibatch:,} minibatches, {result.episodes:,} episodes, {result.seconds:.0f} s"
    if result.reason == "budget":
        say(f"Trained: {done}. Everything is in {folder}")
        return 0
    if result.reason == "diverged":
        say(f"{result.message}. The last checkpoint is in {folder}")
        return 1
    say(f"Stopped by {result.reason} after {done}. Go on with: --resume {folder}")
    return 128 + signal.Signals[result.reason]
