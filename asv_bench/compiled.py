"""What numba keeps of compiled kernels on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]


def drop_stale(folders: Sequence[Path] = (ROOT / "sam", ROOT / "ann_backends")) -> list[Path]:
    """Remove, and return, the indexes of kernels that were compiled before any kernel was edited.

    numba looks at a kernel's own file alone: one that another file's is inlined into would go on
    with that as it was.
    """
    sources = [path for folder in folders for path in folder.rglob("*.py")]
    edited = max(path.stat().st_mtime for path in sources if "numba" in path.read_text())
    indexes = [path for folder in folders for path in folder.rglob("*.nbi")]
    stale = [path for path in indexes if path.stat().st_mtime < edited]
    for path in stale:
        path.unlink(missing_ok=True)
    return stale
