"""What a backend costs by itself, and what it finds: one memory, full, in default settings.

A call is what SAM asks for per step and memory: 4 queries for K = 4, or 20 rows overwritten.
"""

from __future__ import annotations

from itertools import cycle

from . import grid

UPDATES, CALLS = 64, 50


class Backend(grid.Suite):
    params = (grid.BACKENDS, grid.BACKEND_SIZES, grid.DATA)
    param_names = ("backend", "memory_size", "data")
    # Where the quick profile measures.
    quick = ((65536, "clustered"),)
    quick_backends = tuple(grid.QUICK_BACKENDS)

    def reason_to_skip(self, backend: str, memory_size: int, data: str) -> str | None:
        profiles = set()
        if backend in self.quick_backends and (memory_size, data) in self.quick:
            profiles.add("quick")
        compiles = backend == "nn_descent" and memory_size < 65536
        soon = memory_size <= grid.LARGEST_BUILT_SOON.get(backend, memory_size)
        if soon and data != "near" and not compiles:
            profiles.add("figure")
        return grid.outside_profile(profiles) or grid.not_ready(backend)


class Calls(Backend):
    """Wall time of one call; rows and queries differ from call to call.

    The rows stand in the memory before the clock starts. A backend that rebuilds in bulk does so
    in few calls, which a median leaves out: the frontier command counts them.
    """

    rounds = 4 if grid.PROFILE == "full" else 1
    repeat = (7, 30, 1.0 if grid.PROFILE == "full" else 0.5)
    warmup_time = 0
    min_run_count = 1
    number = CALLS
    _memory = _index = None

    def setup(self, backend: str, memory_size: int, data: str) -> None:
        if Calls._memory is None:
            super().setup(backend, memory_size, data)
            from . import indexed

            Calls._memory = indexed.Memory(memory_size, data)
            Calls._index = self._memory.index(backend)
            self._draw()
            self.time_access(backend, memory_size, data)
        self._draw()

    def _draw(self) -> None:
        self._slots = cycle(self._memory.overwrite(CALLS))
        self._queries = cycle(self._memory.queries(CALLS))

    def time_update(self, backend: str, memory_size: int, data: str) -> None:
        self._index.update(next(self._slots))

    def time_search(self, backend: str, memory_size: int, data: str) -> None:
        self._index.search(next(self._queries), grid.K)

    def time_access(self, backend: str, memory_size: int, data: str) -> None:
        self._index.update(next(self._slots))
        self._index.search(next(self._queries), grid.K)


class Building(Backend):
    """Wall time of indexing a whole memory."""

    rounds = 4 if grid.PROFILE == "full" else 1
    repeat = (2, 10, 1.0)
    warmup_time = 0
    min_run_count = 1
    number = 1
    _memory = None

    def setup(self, backend: str, memory_size: int, data: str) -> None:
        if Building._memory is None:
            super().setup(backend, memory_size, data)
            from . import indexed

            indexed.warm_up(backend)
            Building._memory = indexed.Memory(memory_size, data)

    def time_build(self, backend: str, memory_size: int, data: str) -> None:
        self._memory.index(backend)


class Recall(Backend):
    """What recall@4, ties forgiven, lacks of 1 after a stream of updates."""

    unit = grid.MISSED
    quick = ((65536, "clustered"), (1048576, "random"), (1048576, "clustered"))
    quick_backends = tuple(grid.QUICK_BACKENDS[1:])

    def track_missed(self, backend: str, memory_size: int, data: str) -> float:
        import numpy as np

        from . import indexed

        memory = indexed.Memory(memory_size, data)
        index = memory.index(backend)
        for slots in memory.overwrite(UPDATES):
            index.update(slots)
        queries = memory.queries(CALLS)
        found = [index.search(call, grid.K)[0] for call in queries]
        return grid.missed(memory.recall(queries, np.stack(found), memory.truth(queries)))


class Size(Backend):
    """The index's own arrays, in bytes per row of the memory."""

    unit = "bytes"

    def track_bytes_per_row(self, backend: str, memory_size: int, data: str) -> float:
        from . import indexed

        index = indexed.Memory(memory_size, data).index(backend)
        return index.stats()["bytes"] / memory_size
