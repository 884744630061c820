"""Carries k-d trees across their log: every kind of note taken back and made again, to the bit."""

from __future__ import annotations

import numpy as np

from ann_backends.forest import (
    ABOVE,
    BELOW,
    DIMENSION,
    FREE_BLOCK,
    FREE_NODE,
    LIVE_BLOCKS,
    LIVE_NODES,
    NEXT,
    OWNER,
    PARENT,
    Forest,
    append,
    free_block,
    free_node,
    new_block,
    new_node,
    put,
    replace_child,
    set_parent,
)
from ann_backends.forest_log import (
    ABOVE_CHILD,
    APART,
    BITS,
    BRANCH,
    CHAIN,
    FRESH_BLOCK,
    FRESH_NODE,
    IN,
    KIND,
    MERGE,
    OUT,
    PLANT,
    SPLIT,
    TREE,
    UNCHAIN,
    UPROOT,
)
from ann_backends.kernels.jit import kernel


@kernel
def carry(forest: Forest, memory: np.ndarray, log: np.ndarray, forward: bool) -> None:
    """Take back all notes of `log`, or make them again; memory [N, W] is on the other side already.

    Counters in `forest.state` besides those of nodes and blocks are let be.
    """
    words = forest.thresholds.itemsize // log.itemsize
    number, end = 0, np.int64(log[0])
    while end > 1:
        end -= _size(forest, words, log[end - 1])
        number += 1
    ends = np.empty(number, np.int64)
    end = np.int64(log[0])
    for i in range(number):
        ends[number - 1 - i] = end
        end -= _size(forest, words, log[end - 1])
    for i in range(number):
        end = ends[i if forward else number - 1 - i]
        header = log[end - 1]
        note = log[end - _size(forest, words, header) : end - 1]
        if forward:
            _redo(forest, memory, note, words, header)
        else:
            _undo(forest, memory, note, words, header)


@kernel
def _size(forest: Forest, words: int, header: int) -> int:
    """Numbers of a note, its header among them."""
    kind, trees = header & KIND, forest.roots.size
    if kind == OUT:
        return 2 * trees + 2
    if kind == IN:
        return trees + 2
    if kind <= UPROOT:
        return 2
    if kind <= UNCHAIN:
        return 3
    size = BRANCH + words + 1
    if kind == MERGE:
        size += 1
    elif kind == SPLIT:
        size += 1 + (forest.leaves.shape[1] + BITS - 1) // BITS
    return size


@kernel
def _redo(forest: Forest, memory: np.ndarray, note: np.ndarray, words: int, header: int) -> None:
    kind, tree = header & KIND, header // TREE
    if kind == OUT:
        _take_out(forest, memory, note)
    elif kind == IN:
        _put_in(forest, memory, note)
    elif kind == PLANT:
        forest.roots[tree] = -new_block(forest, 0)
    elif kind == UPROOT:
        forest.roots[tree] = 0
        free_block(forest, note[0])
    elif kind == CHAIN:
        _chain(forest, note[0], new_block(forest, -note[0]))
    elif kind == UNCHAIN:
        _unchain(forest, note[0])
        free_block(forest, note[1])
    elif kind == APART:
        _branch(forest, tree, note, words, header, new_node(forest), new_block(forest, 0))
    elif kind == MERGE:
        for i in range(1, note[BRANCH + words] + 1):
            _move_to(forest, tree, memory, forest.leaves[note[1], i], -note[0])
        _unbranch(forest, tree, note)
        free_node(forest, note[2])
        free_block(forest, note[1])
    elif kind == SPLIT:
        _branch(forest, tree, note, words, header, new_node(forest), new_block(forest, 0))
        _divide(forest, tree, memory, note, words)


