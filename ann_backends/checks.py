"""Checks of what a caller hands in; every message names the argument, what came, what was expected.

They run once per time step of a network, so each argument costs one compiled pass at most.
"""

from __future__ import annotations

import operator
from collections.abc import Collection

import numpy as np

from ann_backends.kernels.jit import kernel
from ann_backends.uncounted import UNCOUNTED

# Sums may be reordered, which is what lets them vectorise; NaN and infinity keep their meaning.
REORDERED = {"reassoc", "contract", "nsz"}
# A squared norm that any metric and precision takes.
SHORT = 1e36
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


def finite_memory(array: np.ndarray, longest: float) -> None:
    """Refuse NaN, infinite and too long rows [B, N, W]: all of them are about to be indexed."""
    rows = array.reshape(-1, array.shape[2])
    bad = _first_bad_row(rows, longest)
    if bad >= 0:
        element, slot = divmod(bad, array.shape[1])
        raise ValueError(
            f"memory: {_row_came(rows[bad], slot, element)}, {_row_expected(longest)} "
            '(findable="none" starts with no row indexed)'
        )


def short_rows(name: str, array: np.ndarray, longest: float) -> None:
    """Refuse NaN, infinite and too long rows [..., W]."""
    rows = np.ascontiguousarray(array).reshape(-1, array.shape[-1])
    bad = _first_bad_row(rows, longest)
    if bad >= 0:
        raise ValueError(f"{name}: got {_what_is_bad(rows[bad])}, {_row_expected(longest)}")


def queries(value: object, like: np.ndarray, longest: float) -> np.ndarray:
    """Finite contiguous queries [B, H, W], none of a norm above `longest`.

    Their dtype is that of the memory `like` [B, N, W].
    """
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
    short_rows("queries", array, longest)
    return array


def slots(value: object, like: np.ndarray) -> np.ndarray:
    """Contiguous int64 slots [B, n], each in [-1, N), for a memory `like` [B, N, W]."""
    array = _slot_array(value, like)
    if not _all_in_range(array, like.shape[1]):
        raise _out_of_range(array, like)
    return array


def announced(value: object, memory: np.ndarray, longest: float) -> np.ndarray:
    """As `slots`; the rows of `memory` [B, N, W] there are finite, none of a norm above `longest`.

    One pass does both: it reads the rows that the index is about to read anyway.
    """
    array = _slot_array(value, memory)
    bad = _first_bad_slot(array, memory, longest)
    if bad >= 0:
        element, i = divmod(bad, array.shape[1])
        slot = int(array[element, i])
        if not -1 <= slot < memory.shape[1]:
            raise _out_of_range(array, memory)
        row = memory[element, slot]
        raise ValueError(f"memory: {_row_came(row, slot, element)}, {_row_expected(longest)}")
    return array


def _slot_array(value: object, like: np.ndarray) -> np.ndarray:
    array = as_array("slots", value)
    batch_size = like.shape[0]
    if array.ndim != 2 or array.shape[0] != batch_size:
        raise ValueError(f"slots: got shape {list(array.shape)}, expected [{batch_size}, n]")
    if array.dtype != np.int64:
        raise TypeError(f"slots: got dtype {array.dtype}, expected int64")
    return np.ascontiguousarray(array)


def _out_of_range(slots: np.ndarray, like: np.ndarray) -> ValueError:
    return ValueError(
        f"slots: got values from {slots.min()} to {slots.max()}, "
        f"expected slots from 0 to {like.shape[1] - 1}, or -1 for padding"
    )


def _row_came(row: np.ndarray, slot: int, element: int) -> str:
    return f"got {_what_is_bad(row)} in row {slot} of element {element}"


def _what_is_bad(row: np.ndarray) -> str:
    if not np.isfinite(row).all():
        return "NaN or infinite values"
    # By its largest number first, whose square may overflow.
    largest = float(np.abs(row).max())
    norm = largest * float(np.linalg.norm(row.astype(np.float64) / largest))
    return f"a norm of {norm:.3g}"


def _row_expected(longest: float) -> str:
    return f"expected finite ones of a norm of at most {longest:g}"


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


@kernel(**UNCOUNTED)
def _first_bad_row(rows: np.ndarray, longest: float) -> int:
    """The first of the rows [n, W] that is not finite or longer than `longest`; -1 if none is."""
    for i in range(rows.shape[0]):
        if not _is_short(rows, i, longest):
            return i
    return -1


@kernel(**UNCOUNTED)
def _first_bad_slot(slots: np.ndarray, memory: np.ndarray, longest: float) -> int:
    """The first of the slots [B, n], as b n + i, that is none or of such a row; -1 if none is."""
    for b in range(slots.shape[0]):
        rows = memory[b]
        for i in range(slots.shape[1]):
            slot = slots[b, i]
            if slot == -1:
                continue
            if slot < 0 or slot >= rows.shape[0] or not _is_short(rows, slot, longest):
                return b * slots.shape[1] + i
    return -1


@kernel(**UNCOUNTED)
def _is_short(rows: np.ndarray, row: int, longest: float) -> bool:
    # Comparisons that a NaN fails. Nearly all rows pass the first; sums that overflow do not.
    squares = _squares(rows, row)
    if squares <= min(SHORT, longest * longest):
        return True
    return _squared_norm(rows, row) <= longest * longest


@kernel(fastmath=REORDERED, **UNCOUNTED)
def _squares(rows: np.ndarray, row: int) -> float:
    """|rows[row]|^2 in the rows' precision."""
    total = rows.dtype.type(0)
    for w in range(rows.shape[1]):
        total += rows[row, w] * rows[row, w]
    return total


@kernel(**UNCOUNTED)
def _squared_norm(rows: np.ndarray, row: int) -> float:
    """|rows[row]|^2 in double precision."""
    total = 0.0
    for w in range(rows.shape[1]):
        total += np.float64(rows[row, w]) ** 2
    return total


@kernel(**UNCOUNTED)
def _all_in_range(slots: np.ndarray, memory_size: int) -> bool:
    for b in range(slots.shape[0]):
        for i in range(slots.shape[1]):
            if slots[b, i] < -1 or slots[b, i] >= memory_size:
                return False
    return True
