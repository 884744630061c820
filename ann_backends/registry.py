"""Backends by name; a backend's module is imported when it is asked for, not before."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from ann_backends import plugins
from ann_backends.index import Index, Settings


@dataclasses.dataclass(frozen=True)
class Entry:
    """Where a backend's settings class is, and what installs the packages that it requires."""

    target: str | type
    install_hint: str = ""
    requires: tuple[str, ...] = ()


_entries: dict[str, Entry] = {
    "exact": Entry("ann_backends.exact:Exact"),
    "kd_forest": Entry("ann_backends.kd_forest:KDForest"),
    "lsh": Entry("ann_backends.lsh:LSH"),
    "nn_descent": Entry(
        "ann_backends.nn_descent:NNDescent", "pip install pynndescent", ("pynndescent",)
    ),
    "hnsw": Entry("ann_backends.hnsw:HNSW", "pip install hnswlib", ("hnswlib",)),
    "ivf": Entry("ann_backends.ivf:IVF", "pip install faiss-cpu", ("faiss",)),
}


def register(
    name: str,
    target: str | type,
    *,
    install_hint: str = "",
    requires: Sequence[str] = (),
    replace: bool = False,
) -> None:
    """Make a backend known as `name`.

    target: its settings class (see `Settings`), or "package.module:Class", imported at first use;
    "module:Outer.Inner" for a nested one, "__main__:Class" for one of the script itself.
    install_hint: the command that installs what it needs, such as "pip install faiss-cpu".
    requires: the modules it needs, such as ["faiss"]; `available` looks for them, unimported.
    A name that is known already is refused unless `replace`.
    """
    if not isinstance(name, str) or not name:
        raise TypeError(f"name: got {name!r}, expected a string")
    if isinstance(target, str):
        module, _, class_name = target.partition(":")
        if not all(part.isidentifier() for part in (*module.split("."), *class_name.split("."))):
            raise ValueError(f"target: got {target!r}, expected 'package.module:Class'")
    elif not isinstance(target, type):
        raise TypeError(f"target: got {target!r}, expected a class or 'package.module:Class'")
    if not replace and name in _known():
        raise ValueError(f"name: {name!r} is registered already; replace=True replaces it")
    _entries[name] = Entry(target, install_hint, tuple(requires))


def available() -> dict[str, str]:
    """Every known backend by name: "ready", or what to install. Nothing is imported."""
    return {name: _readiness(entry) for name, entry in sorted(_known().items())}


def resolve(backend: str | Settings, **settings: Any) -> Settings:
    """The settings object that `backend` stands for: a name with `settings`, or the object itself.

    An unknown name raises ValueError with the nearest known ones; a missing package raises
    ImportError with what installs it, as does one that cannot be loaded, with the reason; an
    unknown setting raises TypeError. A plug-in that is ignored, because its name is a built-in's or
    another's, is warned of once.
    """
    if isinstance(backend, str):
        return _configured(backend, load(backend), settings)
    if isinstance(backend, type) or not callable(getattr(backend, "build", None)):
        raise TypeError(
            f"backend: got {backend!r}, expected a name or a settings object such as Exact()"
        )
    if settings:
        raise TypeError(f"settings: got {', '.join(settings)} beside an already configured backend")
    return backend


def create(
    backend: str | Settings,
    memory: npt.ArrayLike,
    *,
    seed: int = 0,
    metric: str = "cosine",
    findable: str = "all",
    **settings: Any,
) -> Index:
    """An index of `backend` over `memory` [B, N, W]; see `Index` for the arguments.

    backend: a registered name, whose `settings` may follow, or a settings object like `Exact()`.
    """
    configured = resolve(backend, **settings)
    return configured.build(memory, seed=seed, metric=metric, findable=findable)


def load(name: str) -> type:
    """The settings class of the backend `name`, imported now; errors as of `resolve`."""
    plugins.warn_of_ignored(_entries)
    entry = _entries.get(name) or _known().get(name)
    if entry is None:
        raise ValueError(_unknown(name))
    if not isinstance(entry.target, str):
        return entry.target
    module, _, class_name = entry.target.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in class_name.split("."):
            found = getattr(found, part)
    except Exception as error:
        raise ImportError(_why_not_loaded(name, entry, error), name=module) from error
    if not isinstance(found, type):
        raise TypeError(f"backend {name!r}: {entry.target} is {found!r}, expected a settings class")
    return found


def _known() -> dict[str, Entry]:
    """Registered entries and installed entry points; what is registered here goes first."""
    found = plugins.installed()
    return {name: Entry(each.target, each.install_hint) for name, each in found.items()} | _entries


def _why_not_loaded(name: str, entry: Entry, error: Exception) -> str:
    """Blames a package that is not there for what is missing, and `entry`'s own for the rest."""
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing and not _is_installed(missing):
        return (
            f"backend {name!r} needs {missing}, which cannot be imported here; "
            f"install it with: {entry.install_hint or f'pip install {missing}'}"
        )
    return f"backend {name!r}: {entry.target} cannot be loaded ({type(error).__name__}: {error})"


def _readiness(entry: Entry) -> str:
    missing = [module for module in _modules(entry) if not _is_installed(module)]
    return _what_to_install(entry, missing) if missing else "ready"


def _modules(entry: Entry) -> tuple[str, ...]:
    if isinstance(entry.target, str):
        return (entry.target.partition(":")[0], *entry.requires)
    return entry.requires


def _is_installed(module: str) -> bool:
    # Only the top-level package is looked up: for a submodule find_spec would import its parents.
    package = module.partition(".")[0]
    if package in sys.modules:  # among them "__main__", which find_spec does not know
        return sys.modules[package] is not None
    return importlib.util.find_spec(package) is not None


def _what_to_install(entry: Entry, missing: Sequence[str]) -> str:
    return entry.install_hint or f"missing: {', '.join(missing)}"


def _unknown(name: str) -> str:
    known = sorted(_known())
    near = difflib.get_close_matches(name, known)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    return f"backend: got {name!r}, expected one of {', '.join(map(repr, known))}{hint}"


def _configured(name: str, chosen: type, settings: dict[str, Any]) -> Settings:
    fields = (
        [f.name for f in dataclasses.fields(chosen)] if dataclasses.is_dataclass(chosen) else []
    )
    unknown = [key for key in settings if fields and key not in fields]
    if unknown:
        raise TypeError(
            f"settings: got {', '.join(unknown)} for backend {name!r}, "
            f"expected some of {', '.join(fields)}"
        )
    return chosen(**settings)
