"""What the suites of wall time share."""

from __future__ import annotations

from . import grid


class Timed(grid.Suite):
    """Wall time of one forward and backward pass over T steps at batch 8, on one thread.

    Divide by T for the time of a step. A subclass names the method for asv, which takes every
    class with one for a suite. asv calls `setup` before each sample, so the pass is made once per
    process and kept.
    """

    rounds = 4 if grid.PROFILE == "full" else 1
    # At least 7 samples, without which asv sees no regression; then as many as fit the seconds.
    repeat = (7, 30, 1.0 if grid.PROFILE == "full" else 0.5)
    warmup_time = 0
    min_run_count = 1
    number = 1
    _pass = None

    def profiles(self, model: str, memory_size: int, sequence_length: int) -> set[str]:
        """The smaller profiles that a point belongs to."""
        raise NotImplementedError

    def reason_to_skip(self, model: str, memory_size: int, sequence_length: int) -> str | None:
        parameters = (model, memory_size, sequence_length)
        return grid.model_reason(*parameters, grid.SPEED_BATCH_SIZE, self.profiles(*parameters))

    def setup(self, model: str, memory_size: int, sequence_length: int) -> None:
        if Timed._pass is not None:
            return
        parameters = (model, memory_size, sequence_length)
        super().setup(*parameters)
        from . import passes

        Timed._pass = passes.Pass(*parameters, grid.SPEED_BATCH_SIZE, warm_ups=2)

    def run_pass(self) -> None:
        Timed._pass()
