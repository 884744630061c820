"""What an index holds, as values to compare: all that later answers can depend on, and no more."""

from __future__ import annotations

from typing import Any

import numpy as np

from ann_backends import Index
from ann_backends.forest import (
    ABOVE,
    BELOW,
    FREE_BLOCK,
    FREE_NODE,
    NEXT,
    Forest,
    place_of,
)
from ann_backends.kd_forest import KDForestIndex


def structure_of(index: Index) -> dict[str, Any]:
    """Arrays as bytes, without what stands in unused places and is never read."""
    found: dict[str, Any] = {"stats": {**index.stats(), "bytes": None}}
    for name, array in index._structure().items():
        if isinstance(index, KDForestIndex) and name in index.growing:
            continue
        if name == "sketches":
            rows = index._scale != 0
            b, slot = np.nonzero(rows)
            array = array[b, slot // 16, :, slot % 16] if array.size else array
        found[name] = array.tobytes()
    found["insertions"] = index._insertions.tobytes()
    if isinstance(index, KDForestIndex):
        for b in range(index.batch_size):
            found[f"trees {b}"] = _trees(index._element(b))
    return found


def _trees(forest: Forest) -> list[Any]:
    """All nodes and blocks in use, and the lists of the others."""
    parts: list[Any] = []
    waiting = [int(root) for root in forest.roots if root]
    while waiting:
        child = waiting.pop()
        if child > 0:
            threshold = forest.thresholds[child].tobytes()
            parts.append((child, forest.nodes[child].tolist(), threshold))
            waiting += [int(forest.nodes[child, side]) for side in (BELOW, ABOVE)]
            continue
        block = -child
        while block:
            count = int(forest.leaves[block, 0])
            parts.append((block, forest.links[block].tolist(), count))
            for place in range(1, count + 1):
                parts.append((place, int(forest.leaves[block, place]), _lane(forest, block, place)))
            block = int(forest.links[block, NEXT])
    free = _list(forest.nodes[:, BELOW], forest.state[FREE_NODE])
    return [*parts, free, _list(forest.links[:, NEXT], forest.state[FREE_BLOCK])]


def _lane(forest: Forest, block: int, place: int) -> bytes:
    if forest.sketches.size == 0:
        return b""
    group, lane = place_of(forest, block, place)
    return forest.sketches[group, :, lane].tobytes()


def _list(following: np.ndarray, number: int) -> list[int]:
    numbers = []
    while number:
        numbers.append(int(number))
        number = following[number]
    return numbers
