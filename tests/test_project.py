"""What the files of the project promise each other."""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def pins():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_asv_installs_the_versions_of_the_constraints():
    text = (ROOT / "asv_bench" / "asv.conf.json").read_text()
    config = json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE))
    for name, versions in config["matrix"]["req"].items():
        assert versions == [pins()[name]]


def test_the_constraints_lie_in_the_ranges_users_may_choose_from():
    import tomllib

    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for text in [*project["dependencies"], *(text for extra in extras.values() for text in extra)]:
        requirement = Requirement(text)
        if requirement.name != project["name"]:
            assert pins()[requirement.name] in requirement.specifier


def test_make_alone_lists_every_job():
    done = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    jobs = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {line.split()[0] for line in done.stdout.splitlines()} == set(jobs)


def test_every_point_of_the_grid_has_a_place_in_a_profile_or_a_reason():
    code = (
        "from asv_bench.benchmarks import step_time, training_memory, initial_memory, sequence_time"
        "; import sys; print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
