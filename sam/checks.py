"""Checks of what a caller hands in: each error names the argument, what came, what was expected."""

from __future__ import annotations

import difflib
import math
import operator
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch


def positive_sizes(**sizes: object) -> tuple[int, ...]:
    """Each keyword is a size: an integer of at least 1, NumPy's too. As Python's integers."""
    return tuple(size(name, value) for name, value in sizes.items())


def size(name: str, value: Any, *, least: int = 1) -> int:
    """`value` is an integer of at least `least`; returns it as Python's."""
    try:
        number = value if type(value) is int else operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: got {value!r}, expected an integer of at least {least}")
    if number < least:
        raise ValueError(f"{name}: got {number}, expected an integer of at least {least}")
    return number


def tensor(name: str, value: object, shape: tuple[int | str, ...], like: torch.Tensor) -> None:
    """`value` is a finite tensor of `shape` (a string: any length >= 1), of like's dtype."""
    form(name, value, shape, like)
    assert isinstance(value, torch.Tensor)
    # NaN is passed on.
    if not (value.is_meta or all(map(math.isfinite, torch.aminmax(value.detach())))):
        raise ValueError(f"{name}: got NaN or infinite values, expected finite ones")


def form(name: str, value: object, shape: tuple[int | str, ...], like: torch.Tensor) -> None:
    """`value` is a tensor of `shape` (a string: any length >= 1), of like's dtype and device."""
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name}: got {type(value).__name__}, expected a torch.Tensor")
    if value.layout is not torch.strided or value.is_nested:
        layout = "nested" if value.is_nested else str(value.layout)
        raise TypeError(f"{name}: got a {layout} tensor, expected a dense one")
    if value.dim() != len(shape) or any(
        (have < 1) if isinstance(want, str) else (have != want)
        for have, want in zip(value.shape, shape, strict=True)
    ):
        expected = ", ".join(map(str, shape))
        raise ValueError(f"{name}: got shape {list(value.shape)}, expected [{expected}]")
    if value.dtype != like.dtype:
        raise TypeError(f"{name}: got dtype {value.dtype}, expected {like.dtype} as the model's")
    if value.device != like.device:
        raise ValueError(
            f"{name}: got device {value.device}, expected {like.device} as the model's"
        )


def one_of(name: str, value: object, known: Iterable[str]) -> None:
    """`value` is one of the known names; the error says which is nearest."""
    known = list(known)
    if value not in known:
        expected = f"expected one of {', '.join(known)}{_hint(value, known)}"
        raise ValueError(f"{name}: got {value!r}, {expected}")


def settings_of(owner: str, settings: Iterable[str], known: Iterable[str]) -> None:
    """Each is a setting that `owner` knows."""
    known = list(known)
    for each in settings:
        if each not in known:
            expected = f"expected of {', '.join(known)}{_hint(each, known)}"
            raise TypeError(f"{each}: not a setting of {owner!r}, {expected}")


def _hint(value: object, known: list[str]) -> str:
    nearest = difflib.get_close_matches(str(value), known, n=1)
    return f"; did you mean {nearest[0]!r}?" if nearest else ""
