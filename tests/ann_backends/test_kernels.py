"""`kernel`: what is compiled is never out of date, and is compiled once."""

from __future__ import annotations

import ast
import json
import shutil
import sys
import types

import numpy as np
import pytest
from numba import njit

import ann_backends
from ann_backends.kernels.fingerprint import fingerprint
from tests.ann_backends import kernel_package
from tests.ann_backends.kernel_package import (
    AFTER,
    BEFORE,
    EDITS,
    ENTRY,
    HELPERS,
    ROOT,
    SAME_RESULTS,
    edited,
    run,
)

# Prints what the kernel gives, and how many kernels were compiled for it.
PRINT = """
import json
from numba.core import event
recorder = event.RecordingListener()
event.register("numba:compile", recorder)
from kernel_package.entry import entry
results = entry(1)
compiled = {e.data["dispatcher"].__name__ for _, e in recorder.buffer}
print(json.dumps([results, sorted(compiled)]))
"""


def entry_of(monkeypatch, helpers):
    """The kernel of the package, imported from text."""
    package = types.ModuleType("kernel_package")
    monkeypatch.setitem(sys.modules, "kernel_package", package)
    for name, text in {"helpers": helpers, "entry": ENTRY}.items():
        module = types.ModuleType(f"kernel_package.{name}")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        setattr(package, name, module)
        exec(compile(text, f"<{name}>", "exec"), vars(module))
    return package.entry.entry


@pytest.mark.parametrize("kind", EDITS)
def test_an_edit_of_what_a_kernel_is_made_from_changes_its_fingerprint(monkeypatch, kind):
    old, new, _ = EDITS[kind]
    before = fingerprint(entry_of(monkeypatch, HELPERS))
    assert fingerprint(entry_of(monkeypatch, edited(old, new))) != before
    assert fingerprint(entry_of(monkeypatch, HELPERS)) == before


@pytest.mark.parametrize("kind", SAME_RESULTS)
def test_an_edit_of_anything_else_does_not(monkeypatch, kind):
    before = fingerprint(entry_of(monkeypatch, HELPERS))
    assert fingerprint(entry_of(monkeypatch, edited(*SAME_RESULTS[kind]))) == before


def test_the_fingerprint_is_the_same_in_every_process(tmp_path):
    kernel_package.write(tmp_path)
    code = (
        "from kernel_package.entry import entry\n"
        "from ann_backends.kernels.fingerprint import fingerprint\n"
        "print(fingerprint(entry).hex())"
    )
    digests = {run(code, tmp_path, PYTHONHASHSEED=seed).stdout for seed in "012"}
    assert len(digests) == 1


def test_after_an_upgrade_the_new_code_runs_and_nothing_else_is_compiled_again(tmp_path):
    def results(helpers):
        done = run(PRINT, kernel_package.write(tmp_path, helpers))
        found, compiled = json.loads(done.stdout)
        return tuple(found), compiled

    assert results(HELPERS)[0] == BEFORE
    assert results(HELPERS) == (BEFORE, [])
    several = HELPERS
    for kind in ("a helper's helper", "a constant", "an array", "what an overload reads"):
        old, new, _ = EDITS[kind]
        several = several.replace(old, new)
    changed = {place for kind in EDITS for place in EDITS[kind][2]} & {0, 1, 2, 7, 9, 12}
    expected = tuple(AFTER[i] if i in changed else BEFORE[i] for i in range(len(BEFORE)))
    found, compiled = results(several)
    assert found == expected
    assert {"entry", "helper", "deepest"} <= set(compiled)
    assert "by_module" not in compiled
    assert results(several + "\n# a comment\n") == (expected, [])
    assert results(HELPERS)[0] == BEFORE


def test_an_edited_constant_of_the_package_itself_reaches_its_kernels(tmp_path):
    shutil.copytree(
        ROOT / "ann_backends",
        tmp_path / "ann_backends",
        dirs_exist_ok=True,
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    code = """
import json, numpy as np, ann_backends
memory = np.arange(1, 9, dtype=np.float64).reshape(1, 2, 4)
index = ann_backends.create("exact", memory=memory)
print(json.dumps([ann_backends.__file__, index.search(np.ones((1, 1, 4)), 2)[1].tolist()]))
"""

    def similarities():
        place, found = json.loads(run(code, tmp_path).stdout)
        assert place.startswith(str(tmp_path))
        return np.array(found)[0, 0]

    def expected(epsilon):
        words, query = np.arange(1.0, 9).reshape(2, 4), np.ones(4)
        norms = np.sqrt((words**2).sum(1) + epsilon) * np.sqrt((query**2).sum() + epsilon)
        return np.sort(words @ query / norms)[::-1]

    np.testing.assert_allclose(similarities(), expected(1e-6), rtol=1e-9)
    with open(tmp_path / "ann_backends" / "metric.py", "a") as file:
        file.write("\nNORM_EPSILON = 10.0\n")
    np.testing.assert_allclose(similarities(), expected(10.0), rtol=1e-9)


def test_a_kernel_is_numba_s_own_dispatcher():
    def double(x):
        return 2 * x

    made, own = ann_backends.kernel(double), njit(nogil=True)(double)
    assert type(made) is type(own)
    assert made.py_func is double
    assert made.targetoptions == own.targetoptions
    assert made(4) == 8
    loose = ann_backends.kernel(fastmath={"contract"}, error_model="numpy")(double)
    assert loose.targetoptions["fastmath"] == {"contract"}
    assert loose.targetoptions["error_model"] == "numpy"


def test_without_compilation_a_kernel_is_the_function():
    code = "import ann_backends as a\ndef f(): pass\nprint(a.kernel(f) is f)"
    assert run(code, NUMBA_DISABLE_JIT="1").stdout.strip() == "True"


@pytest.mark.parametrize("package", ["ann_backends", "sam"])
def test_every_compiled_function_is_a_kernel(package):
    """numba's own decorators keep no machine code, or stale machine code."""
    for path in (ROOT / package).rglob("*.py"):
        if path.parts[-2:] == ("kernels", "jit.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("numba"):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.Attribute) and ast.unparse(node).startswith("numba."):
                names = [node.attr]
            assert not {"jit", "njit", "vectorize", "guvectorize", "cfunc"} & set(names), path
