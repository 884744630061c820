"""Whether numba's threads would end this process, because it was forked after they had run.

GNU OpenMP cannot be used again after a fork, and numba ends a process that tries. Imported with
`ann_backends`, so that a fork from then on is noted.
"""

from __future__ import annotations

import contextlib
import os
import sys

import numba

# The layer of numba's threads that had run in a parent of this process by the fork; "" for none.
_layer = ""


def refuse_threads(what: str) -> None:
    """Raise RuntimeError, said of `what`, where running numba's threads would end the process."""
    if _layer == "omp" and sys.platform == "linux":
        raise RuntimeError(
            f"{what}: this process was forked after numba's OpenMP threads had run, and they would "
            "end it; start it by 'spawn' or 'forkserver', fork before the first index is built, "
            "or set NUMBA_THREADING_LAYER=workqueue"
        )


def _note_threads() -> None:
    global _layer
    with contextlib.suppress(ValueError):  # says that none have run
        _layer = numba.threading_layer()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_threads)
