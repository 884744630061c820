"""What `import ann_backends` brings along, and how long it takes."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
OPTIONAL = [
    *("faiss", "hnswlib", "pynndescent", "sklearn", "scipy", "joblib"),
    *("torch", "pandas", "matplotlib", "hypothesis", "pytest"),
]
# Whatever is looked for is noted, so that a library that is not installed counts too. numba and
# numpy come first: what they take and look for is their own.
PROBE = """
import json, sys, time
import numpy, numba

class Notes:
    names = []
    def find_spec(self, name, path=None, target=None):
        self.names.append(name.partition(".")[0])

before, notes = set(sys.modules), Notes()
sys.meta_path.insert(0, notes)
start = time.process_time()
import {module}
seconds = time.process_time() - start
sys.meta_path.remove(notes)
{after}
loaded = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(json.dumps([seconds, sorted(loaded | set(notes.names))]))
"""


def probe(module: str, after: str = "") -> tuple[float, list[str]]:
    """Seconds of the processor that importing `module` took, and which packages it asked for."""
    code = PROBE.format(module=module, after=after)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    seconds, packages = json.loads(done.stdout)
    return seconds, packages


def test_no_optional_library_is_imported() -> None:
    assert not set(probe("ann_backends")[1]) & set(OPTIONAL)


def test_knowing_what_is_available_imports_nothing_either() -> None:
    assert not set(probe("ann_backends", "ann_backends.available()")[1]) & set(OPTIONAL)


def test_the_probe_sees_what_others_import() -> None:
    assert "pandas" in probe("reports.results")[1]


def test_it_takes_under_three_tenths_of_a_second() -> None:
    """Of the processor, which does not count what else the machine is doing."""
    seconds = [probe("ann_backends")[0] for _ in range(3)]
    assert statistics.median(seconds) < 0.3, seconds
