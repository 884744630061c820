"""The command line: one file per command."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

from sam.commands import evaluate, sweep, terminal, train
from sam.commands.parser import Parser

COMMANDS = (train, evaluate, sweep)
# What torch and NumPy say where memory ends, beside MemoryError and OverflowError.
NO_MEMORY = ("can't allocate memory", "not enough memory", "overflow")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0 done, 1 failed, 2 bad input, 128 + n signal n."""
    terminal.prepare()
    parser = Parser(prog="python -m sam", description="Train and evaluate memory networks.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    chosen = parser.parse_args(arguments)
    try:
        return chosen.run(chosen)
    except (ValueError, TypeError, OSError, ImportError) as error:
        message = str(error) or type(error).__name__
    except (MemoryError, OverflowError, RuntimeError) as error:
        message = str(error)
        if isinstance(error, RuntimeError) and not any(each in message for each in NO_MEMORY):
            raise
        message = f"there is not enough memory for these sizes ({message or 'MemoryError'})"
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted; what was saved before is kept", file=sys.stderr)
        return 128 + signal.SIGINT
    print(f"{parser.prog}: {' '.join(message.split())}", file=sys.stderr)
    return 2
