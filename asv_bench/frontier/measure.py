"""What one build of a backend finds and costs at each search setting, fresh and worn."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

import ann_backends
from asv_bench.benchmarks import grid, indexed
from asv_bench.frontier.sweeps import Settings, Sweep

Record = dict[str, Any]

# Calls of 4 queries that a search setting gets, in so many turns.
CALLS, TURNS = 256, 4
TIMES_OVERWRITTEN = 3
# An index that rebuilds every N rows has just done so then: wear is looked for late in the next
# interval.
FURTHER_SHARE = 0.9
# Parts of a trace whose recall is told apart.
WINDOWS = 10
# Rows drawn at once for updates.
AHEAD = 20_000
MICROSECOND = 1e3  # nanoseconds


class Searched(NamedTuple):
    """recall@4 and microseconds per call of 4 queries: median and quartiles."""

    recall: float
    us: float
    q25_us: float
    q75_us: float


def point(sweep: Sweep, memory_size: int, kind: str, wear_seconds: float) -> list[Record]:
    """Two records per search setting: "frontier", of the fresh build, and "wear".

    The updates are those of the wear: every row overwritten three times in batches of 20, or as
    often as fits `wear_seconds`. Their mean counts the rebuilds that they brought about. Wear is
    that after another 0.9 N rows.
    """
    settings = sweep.settings(sweep.searches[0])
    indexed.warm_up(settings)
    memory = indexed.Memory(memory_size, kind)
    started = time.perf_counter()
    index = memory.index(settings)
    build_seconds = time.perf_counter() - started
    bytes_per_row = index.stats()["bytes"] / memory_size
    (fresh,) = searched([index], sweep.searches, memory)
    batches_us, rows = overwrite(index, memory, TIMES_OVERWRITTEN, wear_seconds)
    costs = {
        "update_us": sum(batches_us) / rows,
        "update_median_us": float(np.median(batches_us)) / grid.ROWS_PER_STEP,
        "updated_rows": rows,
        "rebuilds": index.stats()["rebuilds"],
        "build_s": build_seconds,
        "bytes_per_row": bytes_per_row,
    }
    found = [
        {"measure": "frontier", "search": search, "default": sweep.is_default(search)}
        | _figures(one)
        | costs
        | {"access_us": one.us + grid.ROWS_PER_STEP * costs["update_us"]}
        for search, one in zip(sweep.searches, fresh, strict=True)
    ]
    times = rows / memory_size
    common = {"measure": "wear", "times_overwritten": times}
    if times < TIMES_OVERWRITTEN:
        reason = f"not reached: every row overwritten {times:.2g} times in {wear_seconds:g} s"
        found.append(common | {"search": {}, "reason": reason})
    else:
        overwrite(index, memory, FURTHER_SHARE, wear_seconds)
        worn, anew = searched([index, memory.index(settings)], sweep.searches, memory)
        found += [
            common
            | {"search": search, "default": sweep.is_default(search)}
            | {f"{name}_worn": value for name, value in _figures(old).items()}
            | {f"{name}_fresh": value for name, value in _figures(new).items()}
            for search, old, new in zip(sweep.searches, worn, anew, strict=True)
        ]
    place = {"backend": sweep.backend, "memory_size": memory_size, "data": kind}
    return [record | place | {"build": sweep.build} for record in found]


def searched(
    indexes: Sequence[ann_backends.Index], searches: Sequence[Settings], memory: indexed.Memory
) -> list[list[Searched]]:
    """Each index at each search setting, all on the same queries.

    They take turns, each with other queries than the one before, so that none finds the rows
    that it wants in the caches, and all meet the machine in the same moods.
    """
    queries = memory.queries(CALLS)
    best = memory.truth(queries)
    shape = (len(indexes), len(searches), CALLS)
    slots = np.empty((*shape, grid.NUM_HEADS, grid.K), np.int64)
    taken = np.empty(shape)
    parts = np.array_split(np.arange(CALLS), TURNS)
    for turn in range(TURNS):
        for number, (i, s) in enumerate(np.ndindex(shape[:2])):
            for name, value in searches[s].items():
                setattr(indexes[i], name, value)
            for call in parts[(turn + number) % TURNS]:
                started = time.perf_counter_ns()
                found, _ = indexes[i].search(queries[call], grid.K)
                taken[i, s, call] = time.perf_counter_ns() - started
                slots[i, s, call] = found[0]
    return [
        [
            Searched(
                memory.recall(queries, slots[i, s], best),
                *(float(us) for us in np.percentile(taken[i, s], [50, 25, 75]) / MICROSECOND),
            )
            for s in range(len(searches))
        ]
        for i in range(len(indexes))
    ]


def overwrite(
    index: ann_backends.Index, memory: indexed.Memory, times: float, seconds: float
) -> tuple[list[float], int]:
    """Overwrite every row so many times, the last time a share of them, or until time is up.

    Returns the microseconds of each `update` of 20 rows, and the rows overwritten.
    """
    taken: list[float] = []
    rows = 0
    stop = time.monotonic() + seconds
    for slots in _ahead(memory, times):
        words = memory.source.rows(slots.size)
        for first in range(0, slots.size, grid.ROWS_PER_STEP):
            batch = slots[first : first + grid.ROWS_PER_STEP]
            memory.words[0, batch] = words[first : first + grid.ROWS_PER_STEP]
            started = time.perf_counter_ns()
            index.update(batch[None])
            taken.append((time.perf_counter_ns() - started) / MICROSECOND)
            rows += batch.size
            if time.monotonic() > stop:
                return taken, rows
    return taken, rows


def _ahead(memory: indexed.Memory, times: float) -> Iterator[np.ndarray]:
    """All slots so many times, in random order, in pieces."""
    while times > 0:
        slots = memory.source.all_slots()
        slots = slots[: round(min(times, 1) * slots.size)]
        times -= 1
        for first in range(0, slots.size, AHEAD):
            yield slots[first : first + AHEAD]


def _figures(one: Searched) -> Record:
    return {
        "recall": one.recall,
        "search_us": one.us,
        "search_q25_us": one.q25_us,
        "search_q75_us": one.q75_us,
    }


def trace_point(sweep: Sweep, name: str, trace: ann_backends.Trace) -> list[Record]:
    """A "trace" record per search setting: the trace replayed on a memory of its own."""
    return [_replayed(sweep, search, name, trace) for search in sweep.searches]


def _replayed(sweep: Sweep, search: Settings, name: str, trace: ann_backends.Trace) -> Record:
    replay = ann_backends.replay(trace, sweep.settings(search))
    rows = trace.batch_size * trace.memory_size
    return {
        "measure": "trace",
        "backend": sweep.backend,
        "memory_size": trace.memory_size,
        "data": name,
        "build": sweep.build,
        "search": search,
        "default": sweep.is_default(search),
        "info": trace.info,
        "recall": replay.mean_recall,
        "recall_over_time": replay.recall_over_time(min(WINDOWS, trace.num_steps)).tolist(),
        "search_us": replay.search_us,
        "update_us": replay.update_us,
        "access_us": replay.access_us,
        "rebuilds": replay.rebuilds,
        "bytes_per_row": replay.bytes / rows,
    }
