"""Imports go downward only: reports | asv_bench -> sam -> ann_backends."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = {"sam", "ann_backends", "reports", "asv_bench", "tests"}
# Of the packages that matter here, what each layer may import at all.
ALLOWED = {
    "ann_backends": {"ann_backends", "numpy", "numba"},
    "sam": {"sam", "ann_backends", "numpy", "numba", "torch"},
    "asv_bench": {"asv_bench", "asv", "sam", "ann_backends", "numpy", "torch", "psutil"},
    "reports": {"reports", "pandas", "matplotlib", "numpy"},
}
# An optional package, inside its own file only. (ivf loads torch, where there is one, for faiss.)
ALLOWED_IN_FILE = {
    "ann_backends/nn_descent.py": {"pynndescent"},
    "ann_backends/hnsw.py": {"hnswlib"},
    "sam/data/omniglot.py": {"PIL"},
    "sam/data/source.py": {"pooch"},
    "sam/training/progress.py": {"tqdm"},
    "sam/training/board.py": {"tensorboard"},
    "sam/training/sweeps/engines.py": {"joblib", "ray", "distributed"},
    "ann_backends/ivf.py": {"faiss", "torch"},
    # What numba makes machine code with, and brings along.
    "ann_backends/sketch.py": {"llvmlite"},
}


def imports_of(path):
    """(top-level package, whole name) of each absolute import in a file, nested ones too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.partition(".")[0], alias.name
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.partition(".")[0], node.module


@pytest.mark.parametrize("layer", ALLOWED)
def test_a_layer_imports_only_what_it_may(layer):
    files = list((ROOT / layer).rglob("*.py"))
    assert files
    for path in files:
        own = ALLOWED_IN_FILE.get(path.relative_to(ROOT).as_posix(), set())
        for package, _ in imports_of(path):
            allowed = ALLOWED[layer] | own | sys.stdlib_module_names
            assert package in allowed, f"{path}: {package}"


def test_sam_uses_only_public_names_of_the_backends():
    for path in (ROOT / "sam").rglob("*.py"):
        for package, name in imports_of(path):
            assert package != "ann_backends" or name == "ann_backends", f"{path}: {name}"


def test_oracles_import_nothing_of_ours_but_oracles():
    oracles = list((ROOT / "tests").rglob("oracle_*.py"))
    assert oracles
    for path in oracles:
        ours = {name for package, name in imports_of(path) if package in OURS}
        assert all(name.rpartition(".")[2].startswith("oracle_") for name in ours), path


def test_there_is_no_cycle_between_modules():
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for layer in ALLOWED
        for path in (ROOT / layer).rglob("*.py")
    }
    below = {
        name: {used for _, used in imports_of(path) if used in modules and used != name}
        for name, path in modules.items()
        if path.name != "__init__.py"
    }
    while leaves := {name for name, uses in below.items() if not uses & below.keys()}:
        below = {name: uses for name, uses in below.items() if name not in leaves}
    assert not below, f"these import each other: {sorted(below)}"


@pytest.mark.parametrize(
    ("package", "unwanted"),
    [
        ("ann_backends", "torch faiss pynndescent hnswlib"),
        ("reports", "torch sam ann_backends numba"),
        ("sam", "faiss pynndescent hnswlib pandas matplotlib tensorboard joblib ray dask"),
    ],
)
def test_importing_a_package_loads_nothing_heavy_it_does_not_need(package, unwanted):
    code = f"import {package}, sys; print([m for m in {unwanted.split()} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"