@kernel
def _undo(forest: Forest, memory: np.ndarray, note: np.ndarray, words: int, header: int) -> None:
    kind, tree = header & KIND, header // TREE
    if kind == OUT:
        _put_back(forest, memory, note)
    elif kind == IN:
        _take_back(forest, note)
    elif kind == PLANT:
        forest.roots[tree] = 0
        _unmake_block(forest, note[0], header)
    elif kind == UPROOT:
        _unfree_block(forest, 0)
        forest.roots[tree] = -note[0]
    elif kind == CHAIN:
        _unchain(forest, note[0])
        _unmake_block(forest, note[1], header)
    elif kind == UNCHAIN:
        _unfree_block(forest, -note[0])
        _chain(forest, note[0], note[1])
    elif kind == APART:
        _unbranch(forest, tree, note)
        _unmake_block(forest, note[1], header)
        _unmake_node(forest, note[2], header)
    elif kind == MERGE:
        _branch(forest, tree, note, words, header, _unfree_node(forest), _unfree_block(forest, 0))
        _part(forest, tree, memory, note, words)
    elif kind == SPLIT:
        _unite(forest, tree, memory, note, words)
        _unbranch(forest, tree, note)
        _unmake_block(forest, note[1], header)
        _unmake_node(forest, note[2], header)


# Nodes and blocks: what undoes making them and freeing them.


@kernel
def _unmake_node(forest: Forest, node: int, header: int) -> None:
    if header & FRESH_NODE:
        forest.state[LIVE_NODES] -= 1
    else:
        free_node(forest, node)


@kernel
def _unmake_block(forest: Forest, block: int, header: int) -> None:
    if header & FRESH_BLOCK:
        forest.state[LIVE_BLOCKS] -= 1
    else:
        free_block(forest, block)


@kernel
def _unfree_node(forest: Forest) -> int:
    """The node that was freed last is in use again."""
    assert forest.state[FREE_NODE] > 0
    return new_node(forest)


@kernel
def _unfree_block(forest: Forest, owner: int) -> int:
    """The block that was freed last is in use again, and empty as it was."""
    assert forest.state[FREE_BLOCK] > 0
    return new_block(forest, owner)


@kernel
def _chain(forest: Forest, leaf: int, block: int) -> None:
    forest.links[block, NEXT] = forest.links[leaf, NEXT]
    forest.links[leaf, NEXT] = block


@kernel
def _unchain(forest: Forest, leaf: int) -> None:
    """Take a leaf's second block out of its chain."""
    forest.links[leaf, NEXT] = forest.links[forest.links[leaf, NEXT], NEXT]


# Branches: a node over a child and a leaf beside it.


@kernel
def _branch(
    forest: Forest, tree: int, note: np.ndarray, words: int, header: int, node: int, other: int
) -> None:
    """Put the node over the child and the leaf beside it, which is empty."""
    child, above = note[0], header & ABOVE_CHILD
    parent = forest.nodes[child, PARENT] if child > 0 else forest.links[-child, OWNER]
    replace_child(forest, tree, parent, child, node)
    forest.nodes[node, DIMENSION] = note[3]
    forest.nodes[node, BELOW] = child if above else -other
    forest.nodes[node, ABOVE] = -other if above else child
    threshold = forest.thresholds.view(np.int32)
    for i in range(words):
        threshold[node * words + i] = note[BRANCH + i]
    set_parent(forest, child, node)
    forest.links[other, OWNER] = node


@kernel
def _unbranch(forest: Forest, tree: int, note: np.ndarray) -> None:
    """Put the child in the place of the node over it."""
    replace_child(forest, tree, forest.nodes[note[2], PARENT], note[2], note[0])


# Rows.


@kernel
def _move_to(forest: Forest, tree: int, memory: np.ndarray, slot: int, block: int) -> None:
    append(forest, tree, block, slot)
    put(forest, tree, memory, block, forest.leaves[block, 0], slot)


@kernel
def _take_out(forest: Forest, memory: np.ndarray, note: np.ndarray) -> None:
    slot = note[note.size - 1]
    for tree in range(forest.roots.size):
        block, place = note[2 * tree], note[2 * tree + 1]
        end = _last_block(forest, block)
        last = forest.leaves[end, forest.leaves[end, 0]]
        put(forest, tree, memory, block, place, last)
        forest.where[slot, tree] = 0
        forest.leaves[end, 0] -= 1


