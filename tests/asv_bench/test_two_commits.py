"""asv on two commits, in its own environment: the right machine code, the right way round."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
# Rows of very different lengths: the nearest by cosine are not those of the largest dot product.
SUITE = """
from . import grid

class Toy:
    def track_missed(self):
        import numpy as np
        import ann_backends

        rng = np.random.default_rng(0)
        lengths = np.exp(rng.standard_normal((64, 1)))
        words, queries = rng.standard_normal((64, 8)) * lengths, rng.standard_normal((16, 8))
        cosine = queries @ (words / np.linalg.norm(words, axis=1, keepdims=True)).T
        best = np.argsort(-cosine)[:, :4]
        found, _ = ann_backends.create("exact", memory=words[None]).search(queries[None], 4)
        hits = [len({*a} & {*b}) for a, b in zip(best.tolist(), found[0].tolist())]
        return grid.missed(np.mean(hits) / 4)
"""
# In a file without kernels; it makes every similarity that of dot products.
EDIT = "\nNORM_EPSILON = 1e9\n"


@pytest.fixture(scope="module")
def asv(tmp_path_factory):
    """Runs asv on a repository of two commits; the second one loses recall."""
    root, home, libraries = (
        tmp_path_factory.mktemp(name) for name in ("repository", "home", "libraries")
    )
    ignored = shutil.ignore_patterns("__pycache__", "*.npz", "published")
    for name in ("ann_backends", "sam", "asv_bench", "reports"):
        shutil.copytree(ROOT / name, root / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, root)
    (root / "asv_bench" / "benchmarks" / "toy.py").write_text(SUITE)
    # What is installed here serves asv's environment too, but for this project itself.
    for path in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if not re.match(r"sparse_access_memory|__editable__|sam$|ann_backends$", path.name):
            (libraries / path.name).symlink_to(path)
    path = root / "asv_bench" / "asv.conf.json"
    config = json.loads(re.sub(r"^\s*//.*$", "", path.read_text(), flags=re.MULTILINE))
    del config["matrix"]["req"]
    # By another name, as asv drops from the path what it was given for building.
    same = libraries.parent / "same_libraries"
    same.symlink_to(libraries)
    write = f"import sysconfig as s; open(s.get_path('purelib') + '/same.pth', 'w').write('{same}')"
    config["install_command"].append(f'in-dir={{env_dir}} python -c "{write}"')
    path.write_text(json.dumps(config))
    unset = ("PYTHONPATH", "NUMBA_CACHE_DIR")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment |= {"HOME": str(home), "ASV_PYTHONPATH": str(libraries)}

    def call(*command):
        done = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    def git(*arguments):
        status, said = call("git", "-c", "user.name=test", "-c", "user.email=test", *arguments)
        assert status == 0, said

    def asv(command, *arguments):
        configured = (sys.executable, "-m", "asv", command, "--config", str(path))
        return call(*configured, *arguments)

    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "as it stands")
    with open(root / "ann_backends" / "metric.py", "a") as file:
        file.write(EDIT)
    git("commit", "--quiet", "--all", "--message", "cosine is lost")
    status, said = asv("machine", "--yes")
    assert status == 0, said
    return asv


def test_lost_recall_is_a_regression_and_recall_won_back_is_none(asv):
    """Both commits are installed in turns into one environment, each over the other."""
    status, said = asv("continuous", "HEAD~1", "HEAD", "--bench", "toy")
    assert "PERFORMANCE DECREASED" in said, said
    assert status == 1
    status, said = asv("continuous", "HEAD", "HEAD~1", "--bench", "toy")
    assert "PERFORMANCE INCREASED" in said, said
    assert status == 0
    values = re.search(r"\| -\s+\|\s+(\S+) \|\s+(\S+) \|", said)
    assert values, said
    assert float(values[1]) > 0.2
    assert float(values[2]) == 0
