"""What a model and its initial state take, against the size of the memory."""

from __future__ import annotations

from . import grid


class InitialMemory:
    """Growth of resident memory by building a model and its state at batch 1, no memory given."""

    version = "1"
    unit = "bytes"
    timeout = 600
    params = (grid.MODELS, grid.MEMORY_SIZES)
    param_names = ("model", "memory_size")

    def setup(self, model: str, memory_size: int) -> None:
        profiles = {"quick", "figure"} if model in grid.EXACT_MODELS else ()
        reason = grid.reason_to_skip(model, memory_size, 0, grid.MEMORY_BATCH_SIZE, profiles)
        if reason:
            grid.skip(type(self).__name__, (model, memory_size), reason)

    def track_resident_bytes(self, model: str, memory_size: int) -> int:
        from . import resident

        resident.return_freed_memory_at_once()
        from . import passes

        def start(memory_size: int) -> tuple[object, object]:
            built = passes.build(model, memory_size)
            return built, built.initial_state(grid.MEMORY_BATCH_SIZE)

        start(grid.MEMORY_SIZES[0])
        before = resident.now()
        kept = start(memory_size)
        grown = resident.now() - before
        del kept
        return grown
