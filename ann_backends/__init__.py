"""Nearest-neighbour indexes over a memory that changes: one contract, many backends, by name."""

from typing import TYPE_CHECKING

from ann_backends import forked as forked  # notes forks from now on
from ann_backends import registry, testing
from ann_backends.buffers import copy_changed, lazy_zeros
from ann_backends.copies import gather
from ann_backends.exact import Exact
from ann_backends.index import Index, Settings
from ann_backends.kd_forest import KDForest
from ann_backends.kernels.jit import kernel
from ann_backends.log import Log
from ann_backends.lsh import LSH
from ann_backends.metric import METRICS, NORM_EPSILON, similarity
from ann_backends.prefetching import prefetch
from ann_backends.registry import available, create, register, resolve
from ann_backends.replay import Replay, replay
from ann_backends.trace import Trace

if TYPE_CHECKING:
    from ann_backends.hnsw import HNSW as HNSW
    from ann_backends.ivf import IVF as IVF
    from ann_backends.nn_descent import NNDescent as NNDescent

__all__ = [
    "LSH",
    "METRICS",
    "NORM_EPSILON",
    "Exact",
    "Index",
    "KDForest",
    "Log",
    "Replay",
    "Settings",
    "Trace",
    "available",
    "copy_changed",
    "create",
    "gather",
    "kernel",
    "lazy_zeros",
    "prefetch",
    "register",
    "replay",
    "resolve",
    "similarity",
    "testing",
]

# Settings that need an optional package: imported, like it, when they are asked for.
_OPTIONAL = {"HNSW": "hnsw", "IVF": "ivf", "NNDescent": "nn_descent"}


def __getattr__(name: str) -> type:
    if name in _OPTIONAL:
        return registry.load(_OPTIONAL[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
