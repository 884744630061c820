"""The grid that is measured, the same on every machine, and what of it a run leaves out.

Nothing heavy is imported here: a point that is left out costs a bare process.
"""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Collection
from pathlib import Path

ALWAYS_READY = ["exact", "kd_forest", "lsh"]
BUILT_IN = [*ALWAYS_READY, "nn_descent", "hnsw", "ivf"]
# Installed packages may bring their own; theirs are measured like those of ours that are quick.
BACKENDS = BUILT_IN + sorted(
    {point.name for point in importlib.metadata.entry_points(group="ann_backends")} - {*BUILT_IN}
)
# nn_descent compiles for a minute in every process, and hnsw builds slowly.
PATIENT_BACKENDS = ["nn_descent", "hnsw", "ivf"]
QUICK_BACKENDS = [name for name in BACKENDS if name not in PATIENT_BACKENDS]
# Beyond this size building one memory's index takes more than some tens of seconds.
LARGEST_BUILT_SOON = {"nn_descent": 65536, "hnsw": 65536}

TRACE_FOLDER = Path(__file__).parents[1] / "traces"

# SAM comes with the name of its index. Those that are not exact are in the quick profile for one
# figure, the time of a step.
MODELS = ["lstm", "ntm", "dam", *(f"sam-{backend}" for backend in BACKENDS)]
EXACT_MODELS = MODELS[:4]
# The NTM under a memory budget, per memory of the batch: what SAM takes for training (100 steps),
# 1.5 MiB, less the gradients of the parameters; or, where that is too little, the least that works
# and some states: with the least itself, each step would be made T / 2 times.
RECOMPUTING, BUDGET_MIB, MORE_STATES = "ntm-dp", 0.7, 3
TRAINED_MODELS = [*MODELS, RECOMPUTING]
LARGEST_RECOMPUTING, LONGEST_RECOMPUTING = {1: 65536, 8: 1024}, 1000
MEMORY_SIZES = [64, 256, 1024, 4096, 16384, 65536, 262144, 1048576]
BACKEND_SIZES = MEMORY_SIZES[2:]
SEQUENCE_LENGTHS = [1, 10, 100]
# Figure 7: models with temporal links, and SAM beside them, which shows what the links take.
LINKED_MODELS = ["dnc", "sdnc-exact", "sdnc-kd_forest", "sam-exact", "sam-kd_forest"]
LINKED_SIZES = [64, 128, 256, 512, 1024, 2048, 4096, 16384, 65536, 262144, 1048576]
LINKED_LENGTHS = SEQUENCE_LENGTHS[:2]
# The paper's DNC ends at 2,048 words; beyond 4,096 a pass would take minutes.
LARGEST_DNC_OF_PAPER, LARGEST_DNC = 2048, 4096
# Kinds of rows, as `data` draws them; and small traces of models in training.
DATA = ["random", "clustered", "near"]
TRACES = sorted(path.stem for path in TRACE_FOLDER.glob("*.npz"))

# The set-up of Rae et al. 2016, supplement E.
INPUT_SIZE = OUTPUT_SIZE = 8
HIDDEN_SIZE, WORD_SIZE, NUM_HEADS, K = 100, 32, 4, 4
SPEED_BATCH_SIZE, MEMORY_BATCH_SIZE = 8, 1
# Rows that SAM of this size writes in a step, to each memory: 4 heads, K + 1 each.
ROWS_PER_STEP = NUM_HEADS * (K + 1)

# "quick" is what a developer waits for; "figure" is the figures of the paper up to a million words,
# without the longer sequences; "full" is every point that fits this machine.
PROFILE = os.environ.get("SAM_BENCH_PROFILE", "quick")

# Of a dense model, an upper estimate of the N x W buffers that a step keeps or is using at once:
# some for each step until the backward pass, some only for the moment. The same of the DNC's links,
# N x N.
KEPT_BUFFERS, PASSING_BUFFERS = 5, 10
KEPT_LINKS, PASSING_LINKS = 1, 4
USABLE_SHARE_OF_MEMORY = 0.7


