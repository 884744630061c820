"""What each benchmark measures: one table of quantity, label, unit and direction."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Metric:
    """How the numbers of one asv benchmark are read.

    `parameters` names the benchmark's parameters in order; `benchmarks.json` overrides it.
    `per_step` divides the measured pass by its sequence length. `sequence_length` is the length
    of the pass where the benchmark fixes it instead of taking it as a parameter. `missed`: the
    benchmark stores 1 - value, so that less is better for asv, which takes all numbers for costs.
    """

    quantity: str
    benchmark: str
    label: str
    short: str
    unit: str
    direction: str
    parameters: tuple[str, ...]
    per_step: bool = False
    sequence_length: int | None = None
    missed: bool = False


_SIZES = ("model", "memory_size")
_SIZES_AND_LENGTH = (*_SIZES, "sequence_length")
_BACKEND = ("backend", "memory_size", "data")
_TRACE = ("backend", "data")

# Memories worked on at once wherever the time of a step is measured.
SPEED_BATCH_SIZE = 8

METRICS: tuple[Metric, ...] = (
    Metric(
        quantity="step_time",
        benchmark="step_time.StepTime.time_forward_backward",
        label=f"Time of one step, forward and backward (batch {SPEED_BATCH_SIZE})",
        short="Step time",
        unit="seconds",
        direction="lower is better",
        parameters=_SIZES_AND_LENGTH,
        per_step=True,
    ),
    Metric(
        quantity="sequence_time",
        benchmark="sequence_time.SequenceTime.time_forward_backward",
        label="Time of one forward and backward pass over the sequence",
        short="Pass time",
        unit="seconds",
        direction="lower is better",
        parameters=_SIZES_AND_LENGTH,
    ),
    Metric(
        quantity="training_peak",
        benchmark="training_memory.TrainingMemory.track_peak_bytes",
        label="Physical peak memory of training over 100 steps, less initialisation (batch 1)",
        short="Training memory",
        unit="bytes",
        direction="lower is better",
        parameters=_SIZES,
        sequence_length=100,
    ),
    Metric(
        quantity="initial_memory",
        benchmark="initial_memory.InitialMemory.track_resident_bytes",
        label="Resident memory after initialisation",
        short="Initial memory",
        unit="bytes",
        direction="lower is better",
        parameters=_SIZES,
    ),
    Metric(
        quantity="linked_time",
        benchmark="linked_time.LinkedTime.time_forward_backward",
        label=f"Time of one step with temporal links and without (batch {SPEED_BATCH_SIZE})",
        short="Step time, Figure 7",
        unit="seconds",
        direction="lower is better",
        parameters=_SIZES_AND_LENGTH,
        per_step=True,
    ),
    Metric(
        quantity="total_memory",
        benchmark="total_memory.TotalMemory.track_peak_bytes",
        label="Physical peak memory of an initial state and of training over 10 steps (batch 1)",
        short="Total memory",
        unit="bytes",
        direction="lower is better",
        parameters=(*_SIZES, "memory"),
        sequence_length=10,
    ),
    Metric(
        quantity="backend_build",
        benchmark="backends.Building.time_build",
        label="Time of indexing a whole memory",
        short="Index build",
        unit="seconds",
        direction="lower is better",
        parameters=_BACKEND,
    ),
    Metric(
        quantity="backend_update",
        benchmark="backends.Calls.time_update",
        label="Time of re-indexing 20 rows of one memory",
        short="Index update",
        unit="seconds",
        direction="lower is better",
        parameters=_BACKEND,
    ),
    Metric(
        quantity="backend_search",
        benchmark="backends.Calls.time_search",
        label="Time of 4 searches in one memory",
        short="Index search",
        unit="seconds",
        direction="lower is better",
        parameters=_BACKEND,
    ),
    Metric(
        quantity="backend_access",
        benchmark="backends.Calls.time_access",
        label="Time of re-indexing 20 rows and of 4 searches",
        short="Index access",
        unit="seconds",
        direction="lower is better",
        parameters=_BACKEND,
    ),
    Metric(
        quantity="backend_recall",
        benchmark="backends.Recall.track_recall",
        label="Recall@4 of an index in its default settings",
        short="Recall",
        unit="recall@4",
        direction="higher is better",
        parameters=_BACKEND,
    ),
    Metric(
        quantity="backend_bytes",
        benchmark="backends.Size.track_bytes_per_row",
        label="Memory of an index per row",
        short="Index memory per row",
        unit="bytes",
        direction="lower is better",
        parameters=_BACKEND,
    ),
    Metric(
        quantity="trace_recall",
        benchmark="traces.Traces.track_recall",
        label="Recall@4 of an index in its default settings on a recorded trace",
        short="Recall, trace",
        unit="recall@4",
        direction="higher is better",
        parameters=_TRACE,
    ),
    Metric(
        quantity="trace_access",
        benchmark="traces.Traces.track_access",
        label="Time of a step's updates and searches in one memory of a recorded trace",
        short="Index access, trace",
        unit="seconds",
        direction="lower is better",
        parameters=_TRACE,
    ),
)

BY_BENCHMARK: dict[str, Metric] = {metric.benchmark: metric for metric in METRICS}
BY_QUANTITY: dict[str, Metric] = {metric.quantity: metric for metric in METRICS}
# By module: what its `track_missed` leaves of 1. Older results have `track_recall`.
_MISSED = {
    module: replace(BY_QUANTITY[quantity], missed=True)
    for module, quantity in (("backends", "backend_recall"), ("traces", "trace_recall"))
}


def of_benchmark(name: str) -> Metric | None:
    """What a benchmark measures; None of one that is not known."""
    if name.endswith(".track_missed"):
        return _MISSED.get(name.partition(".")[0])
    return BY_BENCHMARK.get(name)


def short_label(quantity: str) -> str:
    """A quantity in two words; a quantity of an unknown benchmark is its own label."""
    metric = BY_QUANTITY.get(quantity)
    return metric.short if metric else quantity
