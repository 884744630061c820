"""The standard streams, whatever they are: what is computed does not depend on who reads along."""

from __future__ import annotations

import io
import os
import sys


def prepare() -> None:
    """Make it safe to print: to closed streams, and letters that a stream has no code for.

    A closed stream's number would else be given to the next file, which would get the messages.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest number that is free
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, _Nowhere())
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class _Nowhere(io.TextIOBase):
    """What is printed to it is gone."""

    def write(self, text: str, /) -> int:
        return len(text)


def say(line: str) -> None:
    """Print a line; once that fails, as into a closed pipe or a full disk, no more is printed."""
    try:
        print(line, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
