"""Who trains the runs of a sweep: joblib, over processes here, over Ray or over Dask."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from sam import checks

ENGINES = ("processes", "ray", "dask")
NEEDS = {
    "processes": {"joblib": "train"},
    "ray": {"joblib": "train", "ray": "ray"},
    "dask": {"joblib": "train", "distributed": "dask"},
}

Map = Callable[[Callable[[Any], None], Iterable[Any]], None]
Backend = tuple[str, dict[str, Any]]  # joblib's, by name, with its options


@dataclasses.dataclass(frozen=True)
class Place:
    """Where runs are trained, and how many at a time.

    engine: "processes" of this machine, "ray" or "dask". address: of a cluster; without one, Ray
    and Dask are started on this machine, and ended afterwards. jobs: by default as many as there
    are cores for, here or in the cluster.
    """

    engine: str = "processes"
    jobs: int | None = None
    address: str | None = None

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise ValueError(f"engine: got {self.engine!r}, expected one of {', '.join(ENGINES)}")
        if self.jobs is not None:
            checks.positive_sizes(jobs=self.jobs)
        if self.address is not None and self.engine == "processes":
            raise ValueError(f"address: got {self.address!r}, expected none for processes")


def check(place: Place) -> None:
    """Raises ImportError, with what to install, if what the engine needs is missing."""
    for module, extra in NEEDS[place.engine].items():
        try:
            importlib.import_module(module)
        except ImportError as error:
            package = module.partition(".")[0]
            raise ImportError(
                f"{package} is not installed: pip install 'sparse-access-memory[{extra}]'"
            ) from error


@contextlib.contextmanager
def started(place: Place, threads: int) -> Iterator[Map]:
    """A map that calls a function on each of some items, on so many at a time.

    Items are asked for one by one, as jobs get free. threads: that each of them uses.
    """
    import joblib

    jobs = place.jobs
    if jobs is None:
        jobs = -1 if place.address else max(1, joblib.cpu_count() // threads)

    def map_all(function: Callable[[Any], None], items: Iterable[Any]) -> None:
        dispatch = joblib.Parallel(batch_size=1, pre_dispatch="n_jobs")
        dispatch(joblib.delayed(function)(item) for item in items)

    with (
        STARTS[place.engine](jobs, place.address) as (backend, options),
        joblib.parallel_config(backend, n_jobs=jobs, **options),
    ):
        yield map_all


@contextlib.contextmanager
def _threads(jobs: int, address: str | None) -> Iterator[Backend]:
    """Threads will do, as all that they do is to wait for the processes of their runs."""
    yield "threading", {}


@contextlib.contextmanager
def _ray(jobs: int, address: str | None) -> Iterator[Backend]:
    import ray
    from ray.util.joblib import register_ray

    # A cluster has its own dashboard and number of cores.
    own: dict[str, Any] = {} if address else {"num_cpus": jobs, "include_dashboard": False}
    ray.init(address=address or "local", log_to_driver=False, logging_level=logging.WARNING, **own)
    try:
        register_ray()
        yield "ray", {}
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _dask(jobs: int, address: str | None) -> Iterator[Backend]:
    from distributed import Client, LocalCluster

    with contextlib.ExitStack() as stack:
        cluster = address or stack.enter_context(
            # Threads will do here as well, and a Ctrl-C does not end them.
            LocalCluster(
                n_workers=1, threads_per_worker=jobs, processes=False, dashboard_address=None
            )
        )
        yield "dask", {"client": stack.enter_context(Client(cluster))}


STARTS = {"processes": _threads, "ray": _ray, "dask": _dask}
