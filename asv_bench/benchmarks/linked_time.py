"""Figure 7a of Rae et al. 2016: the time of a step with temporal links, by size of the memory."""

from __future__ import annotations

from . import grid, timing

# Where the quick profile measures a model.
QUICK = {
    "dnc": (64, 512, 2048),
    "sdnc-exact": (64, 2048),
    "sdnc-kd_forest": (1024, 1048576),
    "sam-exact": (2048,),
}


class LinkedTime(timing.Timed):
    params = (grid.LINKED_MODELS, grid.LINKED_SIZES, grid.LINKED_LENGTHS)
    param_names = ("model", "memory_size", "sequence_length")

    def profiles(self, model: str, memory_size: int, sequence_length: int) -> set[str]:
        if model == "dnc" and memory_size > grid.LARGEST_DNC_OF_PAPER:
            return set()
        is_quick = sequence_length == 10 and memory_size in QUICK.get(model, ())
        return {"quick", "figure"} if is_quick else {"figure"}

    def time_forward_backward(self, model: str, memory_size: int, sequence_length: int) -> None:
        self.run_pass()
