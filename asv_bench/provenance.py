"""What figures were measured on, and that it was this checkout."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import importlib
import importlib.metadata
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGES = ("torch", "numpy", "numba", "faiss-cpu", "hnswlib", "pynndescent")
MEASURED = ("sam", "ann_backends")


@dataclasses.dataclass(frozen=True)
class Code:
    """The code as it is: a commit, and a digest of what differs from it ("" for nothing)."""

    commit: str
    changes: str

    def __str__(self) -> str:
        return f"{self.commit} {self.changes}".strip()


def code(root: Path = ROOT) -> Code:
    """That of this checkout; modules that git does not know yet count as changes."""
    commit = _git(root, "rev-parse", "HEAD").strip().decode()
    top = Path(os.fsdecode(_git(root, "rev-parse", "--show-toplevel").removesuffix(b"\n")))
    if not top.samefile(root):
        sys.exit(
            f"figures are filed by commit, so a git clone is needed: {root} only lies within "
            f"{top}, which is another one"
        )
    changes = _git(root, "diff", "--no-ext-diff", "--no-textconv", "--no-color", "HEAD").strip()
    folders = (*MEASURED, "asv_bench")
    others = _git(root, "ls-files", "-z", "--others", "--exclude-standard", *folders)
    # Python imports a module also where git was told to ignore it.
    others += _git(root, "ls-files", "-z", "--others", *(f"{each}/*.py" for each in folders))
    for name in sorted({each for each in others.split(b"\0") if each}):
        path = root / os.fsdecode(name)
        changes += b"\n%s\n%s" % (name, path.read_bytes() if path.is_file() else b"")
    return Code(commit, hashlib.sha256(changes).hexdigest() if changes else "")


def origin(begun: Code) -> dict[str, object]:
    """What a figure needs to be judged by that is measured now, in a run that began on some code.

    Code that was changed since counts as code with changes.
    """
    return {
        "threads": 1,
        "commit": begun.commit,
        "uncommitted_changes": bool(begun.changes) or code() != begun,
        "code": str(begun),
        "versions": versions(),
        "python": platform.python_version(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def versions() -> dict[str, str]:
    """Of the packages measured or measured with, those that are installed."""
    installed = {item.name: item.version for item in importlib.metadata.distributions()}
    return {name: installed[name] for name in PACKAGES if name in installed}


def any_edited(lines: Iterable[dict[str, Any]], commit: str) -> bool:
    """Whether any point of a commit was last measured on code with changes.

    Args:
        lines: of `provenance.jsonl`; of several for one point of a suite the last counts.
        commit: under which the figures are filed.
    """
    edited: dict[tuple[object, ...], bool] = {}
    for line in lines:
        if line.get("commit") == commit:
            for point in line["points"]:
                edited[(line["suite"], *point)] = line["uncommitted_changes"]
    return any(edited.values())


def check_imports(root: Path = ROOT) -> None:
    """Exit unless Python, started anywhere, imports the packages to measure from this checkout."""
    names = ", ".join(MEASURED)
    program = f"import {names}\nfor each in ({names}): print(each.__file__)"
    with tempfile.TemporaryDirectory() as elsewhere:
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=elsewhere,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        sys.exit(f"{names} cannot be imported, so there is nothing to measure:\n{done.stderr}")
    _check_places(done.stdout.splitlines(), root)


def check_own_imports(root: Path = ROOT) -> None:
    """Exit unless this process imports the packages to measure from this checkout."""
    _check_places([importlib.import_module(name).__file__ for name in MEASURED], root)


def _check_places(files: Iterable[str | None], root: Path) -> None:
    for name, found in zip(MEASURED, files, strict=True):
        expected = root / name / "__init__.py"
        if Path(found or "").resolve() != expected.resolve():
            sys.exit(
                f"{name}: got {found}, expected {expected}: figures are filed under the commit of "
                "this checkout, so it must be what is measured. Install it with: "
                f"{sys.executable} -m pip install --no-deps -e {root}"
            )


def _git(root: Path, *arguments: str) -> bytes:
    """What git prints, run on a checkout, also within a hook, where GIT_DIR is another's."""
    words = "figures are filed by commit, so a git clone is needed"
    own = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or name.startswith("GIT_CONFIG")
    }
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=root, env=own, capture_output=True, check=False
        )
    except FileNotFoundError:
        sys.exit(f"{words}, and git, which is not installed")
    if done.returncode:
        sys.exit(f"{words}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout
