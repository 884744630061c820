"""Backends on what SAM asked of its index in training, at the start, in the middle, at the end."""

from __future__ import annotations

from . import grid


class Traces(grid.Suite):
    """A recorded trace replayed on a backend in default settings."""

    params = (grid.BACKENDS, grid.TRACES)
    param_names = ("backend", "data")

    def reason_to_skip(self, backend: str, data: str) -> str | None:
        profiles = {"figure"}
        if backend in grid.QUICK_BACKENDS[1:] and data.endswith("-end"):
            profiles.add("quick")
        return grid.outside_profile(profiles) or grid.not_ready(backend)

    def track_missed(self, backend: str, data: str) -> float:
        return grid.missed(_replay(backend, data).mean_recall)

    def track_access(self, backend: str, data: str) -> float:
        """Seconds per step and memory: searches and updates, rebuilds included."""
        return _replay(backend, data).access_us * 1e-6

    track_missed.unit = grid.MISSED
    track_access.unit = "seconds"


def _replay(backend: str, data: str):
    import ann_backends

    trace = ann_backends.Trace.load(grid.TRACE_FOLDER / f"{data}.npz")
    return ann_backends.replay(trace, backend)
