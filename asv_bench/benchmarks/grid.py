"""The grid that is measured, the same on every machine, and what of it a run leaves out.

Nothing heavy is imported here: a point that is left out costs a bare process.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection

# SAM comes with the name of its index. Those that are not exact are in the quick profile for one
# figure, the time of a step.
MODELS = ["lstm", "ntm", "dam", "sam-exact", "sam-kd_forest", "sam-lsh"]
EXACT_MODELS = MODELS[:4]
MEMORY_SIZES = [64, 256, 1024, 4096, 16384, 65536, 262144, 1048576]
SEQUENCE_LENGTHS = [1, 10, 100]

# The set-up of Rae et al. 2016, supplement E.
INPUT_SIZE = OUTPUT_SIZE = 8
HIDDEN_SIZE, WORD_SIZE, NUM_HEADS, K = 100, 32, 4, 4
SPEED_BATCH_SIZE, MEMORY_BATCH_SIZE = 8, 1

# "quick" is what a developer waits for; "figure" is the figures of the paper up to a million words,
# without the longer sequences; "full" is every point that fits this machine.
PROFILE = os.environ.get("SAM_BENCH_PROFILE", "quick")
# Where the reasons for what is left out are noted, beside asv's results, which only say that.
REASONS_FILE = os.environ.get("SAM_BENCH_REASONS")

# Of a dense model, an upper estimate of the N x W buffers that a step keeps or is using at once:
# some for each step until the backward pass, some only for the moment.
KEPT_BUFFERS, PASSING_BUFFERS = 5, 10
USABLE_SHARE_OF_MEMORY = 0.7


def is_sparse(model: str) -> bool:
    return model.startswith("sam")


def skip(benchmark: str, parameters: tuple[object, ...], reason: str) -> None:
    """Leave a point out: in asv, that is an exception of this type in `setup`."""
    if REASONS_FILE:
        with open(REASONS_FILE, "a") as file:
            file.write(json.dumps({"benchmark": benchmark, "params": parameters, "reason": reason}))
            file.write("\n")
    raise NotImplementedError(reason)


def reason_to_skip(
    model: str,
    memory_size: int,
    sequence_length: int,
    batch_size: int,
    profiles: Collection[str],
) -> str | None:
    """Why this point cannot or need not run; None if it is to run.

    profiles: the smaller profiles that the point belongs to.
    """
    if model == "lstm" and memory_size != MEMORY_SIZES[0]:
        return f"the LSTM has no memory: measured once, at memory_size={MEMORY_SIZES[0]}"
    if PROFILE != "full" and PROFILE not in profiles:
        return f"not in the {PROFILE} profile"
    if model == "lstm" or is_sparse(model):
        return None
    import psutil

    words = batch_size * memory_size * WORD_SIZE * 4
    estimate = words * (KEPT_BUFFERS * sequence_length + PASSING_BUFFERS)
    limit = USABLE_SHARE_OF_MEMORY * psutil.virtual_memory().total
    if estimate > limit:
        gib = 2**30
        return f"needs about {estimate / gib:.1f} GiB, more than {limit / gib:.1f} GiB"
    return None
