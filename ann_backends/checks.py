"""Checks of what a caller hands in; every message names the argument, what came, what was expected.

They run once per time step of a network, so each argument costs one compiled pass at most.
"""

from __future__ import annotations

import operator
from collections.abc import Collection

import numpy as np
from numba import njit

DTYPES = (np.dtype(np.float32), np.dtype(np.float64))


def memory(value: object) -> np.ndarray:
    """A view of the caller's float32 or float64 memory [B, N, W]; refused if it needs a copy."""
    if not isinstance(value, np.ndarray) and not hasattr(value, "detach"):
        raise TypeError(
            f"memory: got {type(value).__name__}, expected a NumPy array or a CPU tensor "
            "(anything else would be copied, and the index would miss your writes)"
        )
    array = as_array("memory", value)
    if array.dtype not in DTYPES:
        raise TypeError(f"memory: got dtype {array.dtype}, expected float32 or float64")
    if array.ndim != 3 or 0 in array.shape:
        raise ValueError(f"memory: got shape {list(array.shape)}, expected [B, N, W], each >= 1")
    if not (array.flags.c_contiguous and array.flags.aligned):
        raise ValueError(
            "memory: got an array that is not C-contiguous, expected a contiguous [B, N, W] "
            "(it would have to be copied, and the index would miss your writes)"
        )
    return array


def finite_memory(array: np.ndarray) -> None:
    """Refuse NaN and infinite rows: all of them are about to be indexed."""
    if not _all_finite(array.reshape(-1)):
        raise ValueError(
            'memory: got NaN or infinite values, expected finite ones (findable="none" starts '
            "with no row indexed)"
        )


def queries(value: object, like: np.ndarray) -> np.ndarray:
    """Finite contiguous queries [B, H, W] of the dtype of the memory `like` [B, N, W]."""
    array = as_array("queries", value)
    batch_size, _, word_size = like.shape
    shape = array.shape
    if array.ndim != 3 or shape[0] != batch_size or shape[1] < 1 or shape[2] != word_size:
        raise ValueError(
            f"queries: got shape {list(shape)}, expected [{batch_size}, H, {word_size}], H >= 1"
        )
    if array.dtype != like.dtype:
        raise TypeError(f"queries: got dtype {array.dtype}, expected {like.dtype} as the memory's")
    array = np.ascontiguousarray(array)
    if not _all_finite(array.reshape(-1)):
        raise ValueError("queries: got NaN or infinite values, expected finite ones")
    return array


def slots(value: object, like: np.ndarray) -> np.ndarray:
    """Contiguous int64 slots [B, n], each in [-1, N), for a memory `like` [B, N, W]."""
    array = as_array("slots", value)
    batch_size, memory_size, _ = like.shape
    if array.ndim != 2 or array.shape[0] != batch_size:
        raise ValueError(f"slots: got shape {list(array.shape)}, expected [{batch_size}, n]")
    if array.dtype != np.int64:
        raise TypeError(f"slots: got dtype {array.dtype}, expected int64")
    array = np.ascontiguousarray(array)
    if not _all_in_range(array, memory_size):
        raise ValueError(
            f"slots: got values from {array.min()} to {array.max()}, "
            f"expected slots from 0 to {memory_size - 1}, or -1 for padding"
        )
    return array


def integer(name: str, value: object, least: int, most: int) -> int:
    """`value` as an int in [least, most]; NumPy's integers pass, bools and floats do not."""
    expected = f"expected an integer from {least} to {most}"
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise TypeError(f"{name}: got {value!r}, {expected}")
    if not least <= number <= most:
        raise ValueError(f"{name}: got {number}, {expected}")
    return number


def positive(name: str, value: object) -> float:
    """`value` as a float above 0; NumPy's numbers pass, bools do not."""
    if not isinstance(value, (int, float, np.integer, np.floating)) or isinstance(value, bool):
        raise TypeError(f"{name}: got {value!r}, expected a number above 0")
    if not value > 0:
        raise ValueError(f"{name}: got {value}, expected a number above 0")
    return float(value)


def choice(name: str, value: object, known: Collection[str]) -> None:
    """`value` is one of the `known` strings."""
    if value not in known:
        raise ValueError(f"{name}: got {value!r}, expected one of {', '.join(map(repr, known))}")


def as_array(name: str, value: object) -> np.ndarray:
    """A NumPy view of an array or a CPU tensor (told by its methods: torch is never imported)."""
    if type(value) is np.ndarray:
        return value
    try:
        if hasattr(value, "detach"):
            return np.asarray(value.detach().numpy())
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"{name}: got {type(value).__name__} that NumPy cannot view ({error}), "
            "expected a NumPy array or a CPU tensor"
        ) from error


@njit(nogil=True, cache=True)
def _all_finite(values: np.ndarray) -> bool:
    largest = np.finfo(values.dtype).max
    bad = np.int32(0)
    for i in range(values.size):
        # A NaN fails every comparison, so it counts as bad beside the infinities.
        bad |= np.int32(not (abs(values[i]) <= largest))
    return bad == 0


@njit(nogil=True, cache=True)
def _all_in_range(slots: np.ndarray, memory_size: int) -> bool:
    for b in range(slots.shape[0]):
        for i in range(slots.shape[1]):
            if slots[b, i] < -1 or slots[b, i] >= memory_size:
                return False
    return True
