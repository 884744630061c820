"""What an engine's worker does for one run: starts a process for it, and waits for its end.

So a run that is killed takes no other along, its signals and memory are its own, and the same
process does the same work whatever the engine.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from sam.training.settings import RunSettings
from sam.training.sweeps import outcome


class Order(NamedTuple):
    """What a run's process has to know; plain values, as they go through pipes.

    sweep_lock: a file that the sweep keeps locked while the run is wanted.
    """

    settings: dict[str, Any]
    folder: str
    sweep_lock: str
    checkpoint_seconds: float


def attempt(order: Order) -> None:
    """Train a run, from its last checkpoint if there is one; its folder says how it ended.

    What the process prints goes to output.txt there.
    """
    settings, folder = RunSettings.of(order.settings), Path(order.folder)
    with open(folder / "output.txt", "ab") as output:
        process = subprocess.run(
            [sys.executable, "-m", "sam.training.sweeps.process"],
            input=json.dumps(order._asdict()).encode(),
            stdout=output,
            stderr=output,
            env=os.environ | {"OMP_NUM_THREADS": str(settings.threads)},
            start_new_session=True,  # Ctrl-C reaches the sweep alone, which passes it on
        )
    if process.returncode:
        message = f"its process {_end(process.returncode)}"
        outcome.write(folder, settings, outcome.Outcome("failed", message))


def _end(returncode: int) -> str:
    if returncode < 0:
        return f"was killed by {signal.Signals(-returncode).name}"
    return f"ended with status {returncode}, see output.txt"
