"""What a model and its initial state take, against the size of the memory."""

from __future__ import annotations

from . import grid


class InitialMemory(grid.Suite):
    """Growth of resident memory by building a model and its state at batch 1, no memory given."""

    unit = "bytes"
    params = (grid.MODELS, grid.MEMORY_SIZES)
    param_names = ("model", "memory_size")

    def reason_to_skip(self, model: str, memory_size: int) -> str | None:
        profiles = {"quick", "figure"} if model in grid.EXACT_MODELS else ()
        return grid.model_reason(model, memory_size, 0, grid.MEMORY_BATCH_SIZE, profiles)

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
