"""Figure 1a of Rae et al. 2016: the time of a step against the size of the memory."""

from __future__ import annotations

from . import grid, timing


class StepTime(timing.Timed):
    params = (grid.TRAINED_MODELS, grid.MEMORY_SIZES, grid.SEQUENCE_LENGTHS)
    param_names = ("model", "memory_size", "sequence_length")

    def profiles(self, model: str, memory_size: int, sequence_length: int) -> set[str]:
        if model == grid.RECOMPUTING:
            # Shorter passes hardly keep more than the budget. Where it is the figure's: at T = 100.
            return {"figure"} if sequence_length == 100 else set()
        backend = grid.backend_of(model)
        if memory_size > grid.LARGEST_BUILT_SOON.get(backend, memory_size):
            return set()
        profiles = {"figure"} if sequence_length == 1 else set()
        if model == "ntm" and sequence_length == 100 and memory_size <= 1024:
            profiles.add("figure")  # beside the NTM that makes steps again
        largest = {1: 65536, 10: 4096, 100: 64}
        if grid.is_sparse(model):
            largest = {1: 1048576, 10: 1048576, 100: 64}
        fewer = model not in grid.EXACT_MODELS and memory_size in (256, 4096, 16384, 262144)
        patient = backend in grid.PATIENT_BACKENDS
        if memory_size <= largest[sequence_length] and not fewer and not patient:
            profiles.add("quick")
        return profiles

    def time_forward_backward(self, model: str, memory_size: int, sequence_length: int) -> None:
        self.run_pass()
