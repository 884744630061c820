"""Backends by name: errors that help, nothing imported before its time."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

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
    ("target", "error"),
    [
        ("no_colon", ValueError),
        (":Class", ValueError),
        ("module:Class [extra]", ValueError),
        ("module:", ValueError),
        ("a..b:Class", ValueError),
        (Exact(), TypeError),
    ],
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


class Outer:
    class Inner(Exact):
        name = "inner"


OWN = "from ann_backends import Exact\nclass S(Exact): name = 'own'\n"


def package(top: Path, name: str, entry: str, code: str = OWN) -> str:
    """A folder for the path with a module and its entry point, as pip would install it."""
    info = top / name / f"{name}-1.dist-info"
    info.mkdir(parents=True)
    (top / name / f"{name}.py").write_text(code)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[ann_backends]\n{entry}\n")
    return str(top / name)


def ran(top: Path, code: str, *paths: str) -> tuple[str, str]:
    """What a script prints, and its warnings and error."""
    (top / "script.py").write_text("import ann_backends as ab\n" + code)
    repository = str(Path(ann_backends.__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([repository, *paths])}
    command = [sys.executable, str(top / "script.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    return done.stdout.strip(), done.stderr


def test_a_script_registers_a_class_of_its_own(tmp_path: Path) -> None:
    code = OWN + (
        "ab.register('mine', '__main__:S')\n"
        "print(ab.available()['mine'], ab.resolve('mine', rebuild_every=3))\n"
    )
    assert ran(tmp_path, code) == ("ready S(rebuild_every=3)", "")


def test_a_plugin_named_as_a_built_in_is_ignored_with_one_warning(tmp_path: Path) -> None:
    path = package(tmp_path, "pa", "kd_forest = pa:S")
    code = "for _ in range(3): print(type(ab.resolve('kd_forest')).__module__)\nab.resolve('exact')"
    out, err = ran(tmp_path, code, path)
    assert out.split() == ["ann_backends.kd_forest"] * 3
    assert err.count("is ignored") == 1
    assert "backend 'kd_forest': the plug-in pa:S of the distribution pa is ignored" in err


def test_of_two_plugins_of_one_name_the_same_is_taken_whatever_the_path(tmp_path: Path) -> None:
    paths = [package(tmp_path, name, f"fast = {name}:S") for name in ("pb", "pc")]
    code = "print(type(ab.resolve('fast')).__module__); ab.resolve('fast')"
    for order in (paths, paths[::-1]):
        out, err = ran(tmp_path, code, *order)
        assert out == "pb"
        assert err.count("is ignored") == 1
        assert "the plug-in pc:S of the distribution pc is ignored, as pb:S of the distr" in err


def test_the_same_plugin_twice_on_the_path_is_one(tmp_path: Path) -> None:
    path = package(tmp_path, "pb", "fast = pb:S")
    copied = shutil.copytree(path, tmp_path / "again")
    assert ran(tmp_path, "print(ab.resolve('fast'))", path, str(copied))[1] == ""


@pytest.mark.parametrize(
    ("code", "blamed"),
    [
        ("from numpy import float_ as gone\n", "'old': pd:S cannot be loaded (ImportError: "),
        ("import numpy.gone\n", "'old': pd:S cannot be loaded (ModuleNotFoundError: No module "),
        ("raise OSError('no GPU')\n", "'old': pd:S cannot be loaded (OSError: no GPU)"),
        ("def f(:\n", "'old': pd:S cannot be loaded (SyntaxError: "),
        ("import no_such_lib\n", "'old' needs no_such_lib, which cannot be imported here; install"),
    ],
)
def test_a_plugin_that_cannot_be_loaded_is_blamed_itself(
    tmp_path: Path, code: str, blamed: str
) -> None:
    path = package(tmp_path, "pd", "old = pd:S", code + OWN)
    _, err = ran(tmp_path, "ab.resolve('old')", path)
    last = next(line for line in err.splitlines()[::-1] if line.startswith("ImportError"))
    assert f"backend {blamed}" in last
    assert "pip install numpy" not in err


def test_entry_points_with_an_extra_or_of_a_nested_class_resolve(tmp_path: Path) -> None:
    nested = "from ann_backends import Exact\nclass A:\n    class S(Exact): name = 'f'\n"
    paths = [
        package(tmp_path, "pe", "e = pe:S [gpu, fast]"),
        package(tmp_path, "pf", "f = pf:A.S", nested),
    ]
    code = "print(ab.resolve('e').name, ab.resolve('f').name, ab.available()['e'])"
    assert ran(tmp_path, code, *paths) == ("own f ready", "")


def test_what_is_missing_for_an_extra_is_installed_by_the_extra(tmp_path: Path) -> None:
    path = package(tmp_path, "pe", "e = pe:S [gpu]", "import no_such_lib\n")
    assert "install it with: pip install 'pe[gpu]'" in ran(tmp_path, "ab.resolve('e')", path)[1]


@pytest.mark.parametrize("entry", ["g = pg", "g = pg:", "g = :S", "g = pg:S.T", "g = p g"])
def test_an_entry_point_that_names_nothing_spoils_nothing_else(tmp_path: Path, entry: str) -> None:
    code = "print(ab.resolve('exact'), sorted(ab.available()))\nab.resolve('g')"
    out, err = ran(tmp_path, code, package(tmp_path, "pg", entry))
    assert out.startswith("Exact(")
    assert "ImportError: backend 'g': " in err.splitlines()[-1]


def test_a_nested_class_registers_by_its_path() -> None:
    ann_backends.register("nested", f"{__name__}:Outer.Inner")
    assert ann_backends.resolve("nested").name == "inner"


def test_what_is_no_class_and_what_is_no_name_is_refused() -> None:
    ann_backends.register("number", "ann_backends.exact:GROUP")
    with pytest.raises(TypeError, match=r"backend 'number': ann_backends.*:GROUP is 4"):
        ann_backends.resolve("number")
    ann_backends.register("gone", "ann_backends.exact:Gone")
    with pytest.raises(ImportError, match=r"cannot be loaded \(AttributeError: .*'Gone'"):
        ann_backends.resolve("gone")
    with pytest.raises(TypeError, match="name: got 3"):
        ann_backends.register(3, Exact)  # type: ignore[arg-type]
