"""The time of a pass against the number of its steps: linear, or something is wrong."""

from __future__ import annotations

from . import grid, timing


class SequenceTime(timing.Timed):
    params = (grid.TRAINED_MODELS, [64, 1024, 65536], [10, 100, 1000, 10000])
    param_names = ("model", "memory_size", "sequence_length")

    def profiles(self, model: str, memory_size: int, sequence_length: int) -> set[str]:
        if model == grid.RECOMPUTING:
            return {"quick"} if (memory_size, sequence_length) == (1024, 100) else set()
        only = 64 if model == "lstm" else 1024
        if memory_size != only or model not in grid.EXACT_MODELS:
            return set()
        longest = 1000 if model == "lstm" or grid.is_sparse(model) else 100
        return {"quick"} if sequence_length <= longest else set()

    def time_forward_backward(self, model: str, memory_size: int, sequence_length: int) -> None:
        self.run_pass()
