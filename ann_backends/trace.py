"""What a model in training asked of its index: a value, and the file that keeps it."""

from __future__ import annotations

import dataclasses
import json
import os
import reprlib
from typing import Any, BinaryIO, ClassVar, Self

import numpy as np

from ann_backends import checks, trace_file
from ann_backends.metric import METRICS, longest

FORMAT, VERSION = "ann_backends.Trace", 1


@dataclasses.dataclass(frozen=True, eq=False)
class Trace:
    """T steps of B memories of N words of W numbers, with H queries per step and memory.

    Within a step, rows are written, then announced to the index (`Index.update`), then the
    queries are searched. The steps form E episodes. An episode goes on where the step before left
    the memories; a new one starts from memories of its own (a new initial state, an older state).

    memory_size: N. k: K, the rows asked for per query, in [1, N]. metric: "cosine" or "l2".
    queries: [T, B, H, W]. slots: int64 [T, B, n] in [-1, N), the rows written in a step, distinct
    but for the padding -1. rows: [T, B, n, W], what they hold after the write; ignored where
    padded. first_steps: int64 [E], the first step of each episode, ascending from 0.
    start_episode, start_element, start_slot: int64 [S], in [0, E), [0, B) and [0, N), and
    start_rows: [S, W]: the rows that are findable when an episode starts, ascending by the three
    (none for a memory that starts empty, all N for one that starts full). Rows elsewhere are zero.
    info: JSON values under string keys, whatever tells where the trace comes from.

    queries, rows and start_rows are of one dtype, float32 or float64, the memory's, and finite and
    short as an index wants them (see `Index`).
    A field that breaks this raises ValueError or TypeError.

    File format, version 1: an .npz archive (a zip of .npy files, as `numpy.load` reads it, no
    pickle). Its member `header` is a 0-d unicode array of JSON: {"format": "ann_backends.Trace",
    "version": 1, "memory_size": N, "k": K, "metric": ..., "info": {...}}. The members queries,
    slots, rows, first_steps, start_episode, start_element, start_slot and start_rows are the arrays
    above, in C order, with the dtypes above.
    """

    ARRAYS: ClassVar[tuple[str, ...]] = (
        "queries",
        "slots",
        "rows",
        "first_steps",
        "start_episode",
        "start_element",
        "start_slot",
        "start_rows",
    )

    memory_size: int
    k: int
    metric: str
    queries: np.ndarray
    slots: np.ndarray
    rows: np.ndarray
    first_steps: np.ndarray
    start_episode: np.ndarray
    start_element: np.ndarray
    start_slot: np.ndarray
    start_rows: np.ndarray
    info: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        checks.integer("memory_size", self.memory_size, 1, 2**62)
        checks.integer("k", self.k, 1, self.memory_size)
        checks.choice("metric", self.metric, METRICS)
        _check_info(self.info)
        _check_arrays(self)
        _check_slots(self)
        _check_episodes(self)

    @property
    def num_steps(self) -> int:
        return self.queries.shape[0]

    @property
    def batch_size(self) -> int:
        return self.queries.shape[1]

    @property
    def num_heads(self) -> int:
        return self.queries.shape[2]

    @property
    def word_size(self) -> int:
        return self.queries.shape[3]

    @property
    def num_episodes(self) -> int:
        return len(self.first_steps)

    def steps(self, episode: int) -> range:
        """The steps of an episode, numbered from 0 over the whole trace."""
        ends = [*self.first_steps[1:].tolist(), self.num_steps]
        return range(int(self.first_steps[episode]), ends[episode])

    def start(self, episode: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows findable when an episode starts: element and slot, int64 [s], and rows [s, W]."""
        first, end = np.searchsorted(self.start_episode, [episode, episode + 1])
        part = slice(int(first), int(end))
        return self.start_element[part], self.start_slot[part], self.start_rows[part]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file, compressed; what stood at `path` is replaced at the end, at once.

        Raises OSError with path, needed and free bytes where it cannot be written; what stood there
        is as it was then.
        """
        trace_file.write(path, *self._content())

    def write(self, file: BinaryIO) -> None:
        """Write what `save` writes to a file that is open for it."""
        trace_file.write_to(file, *self._content())

    def _content(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """The header and the arrays of the file."""
        header: dict[str, Any] = {"format": FORMAT, "version": VERSION}
        header |= {name: getattr(self, name) for name in ("memory_size", "k", "metric", "info")}
        return header, {name: getattr(self, name) for name in self.ARRAYS}

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a file that `save` wrote; one that is damaged or no trace raises ValueError.

        Whatever bytes it holds, reading takes time and memory in proportion to them.
        """
        expected = f"expected a trace file, {FORMAT} of version {VERSION}"
        with open(path, "rb") as file:
            try:
                header, arrays = trace_file.read(file, cls.ARRAYS)
                came = header["format"], header["version"]
                if came != (FORMAT, VERSION):
                    raise ValueError(f"format and version: got {reprlib.repr(came)}")
                fields: dict[str, Any] = {**arrays}
                fields |= {name: header[name] for name in ("memory_size", "k", "metric", "info")}
                return cls(**fields)
            except Exception as error:  # bytes of others can fail in any way
                said = str(error) or type(error).__name__
                raise ValueError(f"{os.fspath(path)}: {said}; {expected}") from error


def _check_info(info: object) -> None:
    if not isinstance(info, dict) or not all(isinstance(key, str) for key in info):
        raise TypeError(f"info: got {reprlib.repr(info)}, expected a dict with string keys")
    try:
        json.dumps(info, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"info: got {reprlib.repr(info)}, expected JSON values ({error})"
        ) from error


def _check_arrays(trace: Trace) -> None:
    """Dtypes, shapes that agree with each other, finite numbers."""
    for name in trace.ARRAYS:
        if not isinstance(getattr(trace, name), np.ndarray):
            came = type(getattr(trace, name)).__name__
            raise TypeError(f"{name}: got {came}, expected a NumPy array")
    shape = trace.queries.shape
    if len(shape) != 4 or 0 in shape:
        raise ValueError(f"queries: got shape {list(shape)}, expected [T, B, H, W], each >= 1")
    num_steps, batch_size, _, word_size = shape
    dtype = trace.queries.dtype
    if dtype not in checks.DTYPES:
        raise TypeError(f"queries: got dtype {dtype}, expected float32 or float64")
    num_starts, written = (array.shape[-1:] for array in (trace.start_episode, trace.slots))
    expected: dict[str, tuple[tuple[int | str, ...], Any]] = {
        "slots": ((num_steps, batch_size, *(written or ("n",))), np.int64),
        "rows": ((num_steps, batch_size, *written, word_size), dtype),
        "first_steps": ((trace.first_steps.size,), np.int64),
        "start_episode": (num_starts or ("S",), np.int64),
        "start_element": (num_starts, np.int64),
        "start_slot": (num_starts, np.int64),
        "start_rows": ((*num_starts, word_size), dtype),
    }
    for name, (want, kind) in expected.items():
        array = getattr(trace, name)
        if array.shape != want:
            raise ValueError(f"{name}: got shape {list(array.shape)}, expected {list(want)}")
        if array.dtype != kind:
            raise TypeError(f"{name}: got dtype {array.dtype}, expected {np.dtype(kind)}")
    for name in ("queries", "rows", "start_rows"):
        checks.short_rows(name, getattr(trace, name), longest(trace.metric, dtype))


def _check_slots(trace: Trace) -> None:
    bounds = {"slots": (-1, trace.memory_size), "start_slot": (0, trace.memory_size)}
    bounds |= {"start_episode": (0, trace.num_episodes), "start_element": (0, trace.batch_size)}
    for name, (least, end) in bounds.items():
        array = getattr(trace, name)
        if array.size and not least <= array.min() <= array.max() < end:
            raise ValueError(
                f"{name}: got values from {array.min()} to {array.max()}, "
                f"expected {least} to {end - 1}"
            )
    ascending = np.sort(trace.slots, axis=-1)
    if ((ascending[..., 1:] == ascending[..., :-1]) & (ascending[..., 1:] >= 0)).any():
        raise ValueError("slots: got one twice in a step, expected distinct slots and -1")


def _check_episodes(trace: Trace) -> None:
    first = trace.first_steps
    if (
        not len(first)
        or first[0] != 0
        or (np.diff(first) < 1).any()
        or first[-1] >= trace.num_steps
    ):
        raise ValueError(
            f"first_steps: got {_shortened(first)}, expected steps ascending from 0 to at most "
            f"{trace.num_steps - 1}"
        )
    places = np.lexsort((trace.start_slot, trace.start_element, trace.start_episode))
    starts = np.stack([trace.start_episode, trace.start_element, trace.start_slot])
    repeated = (np.diff(starts) == 0).all(axis=0)
    if (places != np.arange(len(places))).any() or repeated.any():
        raise ValueError(
            "start_slot: got rows out of order or twice, expected them ascending by episode, "
            "element and slot"
        )


def _shortened(values: np.ndarray) -> str:
    return np.array2string(values, threshold=8)
