"""Randomized k-d trees over rows that change: best-bin-first search, updates in place.

The forest of Silpa-Anan & Hartley 2008 ("Optimised KD-trees for fast image descriptor matching")
and Muja & Lowe 2014 ("Scalable nearest neighbor algorithms for high dimensional data"): each node
splits on a dimension drawn among those of highest variance, so the trees differ, and one queue
over all trees says which leaf comes next. What is added here is that rows move: a row knows its
leaf in each tree, so an overwritten row leaves it and goes where its new content belongs, leaves
that fill up split, and leaves that run low join their siblings.

For cosine the trees hold the points row / |row|, for l2 the rows; both are read from the memory
when needed, never stored. They can be turned to their principal axes first (the PKD-tree of
Silpa-Anan & Hartley), which splits them where they really differ. A point goes below a node if its
coordinate is less than the threshold, and the same arithmetic sends rows and queries on their way,
so that a query equal to a row ends in that row's leaf in every tree.

Numbers of nodes and blocks start at 1, as 0 means none: an index of zeros is an empty one. A child
is a node if positive, a leaf if negative.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from ann_backends import checks as checking
from ann_backends import forest_carry, forest_check
from ann_backends.best import keep_best
from ann_backends.forest import (
    ABOVE,
    BELOW,
    DEPTH,
    DIMENSION,
    FINDABLE,
    LIVE_BLOCKS,
    LIVE_NODES,
    NEXT,
    OWNER,
    PARENT,
    Forest,
    append,
    copy_sketch,
    free_block,
    free_node,
    grow_node,
    new_block,
    new_node,
    replace_child,
    set_parent,
    sketch_last,
)
from ann_backends.forest_log import (
    ABOVE_CHILD,
    APART,
    CHAIN,
    IN,
    MERGE,
    OUT,
    PLANT,
    TREE,
    UNCHAIN,
    UPROOT,
    fresh,
    note_block,
    note_branch,
    note_split,
    numbers_per_row,
    remember_order,
    reserve,
)
from ann_backends.index import Index, Settings
from ann_backends.kernels.jit import kernel
from ann_backends.metric import NORM_EPSILON
from ann_backends.prefetching import CACHE_LINE, prefetch_item, prefetch_row
from ann_backends.sketch import (
    LANES,
    QUERY_NUMBERS,
    group_shape,
    lowest_bit,
    own_similarity,
    prepare_query,
    score_group,
)
from ann_backends.uncounted import UNCOUNTED

# Sums may be reordered, which is what lets them vectorise; NaN and infinity keep their meaning.
REORDERED = {"reassoc", "contract", "nsz"}
# A split looks at about this many rows and draws among this many dimensions (Muja & Lowe: 100, 5)
# so that the trees differ; a single tree takes the widest.
SAMPLE, WIDEST = 100, 5
# A mean that cuts off less than one row in so many is replaced by the median.
LEAST_SHARE = 10
# An insertion deeper than DEPTH_BASE + DEPTH_FACTOR log2(rows) says that the trees are unbalanced.
DEPTH_BASE, DEPTH_FACTOR = 16, 4
# A leaf filled to one part in so many, or less, looks whether its sibling can take its rows.
FEW = 2
# Squared norms from here on are summed in double precision.
LARGEST_SQUARE = 1e30
# Beyond any memory's size.
MOST_CHECKS = 2**62
# Rows that go into the trees together.
TOGETHER = 32
# Rows that the principal axes are taken from.
PRINCIPAL_SAMPLE = 16384
# Rows found by their sketches that are ranked by themselves; or twice k, if that is more.
RERANKED = 16


@dataclasses.dataclass(frozen=True)
class KDForest(Settings):
    """Randomized k-d trees: few rows looked at per search, updates in about a microsecond a tree.

    For building, fixed with the index: `trees`; `leaf_size`, the rows that a leaf holds before it
    splits (15 and their number fill one cache line); `sketch`, whether each leaf holds its rows
    in 8 bits too (`ann_backends.sketch`), for cosine only; `principal_axes`, whether trees split
    along the principal axes of the rows at the last (re)build instead of single numbers;
    `rebuild_every`.
    For searching, and an attribute of the index that may be assigned: `checks`, the distinct rows
    that a search examines at most, unless its first leaf or k rows take more. 4 trees and 32
    checks are the defaults.

    32 checks recall little of a large memory without structure; a row just written is found all
    the same. To find nearly everything, thousands of checks of sketches in few trees with large
    leaves cost least; a check is then a place in a leaf, and a row in several trees counts again.
    """

    name: ClassVar[str] = "kd_forest"
    min_recall: ClassVar[float] = 0.3
    reversible: ClassVar[bool] = True

    trees: int = 4
    checks: int = 32
    leaf_size: int = 15
    sketch: bool = False
    principal_axes: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        checking.integer("trees", self.trees, 1, 256)
        checking.integer("checks", self.checks, 1, MOST_CHECKS)
        checking.integer("leaf_size", self.leaf_size, 1, 4096)

    def build(
        self,
        memory: npt.ArrayLike,
        *,
        seed: int = 0,
        metric: str = "cosine",
        findable: str = "all",
    ) -> KDForestIndex:
        """An index over `memory`; the arguments are those of `Index`."""
        if self.sketch and metric != "cosine":
            raise ValueError(f"sketch: got True with metric={metric!r}, expected metric='cosine'")
        return KDForestIndex(self, memory, seed=seed, metric=metric, findable=findable)


class Space(NamedTuple):
    """What a search works in, so as to take no time for making it: nothing that lasts.

    visited: uint32 [N], the last query, counted by clock [1], that has examined a row. keys, items:
    the queue's.
    """

    visited: np.ndarray
    clock: np.ndarray
    keys: np.ndarray
    items: np.ndarray


class KDForestIndex(Index):
    """The `Index` that `KDForest` builds."""

    settings: KDForest
    growing = frozenset({"nodes", "thresholds", "leaves", "links", "sketches"})

    @property
    def checks(self) -> int:
        """Rows that a search examines; starts as the settings' own, and may be assigned."""
        return self._checks

    @checks.setter
    def checks(self, value: int) -> None:
        self._checks = checking.integer("checks", value, 1, MOST_CHECKS)

    def _clear(self) -> None:
        trees, per_leaf = self.settings.trees, 1 + self.settings.leaf_size
        axes = self.word_size if self.settings.principal_axes else 0
        self._checks = getattr(self, "_checks", self.settings.checks)
        self._notes_per_row = numbers_per_row(trees, per_leaf)
        self._random = np.full(self.batch_size, self.seed, np.uint64)
        self._forest = Forest(
            where=self._zeros((self.batch_size, self.memory_size, trees), np.int32),
            roots=np.zeros((self.batch_size, trees), np.int32),
            nodes=np.zeros((self.batch_size, 0, 4), np.int32),
            thresholds=np.zeros((self.batch_size, 0), self.memory.dtype),
            leaves=np.zeros((self.batch_size, 0, per_leaf), np.int32),
            links=np.zeros((self.batch_size, 0, 2), np.int32),
            state=np.zeros((self.batch_size, 6), np.int64),
            sketches=np.zeros((self.batch_size, 0, *group_shape(self.word_size)), np.int8),
            axes=np.tile(np.eye(axes, dtype=self.memory.dtype), (self.batch_size, 1, 1)),
        )
        self._reserve(4 * trees)

    def _reserve(self, room: int) -> None:
        """Make room for so many nodes and blocks per element, and as many entries in the queue."""
        if room <= self._room:
            return
        room += 1  # number 0 is none
        old = self._forest
        self._forest = old._replace(
            nodes=_widened(old.nodes, room),
            thresholds=_widened(old.thresholds, room),
            leaves=_widened(old.leaves, room),
            links=_widened(old.links, room),
            sketches=_widened(old.sketches, room * self._groups),
        )
        # For each of the searches that have run at the same time; a search takes one, or makes it.
        self._spaces = [self._new_space()]

    def _new_space(self) -> Space:
        """Working space for a search of as many nodes as there is room for."""
        # A node's farther child enters the queue at most once, beside the roots.
        size = self._room + 1 + self.settings.trees
        return Space(
            visited=self._zeros((self.memory_size,), np.uint32),
            clock=np.zeros(1, np.int64),
            keys=np.empty(size, self.memory.dtype),
            items=np.empty(size, np.int32),
        )

    @property
    def _room(self) -> int:
        """Nodes, and blocks, that an element's arrays have room for."""
        return self._forest.thresholds.shape[1]

    @property
    def _groups(self) -> int:
        """Groups of sketches per block."""
        return math.ceil((1 + self.settings.leaf_size) / LANES) if self.settings.sketch else 0

    def _fill(self) -> None:
        for element in range(self.batch_size):
            self._build(element, np.arange(self.memory_size, dtype=np.int32))

    def _rebuild(self, element: int) -> None:
        findable = self._forest.where[element, :, 0]
        self._build(element, np.flatnonzero(findable).astype(np.int32))

    def _build(self, element: int, rows: np.ndarray) -> None:
        """Build the trees of one element anew over the slots `rows`, int32 [n]."""
        trees = self.settings.trees
        self._forest.roots[element] = 0
        self._forest.state[element] = 0
        self._forest.state[element, FINDABLE] = rows.size
        self._reserve(2 * trees * rows.size // self.settings.leaf_size)
        scales = np.empty(rows.size, self.memory.dtype)
        _scale_all(self.memory[element], rows, self.metric == "cosine", scales)
        if self.settings.principal_axes:
            every = max(1, rows.size // PRINCIPAL_SAMPLE)
            points = self.memory[element, rows[::every]] * scales[::every, None]
            self._forest.axes[element] = _principal_axes(points)
        for tree in range(trees):
            while not self._build_tree(element, tree, rows.copy(), scales.copy()):
                self._reserve(2 * self._room)

    def _build_tree(self, element: int, tree: int, members: np.ndarray, scales: np.ndarray) -> bool:
        forest = self._element(element)
        random = self._random[element : element + 1]
        return _build_tree(self.memory[element], members, scales, *forest, random, tree)

    def _update(self, slots: np.ndarray) -> None:
        rows = self.memory, slots, self.metric == "cosine"
        counts = self._random, self._insertions, self._rebuild_every
        log = self._log_room(slots.shape[1])
        if not _refresh(*rows, *self._forest, *counts, log):
            self._reserve(2 * self._room + slots.shape[1] * self.settings.trees)
            _refresh(*rows, *self._forest, *counts, log)

    def _remove(self, slots: np.ndarray) -> None:
        _forget(slots, *self._forest, self._log_room(slots.shape[1]))

    def _log_room(self, rows: int) -> np.ndarray:
        """Where so many rows' changes are noted, for each element."""
        return self._log_chunk(rows * self._notes_per_row + 1 + self.settings.leaf_size)

    def _search(self, queries: np.ndarray, slots: np.ndarray, similarity: np.ndarray) -> None:
        forest = self._forest
        given = self.memory, queries, self._checks
        trees = forest.roots, forest.nodes, forest.thresholds, forest.axes
        arrays = *trees, forest.leaves, forest.links
        try:
            space = self._spaces.pop()  # in one step: no other search gets it too
        except IndexError:
            space = self._new_space()
        if self.settings.sketch:
            _search_sketches(*given, *arrays, forest.sketches, *space, slots, similarity)
        else:
            _search(*given, *arrays, self.metric == "cosine", *space, slots, similarity)
        self._spaces.append(space)

    def _structure(self) -> dict[str, np.ndarray]:
        return self._forest._asdict() | {"random": self._random}

    def _counters(self) -> list[np.ndarray]:
        return [self._forest.state, self._random]

    def _copy_element(self, element: int) -> dict[str, np.ndarray]:
        part = super()._copy_element(element)
        del part["sketches"]  # follow from the rest
        return part

    def _take_element(self, element: int, part: dict[str, np.ndarray]) -> None:
        sizes = [len(part[name]) for name in ("nodes", "thresholds", "leaves", "links")]
        self._reserve(max(sizes))
        super()._take_element(element, part)
        if "sketches" not in part:
            forest_carry.sketch_all(self._element(element), self.memory[element])

    def _carry_entry(self, entry: np.ndarray, forward: bool) -> None:
        for element, notes in enumerate(entry):
            forest_carry.carry(self._element(element), self.memory[element], notes, forward)

    def _element_problem(self, element: int) -> str:
        return forest_check.problem(self._element(element), self.memory[element])

    def _element(self, element: int) -> Forest:
        """The trees of one element, views."""
        return Forest(*(array[element] for array in self._forest))

    def _findable(self) -> np.ndarray:
        return self._forest.state[:, FINDABLE]

    def _bytes(self) -> int:
        spaces = (array for space in tuple(self._spaces) for array in space)
        return sum(array.nbytes for array in (*self._forest, *spaces, self._random))


def _principal_axes(points: np.ndarray) -> np.ndarray:
    """The directions [W, W], in columns, along which points [n, W] vary most, the widest first."""
    points = points.astype(np.float64)
    covariance = np.cov(points, rowvar=False, bias=True) if len(points) else np.zeros((1, 1))
    axes = np.eye(points.shape[1])
    if np.isfinite(covariance).all() and covariance.shape == axes.shape:
        axes = np.linalg.eigh(covariance)[1][:, ::-1]
    return axes


def _widened(array: np.ndarray, room: int) -> np.ndarray:
    """`array` [B, old, ...] as [B, room, ...] with zeros behind, starting at a cache line."""
    shape = (array.shape[0], room, *array.shape[2:])
    size = math.prod(shape) * array.itemsize
    raw = np.zeros(size + CACHE_LINE, np.uint8)
    start = -raw.ctypes.data % CACHE_LINE
    wide = raw[start : start + size].view(array.dtype).reshape(shape)
    wide[:, : array.shape[1]] = array
    return wide


# Points: rows and queries as the trees see them.


@kernel
def _inverse_norm(word: np.ndarray) -> float:
    """1 / sqrt(|word|^2 + eps), in double precision: no finite float32 word overflows it.

    The four sums fix the order of the additions, so that equal words have the same norm wherever
    this is inlined.
    """
    a = b = c = d = 0.0
    whole = word.size // 4 * 4
    for w in range(0, whole, 4):
        a += np.float64(word[w]) ** 2
        b += np.float64(word[w + 1]) ** 2
        c += np.float64(word[w + 2]) ** 2
        d += np.float64(word[w + 3]) ** 2
    for w in range(whole, word.size):
        a += np.float64(word[w]) ** 2
    return 1.0 / np.sqrt((a + b) + (c + d) + NORM_EPSILON)


@kernel
def _scale(word: np.ndarray, cosine: bool) -> float:
    """What turns a word into its point: a factor in the memory's precision."""
    return word.dtype.type(_inverse_norm(word) if cosine else 1.0)


@kernel
def _scaled(word: np.ndarray, cosine: bool, scaled: np.ndarray) -> None:
    """scaled [W] = word / |word| for cosine, the word [W] for l2."""
    scale = _scale(word, cosine)
    for w in range(word.size):
        scaled[w] = word[w] * scale


@kernel
def _place(word: np.ndarray, cosine: bool, axes: np.ndarray, point: np.ndarray) -> None:
    """point [W] = the coordinates of word [W] along the axes."""
    _turn(word, _scale(word, cosine), axes, point)


@kernel
def _turn(word: np.ndarray, scale: float, axes: np.ndarray, point: np.ndarray) -> None:
    """The sums are those of `_coordinate`, in the same order."""
    if axes.size == 0:
        for w in range(word.size):
            point[w] = word[w] * scale
        return
    point[:] = 0
    for w in range(word.size):
        number = word[w] * scale
        for i in range(point.size):
            point[i] += number * axes[w, i]


@kernel
def _coordinate(
    memory: np.ndarray, slot: int, scale: float, axes: np.ndarray, dimension: int
) -> float:
    """One coordinate of the point of a row, to the bit as `_place` gives it."""
    if axes.size == 0:
        return memory[slot, dimension] * scale
    total = memory.dtype.type(0)
    for w in range(memory.shape[1]):
        number = memory[slot, w] * scale
        total += number * axes[w, dimension]
    return total


@kernel
def _scale_all(memory: np.ndarray, members: np.ndarray, cosine: bool, scales: np.ndarray) -> None:
    """The scales [n] of the rows `members` [n] of memory [N, W]."""
    for i in range(members.size):
        scales[i] = _scale(memory[members[i]], cosine)


@kernel
def _append_alike(forest: Forest, tree: int, leaf: int, slot: int, log: np.ndarray) -> int:
    """Put one more row into a full leaf whose rows are all like it; the block it is in."""
    block = forest.links[leaf, NEXT]
    if block == 0 or forest.leaves[block, 0] == forest.leaves.shape[1] - 1:
        flags = fresh(forest)
        block = new_block(forest, -leaf)
        forest.links[block, NEXT] = forest.links[leaf, NEXT]
        forest.links[leaf, NEXT] = block
        if log.size:
            note_block(log, CHAIN, flags, tree, leaf, block)
    append(forest, tree, block, slot)
    return block


# Splits.


@kernel
def _draw(random: np.ndarray, below: int) -> int:
    """A random number in [0, below); random: uint64 [1], the state of a splitmix64 generator."""
    random[0] += np.uint64(0x9E3779B97F4A7C15)
    mixed = random[0]
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return int(np.int64((mixed ^ (mixed >> np.uint64(31))) % np.uint64(below)))


@kernel
def _choose_split(
    memory: np.ndarray,
    members: np.ndarray,
    scales: np.ndarray,
    axes: np.ndarray,
    trees: int,
    random: np.ndarray,
) -> tuple[int, float]:
    """(dimension, threshold) that splits the points members [n] in two; dimension -1 if none does.

    Muja & Lowe 2014, 3.1.1: a dimension drawn among those of highest variance in a sample.
    """
    stride, most = max(1, members.size // SAMPLE), WIDEST if trees > 1 else 1
    dimension = _draw_dimension(memory, members, scales, axes, stride, most, random)
    if dimension < 0 and stride > 1:
        stride = 1  # the sample was all alike: the others may differ
        dimension = _draw_dimension(memory, members, scales, axes, stride, most, random)
    if dimension < 0:
        return -1, 0.0
    return dimension, _threshold(memory, members, scales, axes, stride, dimension)


@kernel
def _draw_dimension(
    memory: np.ndarray,
    members: np.ndarray,
    scales: np.ndarray,
    axes: np.ndarray,
    stride: int,
    most: int,
    random: np.ndarray,
) -> int:
    """One of the `most` widest dimensions over every stride-th member; -1 if none varies."""
    variance = _variances(memory, members, scales, axes, stride)
    widest = np.empty(most, np.int64)
    found = 0
    while found < most:
        best = np.argmax(variance)
        if not variance[best] > 0:
            break
        widest[found] = best
        variance[best] = 0
        found += 1
    return widest[_draw(random, found)] if found else -1


@kernel
def _variances(
    memory: np.ndarray, members: np.ndarray, scales: np.ndarray, axes: np.ndarray, stride: int
) -> np.ndarray:
    """Variance of each coordinate [W] over every stride-th member, exactly 0 where all agree.

    No fused operations here: they would tell points apart that are equal once rounded.
    """
    word_size = memory.shape[1]
    total, squares = np.zeros(word_size), np.zeros(word_size)
    origin = memory[members[0]] * scales[0]
    count = (members.size + stride - 1) // stride
    if axes.size:
        point = np.empty_like(origin)
        _turn(memory[members[0]], scales[0], axes, origin)
        for i in range(0, members.size, stride):
            _turn(memory[members[i]], scales[i], axes, point)
            for w in range(word_size):
                moved = np.float64(point[w] - origin[w])
                total[w] += moved
                squares[w] += moved * moved
    else:  # without views of the rows, which would cost more than the rest
        for i in range(0, members.size, stride):
            slot, scale = members[i], scales[i]
            for w in range(word_size):
                moved = np.float64(memory[slot, w] * scale - origin[w])
                total[w] += moved
                squares[w] += moved * moved
    for w in range(word_size):
        squares[w] = squares[w] / count - (total[w] / count) ** 2
    return squares


@kernel
def _threshold(
    memory: np.ndarray,
    members: np.ndarray,
    scales: np.ndarray,
    axes: np.ndarray,
    stride: int,
    dimension: int,
) -> float:
    """The mean, or what cuts better where the mean is far off the middle; never the least."""
    values = np.empty((members.size + stride - 1) // stride, memory.dtype)
    total = 0.0
    for i in range(values.size):
        j = i * stride
        values[i] = _coordinate(memory, members[j], scales[j], axes, dimension)
        total += values[i]
    least, most = values.min(), values.max()
    threshold = memory.dtype.type(total / values.size)
    share = (values < threshold).sum()
    if min(share, values.size - share) * LEAST_SHARE < values.size:
        median = np.sort(values)[values.size // 2]
        if median > least:
            threshold = median
    return threshold if least < threshold <= most else most


@kernel
def _partition(
    memory: np.ndarray,
    members: np.ndarray,
    scales: np.ndarray,
    axes: np.ndarray,
    dimension: int,
    threshold: float,
) -> int:
    """Move the members below the threshold to the front, with their scales; how many they are."""
    middle = 0
    if axes.size:
        for i in range(members.size):
            slot, scale = members[i], scales[i]
            below = _coordinate(memory, slot, scale, axes, dimension) < threshold
            members[i], scales[i] = members[middle], scales[middle]
            members[middle], scales[middle] = slot, scale
            middle += below
        return middle
    for i in range(members.size):  # without a branch, so that the misses of many rows overlap
        slot, scale = members[i], scales[i]
        below = memory[slot, dimension] * scale < threshold
        members[i], scales[i] = members[middle], scales[middle]
        members[middle], scales[middle] = slot, scale
        middle += below
    return middle


# Building.


@kernel
def _build_tree(
    memory: np.ndarray,
    members: np.ndarray,
    scales: np.ndarray,
    where: np.ndarray,
    roots: np.ndarray,
    nodes: np.ndarray,
    thresholds: np.ndarray,
    leaves: np.ndarray,
    links: np.ndarray,
    state: np.ndarray,
    sketches: np.ndarray,
    axes: np.ndarray,
    random: np.ndarray,
    tree: int,
) -> bool:
    """Build one tree over members [n], which get permuted; False, and undone, if room is short."""
    forest = Forest(where, roots, nodes, thresholds, leaves, links, state, sketches, axes)
    old_state, old_random = state.copy(), random[0]
    # Of the two parts of a split the smaller goes first, so that at most log2(n) others wait.
    waiting = np.empty((64, 4), np.int64)
    waiting[0] = 0, members.size, 0, BELOW
    size = 1 if members.size else 0
    while size:
        size -= 1
        start, stop, parent, side = waiting[size]
        blocks = (stop - start) // (leaves.shape[1] - 1) + 2
        if max(state[LIVE_NODES] + 1, state[LIVE_BLOCKS] + blocks) >= thresholds.size:
            state[:] = old_state
            random[0] = old_random
            return False
        own, own_scales = members[start:stop], scales[start:stop]
        child, middle = _build_part(forest, tree, memory, own, own_scales, random)
        _adopt(forest, tree, parent, side, child)
        if child > 0:
            first = 1 if 2 * middle < own.size else 0
            waiting[size + first] = start, start + middle, child, BELOW
            waiting[size + 1 - first] = start + middle, stop, child, ABOVE
            size += 2
    return True


@kernel
def _build_part(
    forest: Forest,
    tree: int,
    memory: np.ndarray,
    members: np.ndarray,
    scales: np.ndarray,
    random: np.ndarray,
) -> tuple[int, int]:
    """A node that splits members [n] and how many of them, now in front, go below; else a leaf."""
    middle = 0
    if members.size >= forest.leaves.shape[1]:
        dimension, threshold = _choose_split(
            memory, members, scales, forest.axes, forest.roots.size, random
        )
        if dimension >= 0:
            middle = _partition(memory, members, scales, forest.axes, dimension, threshold)
    if middle == 0 or middle == members.size:
        return -_build_leaf(forest, tree, memory, members), 0
    node = new_node(forest)
    forest.nodes[node, DIMENSION] = dimension
    forest.thresholds[node] = threshold
    return node, middle


@kernel
def _adopt(forest: Forest, tree: int, parent: int, side: int, child: int) -> None:
    """Make `child` the BELOW or ABOVE (`side`) of `parent`, or the root if that is 0."""
    if parent == 0:
        forest.roots[tree] = child
    else:
        forest.nodes[parent, side] = child
    set_parent(forest, child, parent)


@kernel
def _build_leaf(forest: Forest, tree: int, memory: np.ndarray, members: np.ndarray) -> int:
    """A leaf of the rows members [n], which are all alike if they are more than fit in a block."""
    leaf, no_log = new_block(forest, 0), np.empty(0, np.int32)
    for i in range(members.size):
        if i < forest.leaves.shape[1] - 1:
            append(forest, tree, leaf, members[i])
        else:
            _append_alike(forest, tree, leaf, members[i], no_log)
        if forest.sketches.size:
            sketch_last(forest, tree, memory, members[i])
    return leaf


# Updating.


@kernel
def _refresh(
    memory: np.ndarray,
    slots: np.ndarray,
    cosine: bool,
    where: np.ndarray,
    roots: np.ndarray,
    nodes: np.ndarray,
    thresholds: np.ndarray,
    leaves: np.ndarray,
    links: np.ndarray,
    state: np.ndarray,
    sketches: np.ndarray,
    axes: np.ndarray,
    random: np.ndarray,
    insertions: np.ndarray,
    rebuild_every: int,
    log: np.ndarray,
) -> bool:
    """Index anew the rows at `slots` [B, n]; False, and nothing done, if room is short.

    log: notes on element b go to log[b], if there are any (`forest_log`).

    An element that has become too deep is made due for a rebuild by its number of `insertions`,
    unless it was rebuilt so recently that the rebuilds would cost more than the insertions.
    """
    most = slots.shape[1] * roots.shape[1]
    for b in range(slots.shape[0]):
        if max(state[b, LIVE_NODES], state[b, LIVE_BLOCKS]) + most >= thresholds.shape[1]:
            return False
    for b in range(slots.shape[0]):
        trees = where[b], roots[b], nodes[b], thresholds[b], leaves[b], links[b]
        forest = Forest(*trees, state[b], sketches[b], axes[b])
        # All stale rows leave first, so that no split is decided by a row in the wrong place.
        _take_out(forest, slots[b], log[b])
        _put_in(forest, memory[b], slots[b], cosine, random[b : b + 1], log[b])
        findable = state[b, FINDABLE]
        limit = DEPTH_BASE + DEPTH_FACTOR * np.log2(findable + 1)
        if state[b, DEPTH] > limit and insertions[b] >= findable // 4:
            insertions[b] = max(insertions[b], rebuild_every)
    return True


@kernel(**UNCOUNTED)
def _forget(
    slots: np.ndarray,
    where: np.ndarray,
    roots: np.ndarray,
    nodes: np.ndarray,
    thresholds: np.ndarray,
    leaves: np.ndarray,
    links: np.ndarray,
    state: np.ndarray,
    sketches: np.ndarray,
    axes: np.ndarray,
    log: np.ndarray,
) -> None:
    """Make the rows at `slots` [B, n] not findable."""
    for b in range(slots.shape[0]):
        trees = where[b], roots[b], nodes[b], thresholds[b], leaves[b], links[b]
        forest = Forest(*trees, state[b], sketches[b], axes[b])
        _take_out(forest, slots[b], log[b])


@kernel(**UNCOUNTED)
def _take_out(forest: Forest, slots: np.ndarray, log: np.ndarray) -> None:
    """Take the rows `slots` [n] out of every tree that they are in."""
    where = forest.where
    trees = where.shape[1]
    for start in range(0, slots.size, TOGETHER):
        some = slots[start : start + TOGETHER]
        _fetch_leaves(forest, some)
        for i in range(some.size):
            slot = some[i]
            if slot >= 0 and where[slot, 0]:
                at = reserve(log, 2 * trees + 1, OUT) if log.size else 0
                if log.size:
                    log[at + 2 * trees] = slot
                for tree in range(trees):
                    _detach(forest, tree, slot, log, at + 2 * tree)
                forest.state[FINDABLE] -= 1


@kernel(**UNCOUNTED)
def _fetch_leaves(forest: Forest, slots: np.ndarray) -> None:
    """Ask for all that taking out the rows `slots` [n] looks at, so that the misses overlap."""
    where, leaves, links, nodes = forest.where, forest.leaves, forest.links, forest.nodes
    for i in range(slots.size):
        prefetch_item(where, max(slots[i], 0), 0)
    for i in range(slots.size):
        for tree in range(where.shape[1]):
            prefetch_item(leaves, where[max(slots[i], 0), tree], 0)
            prefetch_item(links, where[max(slots[i], 0), tree], 0)
    for i in range(slots.size):
        for tree in range(where.shape[1]):
            block = where[max(slots[i], 0), tree]
            if leaves[block, 0] - 1 <= (leaves.shape[1] - 1) // FEW:  # it looks at its sibling
                parent = max(links[block, OWNER], 0)
                sibling = nodes[parent, ABOVE if nodes[parent, BELOW] == -block else BELOW]
                prefetch_item(leaves, max(-sibling, 0), 0)


@kernel(**UNCOUNTED)
def _detach(forest: Forest, tree: int, slot: int, log: np.ndarray, at: int) -> None:
    """Fill a row's place with the last row of its leaf, in O(1); note in log[at :] where it was."""
    where, leaves, links = forest.where, forest.leaves, forest.links
    block = where[slot, tree]
    leaf = block if links[block, OWNER] >= 0 else -links[block, OWNER]
    end = links[leaf, NEXT] if links[leaf, NEXT] else leaf
    last = leaves[end, leaves[end, 0]]
    place = 1
    while leaves[block, place] != slot:
        place += 1
    if log.size:
        log[at], log[at + 1] = block, place
    leaves[block, place] = last
    if forest.sketches.size:
        copy_sketch(forest, end, leaves[end, 0], block, place)
    if end != block:
        where[last, tree] = block
    where[slot, tree] = 0
    leaves[end, 0] -= 1
    if end == leaf:
        if leaves[leaf, 0] <= (leaves.shape[1] - 1) // FEW:
            _dissolve(forest, tree, leaf, log)
    elif leaves[end, 0] == 0:
        links[leaf, NEXT] = links[end, NEXT]
        free_block(forest, end)
        if log.size:
            note_block(log, UNCHAIN, 0, tree, leaf, end)


@kernel(**UNCOUNTED)
def _dissolve(forest: Forest, tree: int, leaf: int, log: np.ndarray) -> None:
    """Drop a leaf of few rows: they join its sibling, which takes the place of their parent.

    That is done if the leaf is empty, or if both fill no more than two thirds of a leaf.
    """
    leaves, nodes = forest.leaves, forest.nodes
    parent, count = forest.links[leaf, OWNER], leaves[leaf, 0]
    if parent == 0:
        if count == 0:
            forest.roots[tree] = 0
            free_block(forest, leaf)
            if log.size:
                note_block(log, UPROOT, 0, tree, leaf, 0)
        return
    below = nodes[parent, BELOW] == -leaf
    sibling = nodes[parent, ABOVE if below else BELOW]
    if count and (sibling > 0 or count + leaves[-sibling, 0] > (leaves.shape[1] - 1) * 2 // 3):
        return
    if log.size:
        header = MERGE | (0 if below else ABOVE_CHILD) | tree * TREE
        at = note_branch(log, forest, header, 1, sibling, leaf, parent)
        log[at] = count
    for i in range(1, count + 1):
        leaves[-sibling, 0] += 1
        leaves[-sibling, leaves[-sibling, 0]] = leaves[leaf, i]
        forest.where[leaves[leaf, i], tree] = -sibling
        if forest.sketches.size:
            copy_sketch(forest, leaf, i, -sibling, leaves[-sibling, 0])
    replace_child(forest, tree, nodes[parent, PARENT], parent, sibling)
    free_node(forest, parent)
    free_block(forest, leaf)


@kernel
def _put_in(
    forest: Forest,
    memory: np.ndarray,
    slots: np.ndarray,
    cosine: bool,
    random: np.ndarray,
    log: np.ndarray,
) -> None:
    """Put the rows `slots` [n] of memory [N, W] into every tree, once each."""
    where, links = forest.where, forest.links
    trees = where.shape[1]
    points = np.empty((TOGETHER, memory.shape[1]), memory.dtype)
    goals = np.empty((TOGETHER, where.shape[1]), np.int64)
    owners = np.empty_like(goals)
    for start in range(0, slots.size, TOGETHER):
        some = slots[start : start + TOGETHER]
        for i in range(some.size):
            goals[i] = 0
            if some[i] >= 0:
                _place(memory[some[i]], cosine, forest.axes, points[i])
                goals[i] = forest.roots
        _approach(forest, memory, points, goals, owners, some.size)
        for i in range(some.size):
            slot = some[i]
            if slot >= 0 and where[slot, 0] == 0:
                for tree in range(trees):
                    leaf = goals[i, tree]
                    # A leaf that was split since then has another owner.
                    if leaf == 0 or links[leaf, OWNER] != owners[i, tree]:
                        leaf = _descend(forest, tree, points[i])
                    goals[i, tree] = _insert(
                        forest, tree, leaf, memory, slot, points[i], cosine, random, log
                    )
                forest.state[FINDABLE] += 1
                if log.size:
                    at = reserve(log, trees + 1, IN)
                    for tree in range(trees):
                        log[at + tree] = goals[i, tree]
                    log[at + trees] = slot


@kernel(**UNCOUNTED)
def _approach(
    forest: Forest,
    memory: np.ndarray,
    points: np.ndarray,
    goals: np.ndarray,
    owners: np.ndarray,
    count: int,
) -> None:
    """Lead goals [n, trees] from the roots (as in `nodes`) to the leaves of `count` points [n, W].

    All go down a level at a time, so that the misses of many overlap. owners: [n, trees], the nodes
    above those leaves. The rows of full leaves, which will be split, are asked for as well.
    """
    nodes, thresholds, leaves, links = forest.nodes, forest.thresholds, forest.leaves, forest.links
    depth, going = 0, True
    while going:
        going = False
        for i in range(count):
            for tree in range(goals.shape[1]):
                child = goals[i, tree]
                if child > 0:
                    below = points[i, nodes[child, DIMENSION]] < thresholds[child]
                    child = nodes[child, BELOW if below else ABOVE]
                    goals[i, tree] = child
                    going = True
                    if child > 0:
                        prefetch_item(nodes, child, 0)
                    else:
                        prefetch_item(leaves, -child, 0)
                        prefetch_item(links, -child, 0)
        depth += going
    forest.state[DEPTH] = max(forest.state[DEPTH], depth)
    for i in range(count):
        for tree in range(goals.shape[1]):
            leaf = -goals[i, tree]
            goals[i, tree] = leaf
            owners[i, tree] = links[leaf, OWNER]
            if leaves[leaf, 0] == leaves.shape[1] - 1:
                for place in range(1, leaves.shape[1]):
                    prefetch_row(memory, leaves[leaf, place])


@kernel(**UNCOUNTED)
def _descend(forest: Forest, tree: int, point: np.ndarray) -> int:
    """The leaf of a point [W]; 0 in an empty tree."""
    nodes, thresholds, state = forest.nodes, forest.thresholds, forest.state
    child = forest.roots[tree]
    depth = 0
    while child > 0:
        below = point[nodes[child, DIMENSION]] < thresholds[child]
        child = nodes[child, BELOW if below else ABOVE]
        depth += 1
    state[DEPTH] = max(state[DEPTH], depth)
    return -child


@kernel
def _insert(
    forest: Forest,
    tree: int,
    leaf: int,
    memory: np.ndarray,
    slot: int,
    point: np.ndarray,
    cosine: bool,
    random: np.ndarray,
    log: np.ndarray,
) -> int:
    """Put a row into the leaf where its point [W] belongs.

    Returns the block at whose end it stands now, 0 if it came by a split.
    """
    block = leaf
    if leaf == 0:
        flags = fresh(forest)
        block = new_block(forest, 0)
        forest.roots[tree] = -block
        if log.size:
            note_block(log, PLANT, flags, tree, block, 0)
    if forest.leaves[block, 0] < forest.leaves.shape[1] - 1:
        append(forest, tree, block, slot)
    elif forest.links[block, NEXT] == 0:
        return _split(forest, tree, memory, block, slot, cosine, random, log)
    else:
        block = _set_apart(forest, tree, memory, block, slot, point, cosine, log)
    if forest.sketches.size:
        sketch_last(forest, tree, memory, slot)
    return block


@kernel
def _split(
    forest: Forest,
    tree: int,
    memory: np.ndarray,
    leaf: int,
    slot: int,
    cosine: bool,
    random: np.ndarray,
    log: np.ndarray,
) -> int:
    """Split a full leaf of one block and one more row in two, or enlarge it if all are alike.

    Returns 0, or the block that the leaf was enlarged by.
    """
    members = np.empty(forest.leaves.shape[1], np.int32)
    members[:-1] = forest.leaves[leaf, 1:]
    members[-1] = slot
    scales = np.empty(members.size, memory.dtype)
    _scale_all(memory, members, cosine, scales)
    dimension, threshold = _choose_split(
        memory, members, scales, forest.axes, forest.roots.size, random
    )
    middle = 0
    if log.size:
        remember_order(log, members)
    if dimension >= 0:
        middle = _partition(memory, members, scales, forest.axes, dimension, threshold)
    if middle == 0 or middle == members.size:
        block = _append_alike(forest, tree, leaf, slot, log)
        if forest.sketches.size:
            sketch_last(forest, tree, memory, slot)
        return block
    flags = fresh(forest)
    other = new_block(forest, 0)
    grow_node(forest, tree, leaf, other, dimension, threshold, True)
    forest.leaves[leaf, 0] = 0
    for i in range(members.size):
        append(forest, tree, leaf if i < middle else other, members[i])
        if forest.sketches.size:
            sketch_last(forest, tree, memory, members[i])
    if log.size:
        note_split(log, forest, flags, tree, leaf, other)
    return 0


@kernel
def _set_apart(
    forest: Forest,
    tree: int,
    memory: np.ndarray,
    leaf: int,
    slot: int,
    point: np.ndarray,
    cosine: bool,
    log: np.ndarray,
) -> int:
    """Give a row a leaf of its own beside a leaf of several blocks, unless it is like those rows.

    Those are all alike, so one of them stands for all and none has to move. Returns the block that
    the row is in.
    """
    alike = np.empty_like(point)
    _place(memory[forest.leaves[leaf, 1]], cosine, forest.axes, alike)
    dimension = int(np.argmax(np.abs(point - alike)))
    least, most = alike[dimension], point[dimension]
    above = least < most
    if not above:
        least, most = most, least
    if not least < most:
        return _append_alike(forest, tree, leaf, slot, log)
    flags = fresh(forest)
    other = new_block(forest, 0)
    append(forest, tree, other, slot)
    middle = memory.dtype.type(least / 2 + most / 2)
    threshold = middle if least < middle <= most else most
    grow_node(forest, tree, leaf, other, dimension, threshold, above)
    if log.size:
        header = APART | flags | (ABOVE_CHILD if above else 0) | tree * TREE
        note_branch(log, forest, header, 0, -leaf, other, forest.links[leaf, OWNER])
    return other


# Searching. Plain arrays all through: a view or a tuple costs atomic reference counts.


@kernel
def _search(
    memory: np.ndarray,
    queries: np.ndarray,
    checks: int,
    roots: np.ndarray,
    nodes: np.ndarray,
    thresholds: np.ndarray,
    axes: np.ndarray,
    leaves: np.ndarray,
    links: np.ndarray,
    cosine: bool,
    visited: np.ndarray,
    clock: np.ndarray,
    keys: np.ndarray,
    items: np.ndarray,
    slots: np.ndarray,
    similarity: np.ndarray,
) -> None:
    """The k best found in memory [B, N, W] for queries [B, H, W] into slots, similarity [B, H, k].

    visited, clock, keys, items: a `Space`.
    """
    _wind(clock, visited, queries.shape[0] * queries.shape[1])
    slots[:] = -1
    similarity[:] = -np.inf
    scaled = np.empty(memory.shape[2], memory.dtype)
    point = np.empty_like(scaled) if axes.size else scaled
    fetched = np.empty((2, leaves.shape[2]), np.int32)
    for b in range(memory.shape[0]):
        rows = memory[b], leaves[b], links[b]
        tree = roots[b], nodes[b], thresholds[b]
        for h in range(queries.shape[1]):
            clock[0] += 1
            now: Any = np.uint32(clock[0])
            _scaled(queries[b, h], cosine, scaled)
            if axes.size:
                _place(queries[b, h], cosine, axes[b], point)
            best_slots, best = slots[b, h], similarity[b, h]
            space = visited, keys, items, fetched
            query = scaled, point, cosine
            _search_one(*rows, *tree, *query, checks, now, *space, best_slots, best)
            _sort(best_slots, best)


@kernel(**UNCOUNTED)
def _wind(clock: np.ndarray, visited: np.ndarray, queries: int) -> None:
    """Have a clock that can count so many more."""
    if clock[0] + queries >= 2**32:
        clock[0] = 0
        visited[:] = 0


@kernel(**UNCOUNTED)
def _search_one(
    memory: np.ndarray,
    leaves: np.ndarray,
    links: np.ndarray,
    roots: np.ndarray,
    nodes: np.ndarray,
    thresholds: np.ndarray,
    scaled: np.ndarray,
    point: np.ndarray,
    cosine: bool,
    checks: int,
    now: int,
    visited: np.ndarray,
    keys: np.ndarray,
    items: np.ndarray,
    fetched: np.ndarray,
    slots: np.ndarray,
    similarity: np.ndarray,
) -> None:
    """Best-bin-first search of all trees for one point [W]; slots, similarity: [k].

    A block's rows are scored only after the way to the next block, on which they arrive from
    memory; fetched [2, 1 + leaf_size] has the one block's slots and the next one's.
    """
    size = 0
    for tree in range(roots.size):
        if roots[tree]:
            size = _push(keys, items, size, keys.dtype.type(0), roots[tree])
    # At least k rows, from ever farther leaves if need be; the first block is always finished.
    enough = max(checks, slots.size)
    left, turn, waiting = max(enough, leaves.shape[1]), 0, 0
    block, following, more = 0, 0, False
    while left > 0 and (block or following or size):
        if following == 0 and size:
            bound, child = keys[0], items[0]
            size = _pop(keys, items, size)
            while child > 0:
                value = point[nodes[child, DIMENSION]]
                gap = value - thresholds[child]
                below = value < thresholds[child]
                far = nodes[child, ABOVE if below else BELOW]
                size = _push(keys, items, size, bound + gap * gap, far)
                child = nodes[child, BELOW if below else ABOVE]
            following = -child
            prefetch_item(leaves, following, 0)
            prefetch_item(leaves, following, leaves.shape[1] - 1)
        if block == 0:
            block, following = following, 0
            continue
        count = _fetch(memory, leaves, block, left, now, visited, fetched, turn)
        # Only a leaf whose first block is full has more: the others spare a look at their link.
        more = more or leaves[block, 0] == leaves.shape[1] - 1
        block = links[block, NEXT] if more else 0
        more = block > 0
        turn = 1 - turn
        _score(memory, fetched, turn, waiting, scaled, cosine, slots, similarity)
        enough -= count
        left, waiting = enough, count
    _score(memory, fetched, 1 - turn, waiting, scaled, cosine, slots, similarity)


@kernel
def _search_sketches(
    memory: np.ndarray,
    queries: np.ndarray,
    checks: int,
    roots: np.ndarray,
    nodes: np.ndarray,
    thresholds: np.ndarray,
    axes: np.ndarray,
    leaves: np.ndarray,
    links: np.ndarray,
    sketches: np.ndarray,
    visited: np.ndarray,
    clock: np.ndarray,
    keys: np.ndarray,
    items: np.ndarray,
    slots: np.ndarray,
    similarity: np.ndarray,
) -> None:
    """As `_search`, for cosine; rows are found by their sketches, then ranked by themselves."""
    _wind(clock, visited, queries.shape[0] * queries.shape[1])
    slots[:] = -1
    similarity[:] = -np.inf
    scaled, point = np.empty((2, memory.shape[2]), memory.dtype)
    prepared = np.empty((sketches.shape[2] + 1, QUERY_NUMBERS), np.int16)
    near = np.empty(max(RERANKED, 2 * slots.shape[2]), np.int64)
    near_scores = np.empty(near.size, np.float32)
    arrivals = np.empty(near.size + 1, np.int64)
    found = np.empty((1, near.size), np.int64)
    for b in range(memory.shape[0]):
        rows = memory[b], leaves[b], links[b], sketches[b]
        tree = roots[b], nodes[b], thresholds[b]
        for h in range(queries.shape[1]):
            _scaled(queries[b, h], True, scaled)
            _place(queries[b, h], True, axes[b], point)
            slack = prepare_query(queries[b, h], prepared)
            least = own_similarity(queries[b, h]) - slack
            near[:] = -1
            near_scores[:] = -np.inf
            arrivals[:] = 0
            clock[0] += 1
            now: Any = np.uint32(clock[0])
            best_slots, best = slots[b, h], similarity[b, h]
            space = keys, items, near, near_scores, arrivals, visited
            arrays = *rows, *tree, scaled, point, prepared
            _search_sketches_one(*arrays, slack, least, checks, now, *space)
            count = 0
            for i in range(near.size):
                if near[i] >= 0:
                    found[0, count] = near[i]
                    count += 1
                    prefetch_row(rows[0], near[i])
            _score(rows[0], found, 0, count, scaled, True, best_slots, best)
            _sort(best_slots, best)


@kernel
def _search_sketches_one(
    memory: np.ndarray,
    leaves: np.ndarray,
    links: np.ndarray,
    sketches: np.ndarray,
    roots: np.ndarray,
    nodes: np.ndarray,
    thresholds: np.ndarray,
    scaled: np.ndarray,
    point: np.ndarray,
    prepared: np.ndarray,
    slack: float,
    least: float,
    checks: int,
    now: int,
    keys: np.ndarray,
    items: np.ndarray,
    near: np.ndarray,
    near_scores: np.ndarray,
    arrivals: np.ndarray,
    visited: np.ndarray,
) -> None:
    """Best-bin-first search of all trees for the rows that score best by their sketches.

    near, near_scores, arrivals, visited, now: as in `keep_best`.
    """
    size = 0
    for tree in range(roots.size):
        if roots[tree]:
            size = _push(keys, items, size, keys.dtype.type(0), roots[tree])
    scores = np.empty(LANES, np.float32)
    left, first = checks, True
    # The worst of the best comes first: none yet, as long as fewer rows were found than they hold.
    while size and (left > 0 or near[0] < 0):
        bound, child = keys[0], items[0]
        size = _pop(keys, items, size)
        while child > 0:
            value = point[nodes[child, DIMENSION]]
            gap = value - thresholds[child]
            below = value < thresholds[child]
            far = nodes[child, ABOVE if below else BELOW]
            size = _push(keys, items, size, bound + gap * gap, far)
            child = nodes[child, BELOW if below else ABOVE]
        block = -child
        while block and (left > 0 or near[0] < 0):
            left -= leaves[block, 0]
            rows = memory, leaves, sketches, block
            best = near, near_scores, arrivals, visited
            _score_block(*rows, scaled, prepared, slack, least, first, scores, now, *best)
            block = links[block, NEXT]
        first = False


@kernel(**UNCOUNTED)
def _score_block(
    memory: np.ndarray,
    leaves: np.ndarray,
    sketches: np.ndarray,
    block: int,
    scaled: np.ndarray,
    prepared: np.ndarray,
    slack: float,
    least: float,
    exactly: bool,
    scores: np.ndarray,
    now: int,
    near: np.ndarray,
    near_scores: np.ndarray,
    arrivals: np.ndarray,
    visited: np.ndarray,
) -> None:
    """Take the rows of a block into the best by sketch.

    exactly: a row that may equal the query, as its sketch scores at `least` so much, gets its
    similarity for a score, with the slack on top: then no other row keeps it from being found.
    """
    groups = (leaves.shape[1] + LANES - 1) // LANES
    end = leaves[block, 0] + 1
    for group in range((end + LANES - 1) // LANES):
        # Scores that have the slack on top must not hide a row that has yet to get it.
        worst = min(near_scores[0], np.float32(least - slack)) if exactly else near_scores[0]
        better = score_group(sketches, block * groups + group, prepared, worst, scores)
        # A lane without a row may hold anything.
        better &= (1 << min(LANES, end - group * LANES)) - (2 if group == 0 else 1)
        while better:
            lane = lowest_bit(better)
            better &= better - 1
            place, score = group * LANES + lane, scores[lane]
            if exactly and score >= least:
                score = np.float32(_cosine(scaled, memory, leaves[block, place]) + slack)
            if score > near_scores[0]:
                slot = leaves[block, place]
                keep_best(slot, score, near, near_scores, arrivals, visited, now)


@kernel(**UNCOUNTED)
def _fetch(
    memory: np.ndarray,
    leaves: np.ndarray,
    block: int,
    most: int,
    now: int,
    visited: np.ndarray,
    fetched: np.ndarray,
    turn: int,
) -> int:
    """List at most so many unvisited rows of a block in fetched[turn], and have them loaded."""
    count = 0
    for i in range(1, leaves[block, 0] + 1):
        slot = leaves[block, i]
        if visited[slot] != now and count < most:
            visited[slot] = now
            fetched[turn, count] = slot
            count += 1
            prefetch_row(memory, slot)
    return count


@kernel
def _score(
    memory: np.ndarray,
    fetched: np.ndarray,
    turn: int,
    count: int,
    scaled: np.ndarray,
    cosine: bool,
    slots: np.ndarray,
    similarity: np.ndarray,
) -> None:
    """Take the first `count` rows of fetched[turn] into the k best so far, a heap by `_sink`."""
    for i in range(count):
        slot = fetched[turn, i]
        near = _cosine(scaled, memory, slot) if cosine else _closeness(scaled, memory, slot)
        if near > similarity[0] or (near == similarity[0] and slot < slots[0]):
            slots[0], similarity[0] = slot, near
            _sink(slots, similarity, slots.size)


@kernel(fastmath=REORDERED)
def _cosine(scaled: np.ndarray, memory: np.ndarray, slot: int) -> float:
    """Similarity of a query, scaled [W], and a row, in the memory's precision."""
    dot = squares = memory.dtype.type(0)
    for w in range(memory.shape[1]):
        dot += scaled[w] * memory[slot, w]
        squares += memory[slot, w] * memory[slot, w]
    if squares < LARGEST_SQUARE:
        return dot / np.sqrt(squares + memory.dtype.type(NORM_EPSILON))
    return memory.dtype.type(dot * _inverse_norm(memory[slot]))


@kernel(fastmath=REORDERED)
def _closeness(query: np.ndarray, memory: np.ndarray, slot: int) -> float:
    """-|query - row|^2 by differences: no digits are lost."""
    total = memory.dtype.type(0)
    for w in range(memory.shape[1]):
        total -= (query[w] - memory[slot, w]) ** 2
    return total


@kernel(**UNCOUNTED)
def _push(keys: np.ndarray, items: np.ndarray, size: int, key: float, item: int) -> int:
    """Add an entry to the queue, a heap led by the least key; its new size."""
    place = size
    while place > 0 and keys[(place - 1) // 2] > key:
        keys[place], items[place] = keys[(place - 1) // 2], items[(place - 1) // 2]
        place = (place - 1) // 2
    keys[place], items[place] = key, item
    return size + 1


@kernel(**UNCOUNTED)
def _pop(keys: np.ndarray, items: np.ndarray, size: int) -> int:
    """Drop the queue's first entry; its new size."""
    size -= 1
    key, item = keys[size], items[size]
    place = 0
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and keys[child + 1] < keys[child]:
            child += 1
        if keys[child] >= key:
            break
        keys[place], items[place] = keys[child], items[child]
        place = child
    keys[place], items[place] = key, item
    return size


@kernel
def _sink(slots: np.ndarray, similarity: np.ndarray, size: int) -> None:
    """Restore the heap of the first `size` results, led by the worst, after that was replaced."""
    parent = 0
    while True:
        child = 2 * parent + 1
        if child >= size:
            return
        if child + 1 < size and _worse(slots, similarity, child + 1, child):
            child += 1
        if not _worse(slots, similarity, child, parent):
            return
        _swap(slots, similarity, parent, child)
        parent = child


@kernel
def _sort(slots: np.ndarray, similarity: np.ndarray) -> None:
    """Turn the heap into a list, best first: its worst goes to the end, again and again."""
    for last in range(slots.size - 1, 0, -1):
        _swap(slots, similarity, 0, last)
        _sink(slots, similarity, last)


@kernel
def _worse(slots: np.ndarray, similarity: np.ndarray, i: int, j: int) -> bool:
    """Whether result i comes after result j: less similar, or as similar at a higher slot."""
    if similarity[i] == similarity[j]:
        return slots[i] > slots[j]
    return similarity[i] < similarity[j]


@kernel
def _swap(slots: np.ndarray, similarity: np.ndarray, i: int, j: int) -> None:
    slots[i], slots[j] = slots[j], slots[i]
    similarity[i], similarity[j] = similarity[j], similarity[i]
