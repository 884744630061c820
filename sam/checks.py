"""Checks of what a caller hands in: each error names the argument, what came, what was expected."""

from __future__ import annotations

import difflib
import math
import numbers
import operator
import reprlib
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


def number(name: str, value: object, within: str) -> None:
    """`value` is a finite number in an interval such as "[0, 1)" or "(0, inf)"."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}: got {shown(value)}, expected a number in {within}")
    low, high = map(float, within[1:-1].split(","))
    try:
        size = float(value)
    except OverflowError:  # an integer of more than 308 digits
        size = math.inf
    above = low < size or (low == size and within[0] == "[")
    below = size < high or (size == high and within[-1] == "]")
    if not (above and below and math.isfinite(size)):
        raise ValueError(f"{name}: got {shown(value)}, expected a number in {within}")


def integer(name: str, value: object, low: int, high: int) -> None:
    """`value` is an integer between the two, both included."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name}: got {shown(value)}, expected an integer in [{low}, {high}]")
    if not low <= int(value) <= high:
        raise ValueError(f"{name}: got {shown(value)}, expected an integer in [{low}, {high}]")


def flags(**values: object) -> None:
    """Each keyword is True or False; a word such as "False" would count as true."""
    for name, value in values.items():
        if not isinstance(value, bool):
            raise TypeError(f"{name}: got {shown(value)}, expected True or False")


def tensor(name: str, value: object, shape: tuple[int | str, ...], like: torch.Tensor) -> None:
    """`value` is a finite tensor of `shape` (a string: any length >= 1), of like's dtype."""
    form(name, value, shape, like)
    assert isinstance(value, torch.Tensor)
    # NaN is passed on.
    if not (value.is_meta or all(map(math.isfinite, torch.aminmax(value.detach())))):
        raise ValueError(f"{name}: got NaN or infinite values, expected finite ones")


def form(
    name: str,
    value: object,
    shape: tuple[int | str, ...],
    like: torch.Tensor,
    dtype: torch.dtype | None = None,
) -> None:
    """`value` is a tensor of `shape` (a string: any length >= 1), of like's dtype and device.

    dtype: another one, for what holds no numbers of the model.
    """
    dtype = dtype or like.dtype
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
    if value.dtype != dtype:
        whose = " as the model's" if dtype == like.dtype else ""
        raise TypeError(f"{name}: got dtype {value.dtype}, expected {dtype}{whose}")
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


def shown(value: object) -> str:
    """`value` as an error message shows it: on one line, and cut where it is long or deep."""
    return " ".join(_SHORT.repr(value).split())


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 3, 200, 200

    def repr_int(self, value: int, level: int) -> str:
        bits = value.bit_length()
        return f"an integer of {bits} bits" if bits > 256 else repr(value)


_SHORT = _Short()


def _hint(value: object, known: list[str]) -> str:
    nearest = difflib.get_close_matches(str(value), known, n=1)
    return f"; did you mean {nearest[0]!r}?" if nearest else ""
