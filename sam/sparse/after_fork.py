"""Threads that held a lock when the process forked are not in the child to give it back."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Held(Protocol):
    """What a thread may hold."""

    def free(self) -> None:
        """Be held by nobody."""


_all: weakref.WeakSet[Held] = weakref.WeakSet()


def add(held: Held) -> None:
    """Have `held` freed in every child that is forked while it lives."""
    _all.add(held)


def _free_all() -> None:
    for held in _all:
        held.free()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_free_all)
