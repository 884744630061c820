"""asv's own commands on this project: a planted slowdown must be found."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
POINT = r"StepTime.time_forward_backward\('sam-exact', 64, 10\)"
PLANT_AFTER = "    def unroll(self, inputs: Tensor, state: SAMState) -> tuple[Tensor, SAMState]:\n"
PLANTED = "        __import__('time').sleep(0.005)\n"


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """The tracked files as they stand, as a repository of two commits; the second is slower."""
    home = tmp_path_factory.mktemp("home")
    clone = tmp_path_factory.mktemp("clone")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).exists():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone / name)
    environment = os.environ | {
        "HOME": str(home),
        "PIP_CONSTRAINT": str(ROOT / "constraints.txt"),
        **{
            f"GIT_{who}_{what}": "test"
            for who in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")
        },
    }

    def call(*command, expected=0):
        done = subprocess.run(
            command, cwd=clone, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == expected, done.stdout + done.stderr
        return done.stdout

    call("git", "init", "--quiet")
    call("git", "add", ".")
    call("git", "commit", "--quiet", "--message", "as it stands")
    path = clone / "sam" / "sam.py"
    path.write_text(path.read_text().replace(PLANT_AFTER, PLANT_AFTER + PLANTED))
    assert PLANTED in path.read_text()
    call("git", "commit", "--quiet", "--all", "--message", "a planted slowdown")
    return call


def asv(call, command, *arguments, expected=0):
    configured = [sys.executable, "-m", "asv", command, "--config", "asv_bench/asv.conf.json"]
    return call(*configured, *arguments, expected=expected)


def test_run_continuous_compare_and_publish(clone):
    asv(clone, "machine", "--yes")
    found = asv(
        clone,
        *("continuous", "HEAD~1", "HEAD", "--factor", "1.25", "--bench", POINT),
        expected=1,
    )
    assert "PERFORMANCE DECREASED" in found
    assert "sam-exact" in found
    compared = asv(clone, "compare", "HEAD~1", "HEAD", "--factor", "1.25", "--only-changed")
    assert "sam-exact" in compared
    asv(clone, "run", "HEAD^!", "--bench", POINT, "--skip-existing-successful")
    asv(clone, "publish")
    index = json.loads(clone("cat", ".asv/html/index.json"))
    assert "step_time.StepTime.time_forward_backward" in index["benchmarks"]
