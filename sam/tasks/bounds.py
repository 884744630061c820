"""A size of an episode, drawn between a task's least and most."""

from __future__ import annotations

import torch


def check(size: str, least: int, most: int) -> None:
    """Raises ValueError, naming min_`size`, if it is above max_`size`."""
    if least > most:
        raise ValueError(f"min_{size}: got {least}, expected at most max_{size}={most}")


def draw(least: int, most: int, generator: torch.Generator) -> int:
    """Uniform between the two, both included."""
    return int(torch.randint(least, most + 1, (), generator=generator))