@kernel
def _put_back(forest: Forest, memory: np.ndarray, note: np.ndarray) -> None:
    slot = note[note.size - 1]
    for tree in range(forest.roots.size):
        block, place = note[2 * tree], note[2 * tree + 1]
        end = _last_block(forest, block)
        forest.leaves[end, 0] += 1
        if block != end or place != forest.leaves[end, 0]:
            put(forest, tree, memory, end, forest.leaves[end, 0], forest.leaves[block, place])
        put(forest, tree, memory, block, place, slot)


@kernel
def _last_block(forest: Forest, block: int) -> int:
    """Which block of a leaf a row is taken from to fill a gap."""
    leaf = block if forest.links[block, OWNER] >= 0 else -forest.links[block, OWNER]
    return forest.links[leaf, NEXT] if forest.links[leaf, NEXT] else leaf


@kernel
def _put_in(forest: Forest, memory: np.ndarray, note: np.ndarray) -> None:
    for tree in range(forest.roots.size):
        if note[tree]:
            _move_to(forest, tree, memory, note[note.size - 1], note[tree])


@kernel
def _take_back(forest: Forest, note: np.ndarray) -> None:
    for tree in range(forest.roots.size):
        if note[tree]:
            forest.leaves[note[tree], 0] -= 1
            forest.where[note[note.size - 1], tree] = 0


@kernel
def _part(forest: Forest, tree: int, memory: np.ndarray, note: np.ndarray, words: int) -> None:
    """Move the last rows of the child back to the leaf beside it."""
    count = note[BRANCH + words]
    if count:
        leaf = -note[0]
        forest.leaves[leaf, 0] -= count
        for i in range(1, count + 1):
            slot = forest.leaves[leaf, forest.leaves[leaf, 0] + i]
            _move_to(forest, tree, memory, slot, note[1])


@kernel
def _order(forest: Forest, note: np.ndarray, words: int) -> tuple[np.ndarray, int]:
    """Where the rows of a leaf, and one more, stand after its split: (old place of each, middle).

    As `_partition` of `kd_forest` permutes them; the first `middle` stay in the leaf.
    """
    order = np.arange(forest.leaves.shape[1])
    middle = 0
    for i in range(order.size):
        moved = (note[BRANCH + words + 1 + i // BITS] >> np.int32(i % BITS)) & np.int32(1)
        order[i], order[middle] = order[middle], order[i]
        middle += 1 - moved
    return order, middle


@kernel
def _divide(forest: Forest, tree: int, memory: np.ndarray, note: np.ndarray, words: int) -> None:
    """Divide the rows of a leaf, and one more, as they were."""
    leaf, other = -note[0], note[1]
    order, middle = _order(forest, note, words)
    members = forest.leaves[leaf].copy()
    members[:-1] = forest.leaves[leaf, 1:]
    members[-1] = note[BRANCH + words]
    forest.leaves[leaf, 0] = 0
    for i in range(order.size):
        _move_to(forest, tree, memory, members[order[i]], leaf if i < middle else other)


@kernel
def _unite(forest: Forest, tree: int, memory: np.ndarray, note: np.ndarray, words: int) -> None:
    """Bring the rows of a divided leaf together again in their old order, without the newest."""
    leaf, other = -note[0], note[1]
    order, middle = _order(forest, note, words)
    members = forest.leaves[leaf].copy()
    for i in range(order.size):
        block, place = (leaf, i + 1) if i < middle else (other, i + 1 - middle)
        members[order[i]] = forest.leaves[block, place]
    forest.where[members[-1], tree] = 0
    forest.leaves[leaf, 0] = 0
    for i in range(order.size - 1):
        _move_to(forest, tree, memory, members[i], leaf)


@kernel
def sketch_all(forest: Forest, memory: np.ndarray) -> None:
    """Make the sketches of all rows anew, where sketches are kept."""
    if forest.sketches.size == 0:
        return
    for slot in range(forest.where.shape[0]):
        for tree in range(forest.where.shape[1]):
            block, place = forest.where[slot, tree], 1
            if block:
                while forest.leaves[block, place] != slot:
                    place += 1
                put(forest, tree, memory, block, place, slot)
