"""What asv itself writes is what the reader understands."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from reports import files, results

BENCHMARKS = """
class StepTime:
    params = (["lstm", "ntm"], [64, 256], [1, 10])
    param_names = ["model", "memory_size", "sequence_length"]
    version = "1"
    rounds, repeat, number, warmup_time = 1, 3, 1, 0

    def setup(self, model, memory_size, sequence_length):
        if model == "lstm" and memory_size > 64:
            raise NotImplementedError("one size will do")

    def time_forward_backward(self, model, memory_size, sequence_length):
        if model == "ntm" and memory_size == 256 and sequence_length == 10:
            raise RuntimeError("broken on purpose")


def track_plain():
    return 3


def track_broken():
    raise RuntimeError("broken on purpose")
"""
CONFIG = {
    "version": 1,
    "project": "toy",
    "project_url": "-",
    "repo": ".",
    "branches": ["HEAD"],
    "benchmark_dir": "benchmarks",
    "results_dir": "results",
    "environment_type": "virtualenv",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A toy asv project that has been run once, offline, in the environment at hand."""
    pytest.importorskip("asv")
    if not shutil.which("git"):
        pytest.skip("needs git")
    folder = tmp_path / "toy"
    (folder / "benchmarks").mkdir(parents=True)
    (folder / "benchmarks" / "__init__.py").touch()
    (folder / "benchmarks" / "step_time.py").write_text(BENCHMARKS)
    (folder / "asv.conf.json").write_text(json.dumps(CONFIG))
    # asv keeps its list of machines in the home directory; not in the user's.
    environment = {**os.environ, "HOME": str(tmp_path)}

    def run(*command: str) -> str:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode in (0, 2), done.stdout + done.stderr
        return done.stdout.strip()

    run("git", "init", "--quiet")
    run("git", "add", ".")
    run("git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "toy")
    asv = (sys.executable, "-m", "asv")
    run(*asv, "machine", "--machine", "toybox", "--cpu", "Toy CPU", "--yes")
    commit = run("git", "rev-parse", "HEAD")
    same = f"existing:{sys.executable}"
    run(*asv, "run", "--machine", "toybox", "-E", same, "--set-commit-hash", commit)
    return folder


def test_a_file_of_asv_s_own_is_read(project: Path) -> None:
    runs, problems = files.find_runs(project / "results")
    assert (len(runs), problems) == (1, [])
    assert runs[0].machine == "toybox"
    assert runs[0].machine_info["cpu"] == "Toy CPU"
    frame, problems = results.tidy(runs[0])
    assert problems == []
    steps = frame[frame.quantity == "step_time"]
    found = steps.set_index(["model", "memory_size", "sequence_length"]).status
    assert found["lstm", 64, 10] == "measured"
    assert found["lstm", 256, 1] == "skipped"
    assert found["ntm", 256, 1] == "measured"
    assert found["ntm", 256, 10] == "failed"
    assert set(steps[steps.status == "measured"].samples) == {3}
    plain = frame.set_index("benchmark")
    assert plain.value["step_time.track_plain"] == 3.0
    assert plain.status["step_time.track_broken"] == "failed"
