"""Packages that cannot be written to, as in a container."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not shutil.which("unshare"), reason="needs unshare")
def test_a_container_that_cannot_be_written_at_all(tmp_path):
    """Packages mounted read-only, and no home: everything works, and one line says what helps."""
    for package in ("ann_backends", "sam"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__py*"))
    code = """
import numpy as np, sam, ann_backends
memory = np.eye(4, dtype=np.float32)[None]
print(ann_backends.create("exact", memory=memory).search(memory[:, :2].copy(), 1)[0].ravel())
"""
    mount = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && cd / && exec "$@"'
    alone = ["unshare", "--mount", "bash", "-c", mount, str(tmp_path)]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("may not mount")
    done = subprocess.run(
        [*alone, sys.executable, "-c", code],
        env={"PATH": "/usr/bin:/bin", "HOME": "/proc/none", "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "[0 1]\n", done.stderr
    (line,) = done.stderr.splitlines()
    assert "Read-only file system" in line
    assert "set NUMBA_CACHE_DIR to a folder that can be written" in line
