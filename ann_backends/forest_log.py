"""Notes of what changes in k-d trees, in few numbers each; `forest_carry` reads them.

A log is an int32 array, of which the first number says how many are in use. A note ends with its
header: the kind, flags and the tree. So notes are read from the newest to the oldest.
"""

from __future__ import annotations

import numpy as np

from ann_backends.forest import FREE_BLOCK, FREE_NODE, OWNER, Forest
from ann_backends.kernels.jit import kernel
from ann_backends.uncounted import UNCOUNTED

# Kinds of notes, and the numbers that stand before the header (trees: T; words of a threshold: t).
OUT = 0  # a row has left its leaves. T times block, place; slot
IN = 1  # a row has been put at the end of blocks. T times block, 0 where it came by SPLIT; slot
PLANT = 2  # an empty tree has got an empty leaf. leaf
UPROOT = 3  # a tree has lost its only leaf, which was empty. leaf
CHAIN = 4  # a leaf has got one more block. leaf, block
UNCHAIN = 5  # a leaf has lost a block, which was empty. leaf, block
APART = 6  # a node has been put over a child and a new empty leaf. A BRANCH
MERGE = 7  # a leaf's rows have moved to the end of its sibling, and both's node is gone.
#            A BRANCH, how many rows
SPLIT = 8  # a full leaf and one more row have been divided. A BRANCH, slot, bits that say which
#            rows, in their old order with the new one last, have gone to the other leaf
# A BRANCH: child, the leaf beside it, the node over both, its dimension, t words of its threshold.
BRANCH = 4
# Flags: the node, or the block, had never been in use; the leaf beside the child is above.
KIND, FRESH_NODE, FRESH_BLOCK, ABOVE_CHILD, TREE = 15, 16, 32, 64, 256
BITS = 32


def numbers_per_row(trees: int, per_leaf: int) -> int:
    """How many numbers the notes of updating, or removing, a row take at most.

    per_leaf: the rows of a leaf and one more. So many more are needed for `remember_order`.
    """
    merge = BRANCH + 2 + 1 + 1
    split = merge + 1 + per_leaf // BITS
    return 3 * trees + 4 + trees * (merge + split)


@kernel(**UNCOUNTED)
def reserve(log: np.ndarray, numbers: int, header: int) -> int:
    """Where the numbers of a new note go; its header stands behind them."""
    start = int(log[0])
    log[start + numbers] = header
    log[0] = start + numbers + 1
    return start


@kernel(**UNCOUNTED)
def fresh(forest: Forest) -> int:
    """Flags for the node and the block that would be made next."""
    node = FRESH_NODE if forest.state[FREE_NODE] == 0 else 0
    return node | (FRESH_BLOCK if forest.state[FREE_BLOCK] == 0 else 0)


@kernel(**UNCOUNTED)
def note_block(log: np.ndarray, kind: int, flags: int, tree: int, leaf: int, block: int) -> None:
    """PLANT and UPROOT (`block` is 0), CHAIN and UNCHAIN."""
    at = reserve(log, 2 if block else 1, kind | flags | tree * TREE)
    log[at] = leaf
    if block:
        log[at + 1] = block


@kernel(**UNCOUNTED)
def note_branch(
    log: np.ndarray, forest: Forest, header: int, more: int, child: int, other: int, node: int
) -> int:
    """The BRANCH with which APART, MERGE and SPLIT begin; returns where `more` numbers go."""
    words = forest.thresholds.itemsize // log.itemsize
    at = reserve(log, BRANCH + words + more, header)
    log[at], log[at + 1], log[at + 2] = child, other, node
    log[at + 3] = forest.nodes[node, 0]
    threshold = forest.thresholds.view(np.int32)
    for i in range(words):
        log[at + BRANCH + i] = threshold[node * words + i]
    return at + BRANCH + words


@kernel(**UNCOUNTED)
def remember_order(log: np.ndarray, members: np.ndarray) -> None:
    """Keep the rows of a full leaf, and one more, at the log's end; see `note_split`."""
    end = log.size - members.size
    for i in range(members.size):
        log[end + i] = members[i]


@kernel(**UNCOUNTED)
def note_split(
    log: np.ndarray, forest: Forest, flags: int, tree: int, leaf: int, other: int
) -> None:
    """SPLIT, of a leaf that has just been divided; see `remember_order`."""
    members = log[log.size - forest.leaves.shape[1] :]
    words = (members.size + BITS - 1) // BITS
    header, node = SPLIT | flags | ABOVE_CHILD | tree * TREE, forest.links[leaf, OWNER]
    at = note_branch(log, forest, header, 1 + words, -leaf, other, node)
    log[at] = members[members.size - 1]
    log[at + 1 : at + 1 + words] = 0
    for i in range(members.size):
        moved = np.int32(forest.where[members[i], tree] == other)
        log[at + 1 + i // BITS] |= moved << np.int32(i % BITS)
