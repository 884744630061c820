"""Somebody else's package, installed by pip, has its backend known wherever ours are."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from reports import models
from reports.__main__ import main
from tests.reports import reports_factory as factory

ROOT = Path(__file__).parents[2]
TOY = Path(__file__).parent / "toy_backend"


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages with the toy backend in it, installed without any network."""
    source = shutil.copytree(TOY, tmp_path_factory.mktemp("source") / "toy")
    target = tmp_path_factory.mktemp("installed")
    # From a copy, as building leaves files behind.
    offline = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index")
    call("-m", "pip", "install", *offline, "--target", str(target), str(source))
    return target


def call(*arguments: str, packages: Path | None = None, **variables: str) -> str:
    """What a new interpreter prints, `packages` among those it can import."""
    paths = {"PYTHONPATH": str(packages), "ASV_PYTHONPATH": str(packages)} if packages else {}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | paths | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def test_without_the_package_the_name_is_unknown() -> None:
    assert call("-c", "import ann_backends; print('toy' in ann_backends.available())") == "False"


def test_the_backend_is_found_by_name(installed: Path) -> None:
    code = (
        "import numpy, ann_backends; "
        "index = ann_backends.create('toy', numpy.eye(5)[None]); "
        "slots, _ = index.search(numpy.eye(5)[None, 3:4], 1); "
        "print(ann_backends.available()['toy'], type(index).__name__, slots.tolist())"
    )
    assert call("-c", code, packages=installed) == "ready ToyIndex [[[3]]]"


def test_sam_learns_as_with_exact_search(installed: Path) -> None:
    """Both find the same rows, so outputs and gradients are the same."""
    code = """
import torch, sam
inputs = torch.rand(5, 2, 8)
for ann in ("exact", "toy"):
    torch.manual_seed(0)
    model = sam.SAM(8, 8, memory_size=64, word_size=16, num_heads=2, k=3, hidden_size=20, ann=ann)
    outputs, _ = model(inputs)
    outputs.square().sum().backward()
    gradient = sum(parameter.grad.abs().sum() for parameter in model.parameters())
    print(f"{outputs.sum():.4f} {gradient:.3f}")
"""
    exact, toy = call("-c", code, packages=installed).splitlines()
    assert toy == exact
    assert float(toy.split()[1]) > 0


def test_the_conformance_suite_runs_on_it(installed: Path) -> None:
    code = (
        "from ann_backends.testing import check_backend as check; check('toy'); print('conforms')"
    )
    assert call("-c", code, packages=installed) == "conforms"


def test_it_is_in_the_benchmarks_grid(installed: Path) -> None:
    code = (
        "from asv_bench.benchmarks import grid, step_time; "
        "print('toy' in grid.BACKENDS, 'sam-toy' in step_time.StepTime.params[0])"
    )
    assert call("-c", code, packages=installed) == "True True"
    assert call("-c", code) == "False False"


def test_the_report_shows_its_curve(tmp_path: Path) -> None:
    def seconds(model: str, size: int, length: int) -> float:
        return 1e-3 * length * (1 + size / 1e4 * (model == "sam-toy"))

    both = ["sam-exact", "sam-toy"]
    rows = {factory.STEP: factory.row([both, factory.SIZES, [1, 10]], seconds, True)}
    factory.write(tmp_path / "results" / "toybox", factory.result(rows))
    assert main(["build", str(tmp_path / "results"), "--out", str(tmp_path / "report")]) == 0
    assert_drawn(tmp_path / "report")


def assert_drawn(report: Path) -> None:
    """A curve of its own in the figure, its name beside it on the page, its points in the table."""
    assert models.look("sam-toy").colour in (report / "figure_1a.svg").read_text()
    assert "SAM toy" in (report / "index.html").read_text()
    table = pd.read_csv(report / "results.csv")
    point = table.query("model == 'sam-toy' and memory_size == 64 and sequence_length == 1")
    assert point["value"].max() > 0


@pytest.mark.slow
def test_it_is_measured_and_reported(installed: Path, tmp_path: Path) -> None:
    """asv on the project's own suites, but with its files in a folder of this test."""
    config = json.loads(
        re.sub(r"^\s*//.*$", "", (ROOT / "asv_bench/asv.conf.json").read_text(), flags=re.MULTILINE)
    )
    config |= {
        "repo": str(ROOT),
        "benchmark_dir": str(ROOT / "asv_bench" / "benchmarks"),
        "results_dir": str(tmp_path / "results"),
        "env_dir": str(tmp_path / "env"),
        "html_dir": str(tmp_path / "html"),
    }
    path = tmp_path / "asv.conf.json"
    path.write_text(json.dumps(config))

    def asv(*arguments: str) -> str:
        return call(
            *("-m", "asv", arguments[0], "--config", str(path), *arguments[1:]),
            packages=installed,
            HOME=str(tmp_path),
        )

    commit = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=ROOT, text=True).strip()
    asv("machine", "--yes", "--machine", "toybox")
    asv(
        *("run", "--environment", "existing:same", "--set-commit-hash", commit),
        *("--machine", "toybox", "--quick"),
        *("--bench", r"StepTime.time_forward_backward\('sam-toy', 64, 1\)"),
    )
    call("-m", "reports", "build", str(tmp_path / "results"), "--out", str(tmp_path / "report"))
    assert_drawn(tmp_path / "report")
