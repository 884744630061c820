"""The parts that k-d trees are made of, and how they hang together.

Numbers of nodes and blocks start at 1, as 0 means none: an index of zeros is an empty one. A child
is a node if positive, a leaf if negative.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ann_backends.kernels.jit import kernel
from ann_backends.sketch import LANES, copy_lane, write_lane
from ann_backends.uncounted import UNCOUNTED

# Columns of Forest.nodes, Forest.links and Forest.state.
DIMENSION, BELOW, ABOVE, PARENT = range(4)
OWNER, NEXT = range(2)
LIVE_NODES, FREE_NODE, LIVE_BLOCKS, FREE_BLOCK, FINDABLE, DEPTH = range(6)


class Forest(NamedTuple):
    """The trees of one batch element; the index has them with a leading axis for the batch.

    where: int32 [N, trees], the block that holds a row, 0 if the row is not findable.
    roots: int32 [trees], each a child as in `nodes`.
    nodes: int32 [room, 4], DIMENSION, BELOW and ABOVE (children), PARENT (0 for a root). A free
    node's BELOW is the next free one.
    thresholds: float [room], of the nodes.
    leaves: int32 [room, 1 + leaf_size], the blocks: how many rows, and their slots.
    links: int32 [room, 2], of the blocks. A leaf is one block, whose OWNER is its parent node (0
    for a root). Only a leaf whose rows are all alike grows beyond: further blocks, with OWNER
    minus the first, hang on it by NEXT, all of them full except the second. NEXT also chains
    the free blocks.
    state: int64 [6], LIVE_NODES, FREE_NODE, LIVE_BLOCKS, FREE_BLOCK, FINDABLE rows, and DEPTH, the
    longest way of a row inserted since the forest was built.
    sketches: int8 [room * groups, W / 4, LANES, 4], or none. The row at a place of a block, counted
    from 0 as in `leaves`, has its sketch in that lane of the block's groups.
    axes: float [W, W], in columns the directions that the trees split along, or none: then they
    split along the numbers of a word.
    """

    where: np.ndarray
    roots: np.ndarray
    nodes: np.ndarray
    thresholds: np.ndarray
    leaves: np.ndarray
    links: np.ndarray
    state: np.ndarray
    sketches: np.ndarray
    axes: np.ndarray


@kernel(**UNCOUNTED)
def new_node(forest: Forest) -> int:
    state = forest.state
    node = state[FREE_NODE]
    state[LIVE_NODES] += 1
    if node == 0:
        return int(state[LIVE_NODES])
    state[FREE_NODE] = forest.nodes[node, BELOW]
    return int(node)


@kernel(**UNCOUNTED)
def free_node(forest: Forest, node: int) -> None:
    forest.nodes[node, BELOW] = forest.state[FREE_NODE]
    forest.state[FREE_NODE] = node
    forest.state[LIVE_NODES] -= 1


@kernel(**UNCOUNTED)
def new_block(forest: Forest, owner: int) -> int:
    """An empty block."""
    state = forest.state
    block = state[FREE_BLOCK]
    state[LIVE_BLOCKS] += 1
    if block == 0:
        block = state[LIVE_BLOCKS]
    else:
        state[FREE_BLOCK] = forest.links[block, NEXT]
    forest.leaves[block, 0] = 0
    forest.links[block, OWNER] = owner
    forest.links[block, NEXT] = 0
    return block


@kernel(**UNCOUNTED)
def free_block(forest: Forest, block: int) -> None:
    forest.links[block, NEXT] = forest.state[FREE_BLOCK]
    forest.state[FREE_BLOCK] = block
    forest.state[LIVE_BLOCKS] -= 1


@kernel(**UNCOUNTED)
def append(forest: Forest, tree: int, block: int, slot: int) -> None:
    """Put a row into a block that has a place left."""
    leaves = forest.leaves
    leaves[block, 0] += 1
    leaves[block, leaves[block, 0]] = slot
    forest.where[slot, tree] = block


@kernel(**UNCOUNTED)
def place_of(forest: Forest, block: int, place: int) -> tuple[int, int]:
    """The group and the lane of a place in a block."""
    groups = (forest.leaves.shape[1] + LANES - 1) // LANES
    return block * groups + place // LANES, place % LANES


@kernel(**UNCOUNTED)
def sketch_last(forest: Forest, tree: int, memory: np.ndarray, slot: int) -> None:
    """Write the sketch of a row that has just been appended to a block."""
    block = forest.where[slot, tree]
    group, lane = place_of(forest, block, forest.leaves[block, 0])
    write_lane(forest.sketches, group, lane, memory, slot)


@kernel(**UNCOUNTED)
def put(forest: Forest, tree: int, memory: np.ndarray, block: int, place: int, slot: int) -> None:
    """Put a row into a place of a block, with its sketch."""
    forest.leaves[block, place] = slot
    forest.where[slot, tree] = block
    if forest.sketches.size:
        group, lane = place_of(forest, block, place)
        write_lane(forest.sketches, group, lane, memory, slot)


@kernel(**UNCOUNTED)
def copy_sketch(forest: Forest, block: int, place: int, to_block: int, to_place: int) -> None:
    group, lane = place_of(forest, block, place)
    to_group, to_lane = place_of(forest, to_block, to_place)
    copy_lane(forest.sketches, group, lane, to_group, to_lane)


@kernel(**UNCOUNTED)
def set_parent(forest: Forest, child: int, parent: int) -> None:
    if child > 0:
        forest.nodes[child, PARENT] = parent
    else:
        forest.links[-child, OWNER] = parent


@kernel(**UNCOUNTED)
def replace_child(forest: Forest, tree: int, parent: int, old: int, new: int) -> None:
    """Hang `new` where `old` was, below `parent` (0: at the root)."""
    if parent == 0:
        forest.roots[tree] = new
    elif forest.nodes[parent, BELOW] == old:
        forest.nodes[parent, BELOW] = new
    else:
        forest.nodes[parent, ABOVE] = new
    set_parent(forest, new, parent)


@kernel(**UNCOUNTED)
def grow_node(
    forest: Forest, tree: int, leaf: int, other: int, dimension: int, threshold: float, above: bool
) -> None:
    """Replace `leaf` by a node over it and the leaf `other`, which is above or below."""
    node = new_node(forest)
    replace_child(forest, tree, forest.links[leaf, OWNER], -leaf, node)
    forest.nodes[node, DIMENSION] = dimension
    forest.nodes[node, BELOW] = -leaf if above else -other
    forest.nodes[node, ABOVE] = -other if above else -leaf
    forest.thresholds[node] = threshold
    forest.links[leaf, OWNER] = node
    forest.links[other, OWNER] = node
