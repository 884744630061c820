"""What a run was trained with: versions, the code's commit, and the machine."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import numba
import numpy
import torch

import sam


def description() -> dict[str, Any]:
    return {"versions": versions(), "commit": commit(), "machine": machine()}


def versions() -> dict[str, str]:
    return {
        "sam": sam.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "numba": numba.__version__,
    }


def commit() -> str | None:
    """That of the checkout which sam is imported from, with "+" if files differ; None elsewhere."""
    place = Path(sam.__file__).parent.parent
    if not (place / ".git").exists():
        return None
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty=+", "--match="],
            cwd=place,
            # Within a hook of another repository git would look there.
            env={name: value for name, value in os.environ.items() if name != "GIT_DIR"},
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip()


def machine() -> dict[str, Any]:
    return {"system": platform.platform(), "processor": _processor(), "cpus": os.cpu_count()}


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
