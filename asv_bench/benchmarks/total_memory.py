"""Figure 7b of Rae et al. 2016: the memory that models with temporal links take in all."""

from __future__ import annotations

import sys
import time

from . import grid

SEQUENCE_LENGTH = 10
MOST_PASSES, SECONDS = 32, 2.0


class TotalMemory(grid.Suite):
    """Peak of resident memory while a state is made and 10 steps run forward and backward, batch 1.

    memory: "empty" as the model starts by itself, or "full" of given words, of which the state's
    own copy counts. The model's parameters do not count, their gradients do. Every point has a
    fresh process.
    """

    unit = "bytes"
    params = (grid.LINKED_MODELS, grid.LINKED_SIZES, ["empty", "full"])
    param_names = ("model", "memory_size", "memory")

    def reason_to_skip(self, model: str, memory_size: int, memory: str) -> str | None:
        sizes = (memory_size, SEQUENCE_LENGTH, grid.MEMORY_BATCH_SIZE)
        profiles = {"figure"}
        if model == "dnc" and memory_size > grid.LARGEST_DNC_OF_PAPER:
            profiles = set()
        elif model in ("dnc", "sdnc-exact") and memory_size in (64, 2048):
            profiles.add("quick")
        return grid.model_reason(model, *sizes, profiles)

    def track_peak_bytes(self, model: str, memory_size: int, memory: str) -> int:
        from . import resident

        return resident.by_a_process_on_one_cpu("total_memory", model, memory_size, memory)


def mean_peak(model: str, memory_size: int, memory: str) -> int:
    """The mean over as many passes as fit some seconds, each from a new state."""
    from . import resident

    resident.return_freed_memory_at_once()
    from . import passes

    sizes, full = (SEQUENCE_LENGTH, grid.MEMORY_BATCH_SIZE), memory == "full"
    # Libraries allocate workspaces when first used: not the model's.
    passes.Pass(model, grid.LINKED_SIZES[0], *sizes, warm_ups=3, full=full)
    measured = passes.Pass(model, memory_size, *sizes, warm_ups=0, full=full)

    def forget() -> None:
        measured.model.zero_grad()  # so that the gradients of the last pass count in the next
        measured.state = None

    def from_the_start() -> None:
        measured.start()
        measured()

    forget()
    start = time.monotonic()
    from_the_start()
    repeats = int(SECONDS / (time.monotonic() - start))
    return resident.mean_peak_of(
        from_the_start, min(max(repeats, 1), MOST_PASSES), before_each=forget
    )


if __name__ == "__main__":
    print(mean_peak(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
