"""A digest of everything that the machine code of a kernel is made from.

A kernel is compiled together with the functions that it calls, and with the constants that it
reads; both may come from other files. The digest is taken of what is loaded, not of the files: a
file that was edited after it was imported does not count yet.
"""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
from numba.core.dispatcher import Dispatcher
from numba.core.extending import _Intrinsic
from numba.core.typing.templates import builtin_registry

# Packages whose functions are known by their names; numba's version is part of its files.
FOREIGN = {"numba", "llvmlite", "numpy"} | sys.stdlib_module_names


def fingerprint(kernel: Dispatcher) -> bytes:
    """The digest of a kernel, of all functions that it reaches, and of the constants they read."""
    walk = _Walk()
    walk.note("kernel", kernel, frozenset())
    for function in walk.functions:  # which grow meanwhile
        walk.note_function(function)
    return hashlib.sha256("\n".join(walk.lines).encode()).digest()


class _Walk:
    """Writes a line of text for each thing that a kernel depends on.

    Functions are numbered in the order in which they are found, so that of two with the same name
    it is known which one is meant.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.functions: list[FunctionType] = []
        self._seen: set[tuple[int, frozenset[str]]] = set()

    def note(self, place: str, value: Any, names: frozenset[str]) -> None:
        """Note that `value` is found at `place`.

        Args:
            place: who refers to it, and by which name.
            value: what is found there.
            names: the names in the code that refers to it: of a module or a class, only
                attributes of these names count.
        """
        self.lines.append(f"{place} = {_text(value)}")
        if isinstance(value, Dispatcher):
            self.note_all(place, {"options": value.targetoptions}, names)
            self._add(value.py_func)
        elif isinstance(value, _Intrinsic):
            self._add(value._defn)
        elif isinstance(value, FunctionType):
            self._add(value)
        elif isinstance(value, functools.partial):
            self.note_all(place, {"": value.func, "args": value.args, **value.keywords}, names)
        elif isinstance(value, dict):
            self.note_all(place, {_text(key): item for key, item in value.items()}, names)
        elif isinstance(value, tuple | list):
            self.note_all(place, {str(i): item for i, item in enumerate(value)}, names)
        elif isinstance(value, ModuleType | type):
            if (id(value), names) not in self._seen:
                self._seen.add((id(value), names))
                self.note_all(place, _attributes(value, names), names)
        elif hasattr(value, "__wrapped__"):
            self.note(place, value.__wrapped__, names)

    def note_all(self, place: str, values: dict[str, Any], names: frozenset[str]) -> None:
        for name, value in values.items():
            self.note(f"{place}.{name}", value, names)

    def note_function(self, function: FunctionType) -> None:
        """Note its code, and everything that the code refers to."""
        code = function.__code__
        names = frozenset(_names(code))
        used = {name: function.__globals__[name] for name in names & function.__globals__.keys()}
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            used[f"closure.{name}"] = cell.cell_contents
        used["defaults"] = (function.__defaults__, function.__kwdefaults__)
        for number, template in enumerate(_overloads(function)):
            used[f"overload.{number}"] = (template._overload_func, template._jit_options)
        place = f"{self.functions.index(function)} {_text(function)}"
        self.lines.append(f"{place}: {_code_text(code, function.__doc__)}")
        self.note_all(place, dict(sorted(used.items())), names)

    def _add(self, function: FunctionType) -> None:
        if not _is_foreign(function.__module__):
            if function not in self.functions:
                self.functions.append(function)
            self.lines.append(f"this is function {self.functions.index(function)}")


def _attributes(owner: ModuleType | type, names: frozenset[str]) -> dict[str, Any]:
    """Of a module or class that is not foreign, the attributes of these names."""
    module = owner.__name__ if isinstance(owner, ModuleType) else owner.__module__
    if _is_foreign(module):
        return {}
    return {name: vars(owner)[name] for name in sorted(names & vars(owner).keys())}


def _is_foreign(module: str | None) -> bool:
    return (module or "").partition(".")[0] in FOREIGN


def _overloads(function: FunctionType) -> list[Any]:
    """What numba compiles for calls of a plain function (`numba.extending.overload`)."""
    known = (kind for key, kind in builtin_registry.globals if key is function)
    templates = (template for kind in known for template in kind.templates)
    return [template for template in templates if hasattr(template, "_overload_func")]


def _names(code: CodeType) -> Iterator[str]:
    """All names of globals and attributes in a function, those nested in it too."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _code_text(code: CodeType, docstring: str | None = None) -> str:
    constants = [
        _code_text(item) if isinstance(item, CodeType) else _text(item)
        for item in code.co_consts
        if item is None or item is not docstring
    ]
    variables = code.co_varnames, code.co_freevars, code.co_cellvars
    shape = code.co_argcount, code.co_kwonlyargcount, code.co_flags
    return repr((code.co_code, code.co_exceptiontable, constants, code.co_names, variables, shape))


def _text(value: Any) -> str:
    """The same text in every process for equal values; another one for others, as far as known."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()}"
    if isinstance(value, FunctionType | type | Dispatcher | _Intrinsic):
        fields = getattr(value, "_fields", "")  # of a named tuple
        return f"{value.__module__}.{getattr(value, '__qualname__', '')}{fields}"
    if isinstance(value, ModuleType):
        return value.__name__
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(map(_text, value)))}}}"
    if isinstance(value, tuple | list):
        return f"{type(value).__name__} ({', '.join(map(_text, value))})"
    if isinstance(value, dict):
        pairs = (f"{_text(key)}: {_text(item)}" for key, item in value.items())
        return f"{{{', '.join(pairs)}}}"
    text = repr(value)
    # An address in the memory of this process says nothing.
    return str(type(value)) if " at 0x" in text else text
