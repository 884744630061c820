"""Which settings of a backend are measured."""

from __future__ import annotations

import dataclasses
from typing import Any

import ann_backends

Settings = dict[str, Any]

# Of each backend: settings to build with, the attribute of the index that may be assigned between
# searches, and its values.
SWEEPS: dict[str, list[tuple[Settings, str, list[float]]]] = {
    "kd_forest": [
        ({}, "checks", [32, 128, 512, 2048, 8192]),
        (
            {"trees": 1, "leaf_size": 511, "sketch": True, "principal_axes": True},
            "checks",
            [1024, 2048, 4096, 6144, 8192, 12288, 16384],
        ),
    ],
    "lsh": [
        ({"tables": 8}, "probes", [2, 4, 8, 16, 32, 64]),
        ({"tables": 16}, "probes", [2, 4, 8, 16, 32, 64]),
        ({"tables": 1, "sketch": True}, "probes", [8, 16, 32, 64, 128, 192, 256, 384, 512]),
        (
            {"tables": 1, "sketch": True, "probes": 512},
            "reach",
            [0.2, 0.3, 0.35, 0.4, 0.5, 0.7, 1.0],
        ),
        # Fewer and larger buckets, for queries whose nearest rows are spread over many.
        (
            {"tables": 1, "sketch": True, "bits": 10, "probes": 256},
            "reach",
            [0.3, 0.4, 0.5, 0.7],
        ),
    ],
    "nn_descent": [({}, "epsilon", [0.0, 0.05, 0.1, 0.2, 0.3, 0.5])],
    "hnsw": [({}, "ef", [16, 32, 64, 128])],
    "ivf": [({}, "probes", [1, 2, 4, 6, 8, 12, 16, 32])],
}


@dataclasses.dataclass(frozen=True)
class Sweep:
    """One build of a backend and the search settings to assign to it, one after the other."""

    backend: str
    build: Settings
    searches: list[Settings]

    def settings(self, search: Settings) -> ann_backends.Settings:
        """The backend with its build settings and one of the search settings."""
        return ann_backends.resolve(self.backend, **self.build, **search)

    def is_default(self, search: Settings) -> bool:
        return self.settings(search) == ann_backends.resolve(self.backend)


def sweeps(backend: str) -> list[Sweep]:
    """All that is measured of a backend, its defaults among it; those alone if it is not ours."""
    chosen = SWEEPS.get(backend)
    if chosen is None:
        return [Sweep(backend, {}, [{}])]
    found = [
        Sweep(backend, build, [{name: value} for value in values]) for build, name, values in chosen
    ]
    if not any(sweep.is_default(search) for sweep in found for search in sweep.searches):
        build, name, values = chosen[0]
        default = getattr(ann_backends.resolve(backend), name)
        found[0] = Sweep(backend, build, [{name: value} for value in sorted([*values, default])])
    return found
