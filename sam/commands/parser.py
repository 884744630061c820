"""A parser of arguments that answers an unknown flag with the nearest one."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Sequence
from typing import Any


class Parser(argparse.ArgumentParser):
    """Of a command, or of all: errors come with the usage of the command that they belong to."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if args is not None and self._subparsers is None:
            self._check_flags(args)
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def _check_flags(self, arguments: Sequence[str]) -> None:
        """Before what is missing is asked for: it may be there under another name."""
        known = list(self._option_string_actions)
        for argument in arguments:
            if argument == "--":
                return
            flag = argument.partition("=")[0]
            if flag.startswith("--") and not any(each.startswith(flag) for each in known):
                nearest = _nearest(flag[2:], [each[2:] for each in known if each[:2] == "--"])
                hint = f"; did you mean --{nearest}?" if nearest else ""
                self.error(f"unrecognized argument: {flag}{hint}")


def _nearest(name: str, known: Sequence[str]) -> str | None:
    """The name that is spelled alike, or whose words begin so, as those of learning-rate: lr."""
    initials = {"".join(word[0] for word in each.split("-")): each for each in known if "-" in each}
    alike = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return initials.get(name) or (alike[0] if alike else None)