# asv takes all that it tracks for a cost: of two commits the one with less is better.
MISSED = "1 - recall@4"


def missed(recall: float) -> float:
    """The share of the true neighbours that was not found, without the noise of rounding."""
    return round(1 - recall, 9)


class Suite:
    """A class of benchmarks; a subclass names its parameters and which of its points are run."""

    version = "1"
    timeout = 600

    def reason_to_skip(self, *parameters: object) -> str | None:
        """Why a point cannot or need not run; None if it is to run."""
        raise NotImplementedError

    def setup(self, *parameters: object) -> None:
        """Leave a point out: in asv, that is an exception of this type here."""
        reason = self.reason_to_skip(*parameters)
        if reason:
            raise NotImplementedError(reason)


def is_sparse(model: str) -> bool:
    return model.startswith(("sam", "sdnc"))


def backend_of(model: str) -> str:
    """The index of a SAM or SDNC of the grid; "" for the other models."""
    return model.partition("-")[2] if is_sparse(model) else ""


def outside_profile(profiles: Collection[str]) -> str | None:
    """The reason for a point that, beside "full", belongs to these profiles only."""
    if PROFILE == "full" or PROFILE in profiles:
        return None
    return f"not in the {PROFILE} profile"


def not_ready(backend: str) -> str | None:
    """What is to be installed before a backend can be measured."""
    if backend in ALWAYS_READY:
        return None
    import ann_backends

    readiness = ann_backends.available().get(backend, "unknown at this commit")
    return None if readiness == "ready" else f"{backend} is not installed: {readiness}"


def model_reason(
    model: str,
    memory_size: int,
    sequence_length: int,
    batch_size: int,
    profiles: Collection[str],
) -> str | None:
    """Why a point of a model is left out.

    profiles: the smaller profiles that the point belongs to.
    """
    if model == "lstm" and memory_size != MEMORY_SIZES[0]:
        return f"the LSTM has no memory: measured once, at memory_size={MEMORY_SIZES[0]}"
    if reason := outside_profile(profiles):
        return reason
    if model == "lstm":
        return None
    if is_sparse(model):
        return too_slow_to_build(backend_of(model), memory_size) or not_ready(backend_of(model))
    if model == "dnc" and memory_size > LARGEST_DNC:
        return f"a pass of the DNC would take minutes beyond {LARGEST_DNC:,} words"
    if model == RECOMPUTING:
        return _too_long(memory_size, sequence_length, batch_size)
    return _too_large(model, memory_size, sequence_length, batch_size)


def _too_long(memory_size: int, sequence_length: int, batch_size: int) -> str | None:
    largest = LARGEST_RECOMPUTING[batch_size]
    if memory_size > largest or sequence_length > LONGEST_RECOMPUTING:
        return (
            f"a pass of {RECOMPUTING} would take minutes beyond {largest:,} words at batch "
            f"{batch_size}, or beyond {LONGEST_RECOMPUTING:,} steps"
        )
    return None


def too_slow_to_build(backend: str, memory_size: int) -> str | None:
    """A model at batch 8 builds 8 indexes before it is measured."""
    largest = 4 * LARGEST_BUILT_SOON.get(backend, memory_size)
    if memory_size > largest:
        return f"{backend} would be building for many minutes beyond {largest:,} words"
    return None


def _too_large(model: str, memory_size: int, sequence_length: int, batch_size: int) -> str | None:
    import psutil

    numbers = memory_size * WORD_SIZE * (KEPT_BUFFERS * sequence_length + PASSING_BUFFERS)
    if model == "dnc":
        numbers += memory_size**2 * (KEPT_LINKS * sequence_length + PASSING_LINKS)
    estimate = 4 * batch_size * numbers
    limit = USABLE_SHARE_OF_MEMORY * psutil.virtual_memory().total
    if estimate > limit:
        gib = 2**30
        return f"needs about {estimate / gib:.1f} GiB, more than {limit / gib:.1f} GiB"
    return None
