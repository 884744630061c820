"""Backends by name: errors that help, nothing imported before its time."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

import ann_backends
from ann_backends import Exact, registry

MEMORY = np.ones((1, 4, 3), np.float32)


@pytest.fixture(autouse=True)
def _registry_restored() -> Iterator[None]:
    before = dict(registry._entries)
    yield
    registry._entries.clear()
    registry._entries.update(before)


def test_a_name_and_a_settings_object_build_the_same() -> None:
    by_name = ann_backends.create("exact", MEMORY, rebuild_every=2)
    by_object = ann_backends.create(Exact(rebuild_every=2), memory=MEMORY)
    assert by_name.settings == by_object.settings == Exact(rebuild_every=2)
    assert isinstance(by_name, ann_backends.Index)


def test_unknown_name_lists_the_known_and_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"'exat'.*'exact'.*did you mean 'exact'\?"):
        ann_backends.create("exat", MEMORY)
    with pytest.raises(ValueError, match=r"expected one of .*'exact'.*$"):
        ann_backends.create("zzz", MEMORY)


def test_unknown_setting_lists_the_known() -> None:
    with pytest.raises(TypeError, match=r"got trees for backend 'exact', expected .*rebuild_every"):
        ann_backends.create("exact", MEMORY, trees=4)
    with pytest.raises(TypeError, match="got rebuild_every beside"):
        ann_backends.create(Exact(), MEMORY, rebuild_every=4)
    with pytest.raises(ValueError, match="rebuild_every: got 0"):
        Exact(rebuild_every=0)


@pytest.mark.parametrize("backend", [Exact, None, 3])
def test_what_is_no_backend_is_refused(backend: object) -> None:
    with pytest.raises(TypeError, match="expected a name or a settings object"):
        ann_backends.create(backend, MEMORY)  # type: ignore[arg-type]


def test_missing_package_says_what_installs_it() -> None:
    ann_backends.register("absent", "no_such_lib:Thing", install_hint="pip install no-such-lib")
    assert ann_backends.available()["absent"] == "pip install no-such-lib"
    with pytest.raises(ImportError, match="pip install no-such-lib") as raised:
        ann_backends.create("absent", MEMORY)
    assert isinstance(raised.value.__cause__, ModuleNotFoundError)


def test_required_package_is_looked_for_without_an_import() -> None:
    ann_backends.register("needy", "ann_backends.exact:Exact", requires=["no_such_lib"])
    assert ann_backends.available()["needy"] == "missing: no_such_lib"


def test_duplicate_name_is_refused_unless_replaced() -> None:
    with pytest.raises(ValueError, match="'exact' is registered already"):
        ann_backends.register("exact", Exact)
    ann_backends.register("exact", Exact, replace=True)
    assert ann_backends.available()["exact"] == "ready"


def test_a_class_registers_as_it_is() -> None:
    ann_backends.register("mine", Exact)
    assert ann_backends.create("mine", MEMORY, rebuild_every=9).settings == Exact(rebuild_every=9)


@pytest.mark.parametrize(
    ("target", "error"), [("no_colon", ValueError), (":Class", ValueError), (Exact(), TypeError)]
)
def test_bad_target_is_refused(target: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="target: got"):
        ann_backends.register("mine", target)  # type: ignore[arg-type]


def test_entry_points_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    point = importlib.metadata.EntryPoint("plugged", "ann_backends.exact:Exact", "ann_backends")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point])
    assert ann_backends.available()["plugged"] == "ready"
    assert ann_backends.resolve("plugged") == Exact()
    with pytest.raises(ValueError, match="'plugged' is registered already"):
        ann_backends.register("plugged", Exact)


def test_import_loads_no_optional_package() -> None:
    code = (
        "import sys, ann_backends\n"
        "ann_backends.available()\n"
        "heavy = {'torch', 'faiss', 'pynndescent', 'hnswlib', 'pytest', 'sam'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
