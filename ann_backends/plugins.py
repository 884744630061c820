"""Backends that installed packages offer by entry points, and which of them are ignored."""

from __future__ import annotations

import functools
import importlib.metadata
import warnings
from collections.abc import Collection
from typing import NamedTuple

ENTRY_POINTS = "ann_backends"


class Plugin(NamedTuple):
    """An entry point: the distribution that has it, and "package.module:Class" that it names."""

    name: str
    distribution: str
    target: str
    install_hint: str

    def __str__(self) -> str:
        return f"{self.target} of the distribution {self.distribution}"


def installed() -> dict[str, Plugin]:
    """The plug-in of each name; of several it is the first by the name of its distribution."""
    return {name: plugins[0] for name, plugins in _by_name().items()}


def warn_of_ignored(registered: Collection[str]) -> None:
    """Say, once in a process, which plug-ins are ignored and what goes before them.

    registered: names that go before plug-ins.
    """
    for message in _ignored(tuple(registered)):
        _warn_once(message)


@functools.cache
def _ignored(registered: tuple[str, ...]) -> list[str]:
    # Looked for once, as it takes some milliseconds.
    messages = []
    for name, plugins in _by_name().items():
        first: object = plugins[0]
        ignored = plugins[1:]
        if name in registered:
            first, ignored = "what is registered in this process or built in", plugins
        messages += [
            f"backend {name!r}: the plug-in {each} is ignored, as {first} has that name; "
            f"register it under another one: register(..., {each.target!r})"
            for each in ignored
        ]
    return messages


@functools.cache
def _warn_once(message: str) -> None:
    warnings.warn(message, stacklevel=2)


def _by_name() -> dict[str, list[Plugin]]:
    """All plug-ins, sorted by their distributions, not by their order on the path."""
    found: dict[str, list[Plugin]] = {}
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        plugin = _plugin(point)
        others = found.setdefault(plugin.name, [])
        if plugin not in others:  # a distribution may stand on the path twice
            others.append(plugin)
    return {name: sorted(plugins) for name, plugins in sorted(found.items())}


def _plugin(point: importlib.metadata.EntryPoint) -> Plugin:
    # Its value is "package.module:Class [extra, ...]"; one that is not is told when it is loaded.
    target, _, extras = point.value.partition("[")
    distribution = point.dist.name if point.dist else "unknown"
    hint = f"pip install '{distribution}[{extras.rstrip(' ]')}]'" if extras else ""
    return Plugin(point.name, distribution, target.replace(" ", ""), hint)
