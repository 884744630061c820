"""asv result files as asv 0.6.6 writes them, from a function of the parameters."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

COLUMNS = [
    "result",
    "params",
    "version",
    "started_at",
    "duration",
    "stats_ci_99_a",
    "stats_ci_99_b",
    "stats_q_25",
    "stats_q_75",
    "stats_number",
    "stats_repeat",
    "samples",
    "profile",
]
STEP = "step_time.StepTime.time_forward_backward"
SEQUENCE = "sequence_time.SequenceTime.time_forward_backward"
PEAK = "training_memory.TrainingMemory.track_peak_bytes"
INITIAL = "initial_memory.InitialMemory.track_resident_bytes"
LINKED = "linked_time.LinkedTime.time_forward_backward"
TOTAL = "total_memory.TotalMemory.track_peak_bytes"
RECALL = "backends.Recall.track_recall"
NAMES = ["model", "memory_size", "sequence_length"]

SIZES = [64, 256, 1024, 4096, 16384, 65536, 262144, 1048576]
LINKED_SIZES = [64, 128, 256, 512, 1024, 2048, 4096, 16384, 65536, 262144, 1048576]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
DATE = 1_700_000_000_000
SKIP = math.nan
FAIL = None


def row(params: Sequence[Sequence[Any]], cost: Callable[..., float | None], timed: bool) -> list:
    """One benchmark's row: `cost` of each combination, a skip as NaN, a failure as None."""
    values = [cost(*key) for key in itertools.product(*params)]

    def spread(factor: float) -> list[float | None] | None:
        found = [value * factor if value and value == value else None for value in values]
        return found if any(item is not None for item in found) else None

    cells: list[Any] = [
        None if all(value is None for value in values) else values,
        [[repr(value) for value in axis] for axis in params],
        "1",
        DATE,
        1.5,
    ]
    if timed:
        counts = [value and 10 if value == value else None for value in spread(1.0) or []]
        cells += [spread(0.95), spread(1.05), spread(0.97), spread(1.04), None, counts or None]
    while cells and cells[-1] is None:
        cells.pop()
    return cells


def result(rows: dict[str, list], /, **changes: Any) -> dict[str, Any]:
    """The content of a result file; `changes` replace its keys."""
    return {
        "commit_hash": COMMIT,
        "env_name": "existing-py3.11",
        "date": DATE,
        "params": {
            "machine": "toybox",
            "cpu": "Toy CPU",
            "ram": str(16 * 2**30),
            "os": "Linux 6.1",
            "arch": "x86_64",
            "num_cpu": "4",
            "python": "3.11",
        },
        "python": "3.11",
        "requirements": {},
        "env_vars": {},
        "result_columns": COLUMNS,
        "results": rows,
        "durations": {},
        "version": 2,
        **changes,
    }


def write(folder: Path, content: Any, name: str = f"{COMMIT[:8]}-existing-py3.11.json") -> Path:
    """Write one result file of machine `toybox` (or what `folder` says) and its machine.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "machine.json").write_text(json.dumps({"machine": folder.name, "version": 1}))
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def step_seconds(model: str, size: int, length: int) -> float | None:
    """Plausible times: a fixed cost, and one linear in N for all but the k-d forest."""
    if model == "lstm":
        return 0.0002 * length if size == 64 else SKIP
    if model == "ntm" and size * length > 2**22:
        return SKIP
    if model == "dam" and size == 1048576:
        return FAIL if length == 1 else SKIP
    fixed, per_word = {
        "ntm": (1.6e-3, 6.5e-6),
        "dam": (1.2e-3, 2.4e-6),
        "sam-exact": (5.5e-4, 2.2e-8),
        "sam-kd_forest": (7.5e-4, 6e-10),
        "sam-lsh": (6.5e-4, 3e-10),
    }[model]
    overhead = 1.5e-3
    return overhead + length * (fixed + per_word * size)


def peak_bytes(model: str, size: int) -> float | None:
    """Plausible memory: dense models copy the memory at each step."""
    if model == "lstm":
        return 1.1 * 2**20 if size == 64 else SKIP
    copies = {"ntm": 9, "dam": 4}.get(model)
    if copies is None:
        return 3.9 * 2**20 * (1 + 0.01 * math.log2(size))
    wanted = 100 * size * 128 * copies + 6 * 2**20
    return SKIP if wanted > 14 * 2**30 else wanted


def linked_seconds(model: str, size: int, length: int) -> float | None:
    """Plausible times: the DNC's links are N x N, those of SDNC cost the same at every N."""
    if model == "dnc":
        return SKIP if size > 2048 else 1e-3 + length * (1.5e-3 + 1e-7 * size**2)
    links = 4e-4 if model.startswith("sdnc") else 0.0
    per_word = 2.2e-8 if model.endswith("exact") else 6e-10
    return 1e-3 + length * (7e-4 + links + per_word * size)


def total_bytes(model: str, size: int, memory: str) -> float | None:
    """Plausible memory: of the DNC 14 matrices of links, else the words that were given."""
    words = size * 128.0
    if model == "dnc":
        return SKIP if size > 2048 else 2.0**20 + 14 * (4 * size**2 + words)
    links = 2**18 if model.startswith("sdnc") else 0
    return 7e5 + links + (1.2 * words if memory == "full" else 0)


def realistic() -> dict[str, list]:
    """Rows of every benchmark, as a whole run would give."""
    timed = ["lstm", "ntm", "dam", "sam-exact", "sam-kd_forest", "sam-lsh"]
    tracked = ["lstm", "ntm", "dam", "sam-exact"]
    linked = ["dnc", "sdnc-exact", "sdnc-kd_forest", "sam-exact", "sam-kd_forest"]

    def pass_seconds(model: str, size: int, length: int) -> float | None:
        return step_seconds(model, size, length) if model != "ntm" or length < 5000 else SKIP

    def initial(model: str, size: int) -> float:
        return 2**20 * (2 + (3.5 if "sam" in model else 1.1) * size / 2**13)

    return {
        STEP: row([timed, SIZES, [1, 10, 100]], step_seconds, True),
        SEQUENCE: row(
            [["lstm", "ntm", "sam-exact"], [64, 4096, 65536], [10, 100, 1000, 10000]],
            pass_seconds,
            True,
        ),
        PEAK: row([tracked, SIZES], peak_bytes, False),
        INITIAL: row([tracked, SIZES], initial, False),
        LINKED: row([linked, LINKED_SIZES, [1, 10]], linked_seconds, True),
        TOTAL: row([linked, LINKED_SIZES, ["empty", "full"]], total_bytes, False),
    }
