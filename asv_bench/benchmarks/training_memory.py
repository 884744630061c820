"""Figure 1b of Rae et al. 2016: the memory that training takes against the size of the memory."""

from __future__ import annotations

import sys
import time

from . import grid

SEQUENCE_LENGTH = 100
MOST_PASSES, SECONDS = 32, 2.0


class TrainingMemory(grid.Suite):
    """Peak of resident memory during a forward and backward pass over 100 steps at batch 1.

    What was resident after initialisation (the memory itself, its index) is not counted. The
    memory is full. Every point has a fresh process.
    """

    unit = "bytes"
    params = (grid.TRAINED_MODELS, grid.MEMORY_SIZES)
    param_names = ("model", "memory_size")

    def reason_to_skip(self, model: str, memory_size: int) -> str | None:
        profiles = {"figure"} if model in grid.EXACT_MODELS else set()
        if model == "sam-exact" or (profiles and memory_size <= 65536):
            profiles |= {"quick"} if memory_size not in (256, 4096, 262144) else set()
        if model == grid.RECOMPUTING:
            profiles = {"figure", "quick"} if memory_size in (64, 1024) else {"figure"}
        return grid.model_reason(
            model, memory_size, SEQUENCE_LENGTH, grid.MEMORY_BATCH_SIZE, profiles
        )

    def track_peak_bytes(self, model: str, memory_size: int) -> int:
        from . import resident

        return resident.by_a_process_on_one_cpu("training_memory", model, memory_size)


def mean_peak(model: str, memory_size: int) -> int:
    """The mean over as many passes as fit some seconds."""
    from . import resident

    resident.return_freed_memory_at_once()
    from . import passes

    sizes = (SEQUENCE_LENGTH, grid.MEMORY_BATCH_SIZE)
    # Libraries allocate workspaces when first used: not the model's.
    passes.Pass(model, grid.MEMORY_SIZES[0], *sizes, warm_ups=3)
    measured = passes.Pass(model, memory_size, *sizes, warm_ups=0)

    def forget() -> None:
        measured.model.zero_grad()  # so that the gradients of the last pass count in the next

    start = time.monotonic()
    measured()
    repeats = int(SECONDS / (time.monotonic() - start))
    return resident.mean_peak_of(measured, min(max(repeats, 1), MOST_PASSES), before_each=forget)


if __name__ == "__main__":
    print(mean_peak(sys.argv[1], int(sys.argv[2])))
