"""The command line: one file per command."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

from sam.commands import evaluate, sweep, train

COMMANDS = (train, evaluate, sweep)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0 done, 1 failed, 2 bad input, 128 + n signal n."""
    parser = argparse.ArgumentParser(
        prog="python -m sam", description="Train and evaluate memory networks."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    chosen = parser.parse_args(arguments)
    try:
        return chosen.run(chosen)
    except (ValueError, TypeError, OSError, ImportError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
