"""Whether k-d trees that came from a file are sound, so that no kernel can go astray in them."""

from __future__ import annotations

import numpy as np

from ann_backends.forest import (
    ABOVE,
    BELOW,
    DIMENSION,
    FINDABLE,
    FREE_BLOCK,
    FREE_NODE,
    LIVE_BLOCKS,
    LIVE_NODES,
    NEXT,
    OWNER,
    PARENT,
    Forest,
)
from ann_backends.kernels.jit import kernel


def problem(forest: Forest, memory: np.ndarray) -> str:
    """What is wrong with the trees over memory [N, W]; empty if nothing is."""
    found = forest.where[:, 0] != 0
    if not np.isfinite(memory[found]).all():
        return "NaN or infinite values in a findable row"
    if not np.isfinite(forest.axes).all():
        return "axes that are NaN or infinite"
    return "" if _is_sound(forest, memory.shape[1]) else "trees that do not hang together"


@kernel
def _is_sound(forest: Forest, word_size: int) -> bool:
    state, room = forest.state, forest.thresholds.size
    if state.min() < 0 or state.max() >= 2**31:
        return False
    used_nodes, used_blocks = np.zeros(room, np.bool_), np.zeros(room, np.bool_)
    used_nodes[0] = used_blocks[0] = True
    for tree in range(forest.roots.size):
        if not _is_tree(forest, tree, word_size, used_nodes, used_blocks):
            return False
    nodes, blocks = used_nodes.sum() - 1, used_blocks.sum() - 1
    if nodes != state[LIVE_NODES] or blocks != state[LIVE_BLOCKS]:
        return False
    return _is_list(forest.nodes[:, BELOW], state[FREE_NODE], used_nodes) and _is_list(
        forest.links[:, NEXT], state[FREE_BLOCK], used_blocks
    )


@kernel
def _is_tree(
    forest: Forest, tree: int, word_size: int, used_nodes: np.ndarray, used_blocks: np.ndarray
) -> bool:
    """One tree, which uses nodes and blocks that are not used yet, and has every row once."""
    nodes, room = forest.nodes, forest.thresholds.size
    known = np.zeros(forest.where.shape[0], np.bool_)
    waiting = np.empty((room + 1, 2), np.int64)
    waiting[0, 0], waiting[0, 1] = forest.roots[tree], 0
    size = 1 if forest.roots[tree] else 0
    while size:
        size -= 1
        child, parent = waiting[size]
        if child > 0:
            if child >= room or used_nodes[child] or nodes[child, PARENT] != parent:
                return False
            used_nodes[child] = True
            if not 0 <= nodes[child, DIMENSION] < word_size:
                return False
            if not np.isfinite(forest.thresholds[child]):
                return False
            waiting[size, 0], waiting[size, 1] = nodes[child, BELOW], child
            waiting[size + 1, 0], waiting[size + 1, 1] = nodes[child, ABOVE], child
            size += 2
        elif not _is_leaf(forest, tree, -child, parent, known, used_blocks):
            return False
    return known.sum() == forest.state[FINDABLE] == (forest.where[:, tree] != 0).sum()


@kernel
def _is_leaf(
    forest: Forest, tree: int, leaf: int, owner: int, known: np.ndarray, used: np.ndarray
) -> bool:
    """A leaf of one block or more, whose rows are not `known` yet."""
    leaves, links, most = forest.leaves, forest.links, forest.leaves.shape[1] - 1
    block, number = leaf, 0
    while block:
        if not 0 < block < used.size or used[block]:
            return False
        used[block] = True
        if links[block, OWNER] != (owner if number == 0 else -leaf):
            return False
        count, following = leaves[block, 0], links[block, NEXT]
        # Full if another follows, or if it is not the second, which is filled last.
        full = number > 1 or (number == 0 and following != 0)
        if not (1 <= count <= most) or (full and count < most):
            return False
        for place in range(1, count + 1):
            slot = leaves[block, place]
            if not 0 <= slot < known.size or known[slot] or forest.where[slot, tree] != block:
                return False
            known[slot] = True
        block = following
        number += 1
    return number > 0


@kernel
def _is_list(following: np.ndarray, first: int, used: np.ndarray) -> bool:
    """A list of numbers that are not used, after which all used ones are the lowest."""
    number = first
    while number:
        if not 0 < number < used.size or used[number]:
            return False
        used[number] = True
        number = following[number]
    count = used.sum()
    return bool(used[:count].all())
