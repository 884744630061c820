"""A package of two files, whose kernel depends on the other file in every way that there is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

HELPERS = """
import enum
from typing import NamedTuple
import numpy as np
from numba import types
from numba.extending import intrinsic, overload
from ann_backends import kernel

CONSTANT = 1
ARRAY = np.arange(2000.0) + 1
NESTED = (0, (2.5, 1))
OPTIONS = {"reassoc"}
SHIFT = 1
FACTOR = 1

class Level(enum.IntEnum):
    LOW = 1

class Pair(NamedTuple):
    first: int
    second: int

@kernel
def deepest(x):
    return x * 1

@kernel
def helper(x):
    'Some words.'
    return deepest(x) + 0

@kernel(fastmath=OPTIONS)
def by_module(x):
    return x

@kernel
def with_default(x, more=0):
    return x + more

def plain(x):
    return x

@overload(plain)
def compiled_plain(x):
    def compiled(x):
        return x * SHIFT
    return compiled

def factor():
    return FACTOR

def emit(context, x):
    def generate(context, builder, signature, arguments):
        return builder.mul(arguments[0], context.get_constant(types.int64, factor()))
    return types.int64(types.int64), generate

multiplied = intrinsic(emit)

def made(number):
    @kernel
    def of_closure(x):
        return x * number
    return of_closure

one, other = made(1), made(7)

@kernel
def unrelated(x):
    return x
"""

ENTRY = """
from ann_backends import kernel
from kernel_package import helpers
from kernel_package.helpers import (
    ARRAY, CONSTANT, NESTED, Level, Pair,
    helper, multiplied, one, plain, with_default,
)

def made(function):
    @kernel
    def entry(x):
        results = (
            helper(x), CONSTANT, ARRAY[1], NESTED[1][1], Level.LOW.value, Pair(x, 2 * x).first,
            helpers.by_module(x), helpers.CONSTANT, with_default(x), plain(x), multiplied(x),
            one(x), function(x),
        )
        return results
    return entry

entry = made(helper)
"""

# What is edited, and the places of ENTRY's results that it changes.
EDITS = {
    "a helper": ("return deepest(x) + 0", "return deepest(x) + 5", [0, 12]),
    "a helper's helper": ("return x * 1", "return x * 5", [0, 12]),
    "a constant": ("CONSTANT = 1", "CONSTANT = 5", [1, 7]),
    "an array": ("np.arange(2000.0) + 1", "np.arange(2000.0) + 4", [2]),
    "a tuple in a tuple": ("(2.5, 1)", "(2.5, 5)", [3]),
    "a member of an enum": ("LOW = 1", "LOW = 5", [4]),
    "the fields of a named tuple": ("first: int\n    second", "second: int\n    first", [5]),
    "a helper found by its module": ("def by_module(x):\n    return x", None, [6]),
    "an option of a helper": ('{"reassoc"}', '{"contract"}', []),
    "a default": ("more=0", "more=4", [8]),
    "what an overload reads": ("SHIFT = 1", "SHIFT = 5", [9]),
    "what an overload compiles": ("return x * SHIFT", "return x * SHIFT + 4", [9]),
    "what an intrinsic's helper reads": ("FACTOR = 1", "FACTOR = 5", [10]),
    "an intrinsic's helper": ("return FACTOR", "return FACTOR + 4", [10]),
    "an intrinsic": ("get_constant(types.int64, ", "get_constant(types.int64, 4 + ", [10]),
    "what a closure holds": ("made(1), made(7)", "made(5), made(7)", [11]),
    "two functions that change places": ("one, other =", "other, one =", [11]),
}
# The results at the start, for x = 1, and after an edit in the places that it changes.
BEFORE = (1, 1, 2.0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1)
AFTER = (5, 5, 5.0, 5, 5, 2, 5, 5, 5, 5, 5, 5, 5)
SAME_RESULTS = {
    "a comment": ("CONSTANT = 1", "CONSTANT = 1  # one"),
    "a kernel that is not called": ("def unrelated(x):\n    return x", None),
    "a docstring": ("Some words", "Other words"),
    "lines that move": ("\nclass Level", "\n\n\n\nclass Level"),
    "a function beside": ("def factor", "def beside(x):\n    return x\n\ndef factor"),
}


def edited(old: str, new: str | None) -> str:
    """HELPERS after an edit; None adds 4 to what the last line returns."""
    assert HELPERS.count(old) == 1, old
    return HELPERS.replace(old, f"{old} + 4" if new is None else new)


def write(folder: Path, helpers: str = HELPERS) -> Path:
    """The package in `folder`, as an upgrade writes it over an older one."""
    package = folder / "kernel_package"
    package.mkdir(parents=True, exist_ok=True)
    for name, text in {"__init__": "", "helpers": helpers, "entry": ENTRY}.items():
        (package / f"{name}.py").write_text(text)
    for compiled in package.glob("__pycache__/*.pyc"):
        compiled.unlink()  # as pip does; two writes in one second look the same to Python
    return folder


def run(code: str, *folders: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python with `folders` and this checkout to import from."""
    path = os.pathsep.join(map(str, (*folders, ROOT)))
    known = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_")}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env=known | {"PYTHONPATH": path} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done
