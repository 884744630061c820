"""What is measured in which order, and that a stopped run goes on."""

from __future__ import annotations

import dataclasses
import functools
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

import ann_backends
from asv_bench import run
from asv_bench.benchmarks import grid
from asv_bench.frontier import measure
from asv_bench.frontier.journal import Journal, Record
from asv_bench.frontier.sweeps import Sweep, sweeps

TRACES = "traces"
# The small traces lie in the repository; a command makes larger ones here.
TRACE_FOLDERS = [grid.TRACE_FOLDER, run.HERE.parent / ".asv" / TRACES]


@dataclasses.dataclass(frozen=True)
class Point:
    """One build of a backend on one memory or trace, and the call that measures it."""

    measure: str
    sweep: Sweep
    memory_size: int
    data: str
    call: Callable[[], list[Record]]

    @property
    def place(self) -> Record:
        """What its records have in common."""
        return {
            "measure": self.measure,
            "backend": self.sweep.backend,
            "memory_size": self.memory_size,
            "data": self.data,
            "build": self.sweep.build,
        }

    def is_in(self, journal: Journal) -> bool:
        return all(journal.has(self.place | {"search": one}) for one in self.sweep.searches)

    def __str__(self) -> str:
        build = ", ".join(f"{name}={value}" for name, value in self.sweep.build.items())
        backend = self.sweep.backend + (f" ({build})" if build else "")
        return f"{self.data}, N = {self.memory_size:,}, {backend}"


def chosen(backends: Iterable[str], journal: Journal) -> list[Sweep]:
    """The sweeps of the backends that are installed; of the others the reason is noted."""
    found = []
    for backend in backends:
        reason = grid.not_ready(backend)
        if reason:
            print(reason)
            journal.append([{"measure": "frontier", "backend": backend, "reason": reason}])
        else:
            found += sweeps(backend)
    return found


def points(
    chosen: Collection[Sweep], sizes: Iterable[int], kinds: Collection[str], wear_seconds: float
) -> Iterator[Point]:
    """Backend beside backend at each memory size and kind of rows, then at each trace."""
    for memory_size in sizes:
        for kind in kinds:
            if kind == TRACES:
                continue
            for sweep in chosen:
                call = functools.partial(measure.point, sweep, memory_size, kind, wear_seconds)
                yield Point("frontier", sweep, memory_size, kind, call)
    for path in trace_files() if TRACES in kinds else ():
        trace = ann_backends.Trace.load(path)
        for sweep in chosen:
            call = functools.partial(measure.trace_point, sweep, path.stem, trace)
            yield Point("trace", sweep, trace.memory_size, path.stem, call)


def trace_files() -> list[Path]:
    return [path for folder in TRACE_FOLDERS for path in sorted(folder.glob("*.npz"))]


def carry_out(points: Iterable[Point], journal: Journal) -> bool:
    """Measure what the journal lacks, point by point; whether all of it could be measured.

    A backend that raises is noted with its error and keeps no other from being measured.
    """
    everything = True
    for point in points:
        if point.is_in(journal):
            print(f"{point}: measured before on this code, kept (--fresh measures again)")
            continue
        print(f"{point}: ", end="", flush=True)
        started = time.monotonic()
        try:
            records = point.call()
        except Exception as error:
            traceback.print_exc()
            records = [point.place | {"search": {}, "reason": f"failed: {error!r}"}]
            everything = False
        journal.append(records)
        print(f"{summary(records)} in {time.monotonic() - started:.1f} s", flush=True)
    return everything


def summary(records: list[Record]) -> str:
    """A line for who waits: the ends of the curve."""
    found = [record for record in records if "access_us" in record]
    if not found:
        return records[0]["reason"]
    ends = [min(found, key=lambda r: r["recall"]), max(found, key=lambda r: r["recall"])]
    words = [f"recall {end['recall']:.2f} at {end['access_us']:,.0f} us" for end in ends]
    return " to ".join(dict.fromkeys(words))
