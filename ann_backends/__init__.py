"""Nearest-neighbour indexes over a memory that changes: one contract, many backends, by name."""

from ann_backends import testing
from ann_backends.buffers import lazy_zeros
from ann_backends.exact import Exact
from ann_backends.index import Index, Settings
from ann_backends.kd_forest import KDForest
from ann_backends.lsh import LSH
from ann_backends.metric import METRICS, NORM_EPSILON, similarity
from ann_backends.registry import available, create, register, resolve

__all__ = [
    "LSH",
    "METRICS",
    "NORM_EPSILON",
    "Exact",
    "Index",
    "KDForest",
    "Settings",
    "available",
    "create",
    "lazy_zeros",
    "register",
    "resolve",
    "similarity",
    "testing",
]
