"""The usage ring: all slots of a memory in order of last access, least recent first.

Usage of a slot is the time since its last non-negligible access (Rae et al. 2016, U^(2), below
equation 6); the slot a write may overwrite is the head of the ring (supplement A.3). Slots that
were accessed in the same step stand in ascending order, so the order never depends on how a step
went through its heads.

links: int32 [B, N, 2], the (next, previous) slot of each slot, each stored as the difference from
where it points at first (i + 1 and i - 1). An array of zeros is therefore the ring 0, 1, ... N-1,
and costs no page of physical memory until it is changed.
heads: int64 [B], the least recently accessed slot.

Here and in the other kernels arrays are handed on whole, with the place that is meant, where there
are many places: numba counts the references to each view that is made of one.
"""

from __future__ import annotations

import numpy as np

from ann_backends import kernel
from sam.sparse.lists import collect

NEXT, PREVIOUS = 0, 1
WAS_HEAD = -1  # in a journal: the slot was moved by advancing the head


@kernel
def _next(links: np.ndarray, b: int, slot: int) -> int:
    memory_size = links.shape[1]
    following = slot + 1 + links[b, slot, NEXT]
    return following - memory_size if following >= memory_size else following


@kernel
def _previous(links: np.ndarray, b: int, slot: int) -> int:
    preceding = slot - 1 + links[b, slot, PREVIOUS]
    return preceding + links.shape[1] if preceding < 0 else preceding


@kernel
def _link(links: np.ndarray, b: int, slot: int, following: int) -> None:
    """Let `following` come after `slot`."""
    links[b, slot, NEXT] = following - slot - 1
    links[b, following, PREVIOUS] = slot + 1 - following


@kernel
def _move_before(links: np.ndarray, b: int, slot: int, following: int) -> None:
    """Take `slot` out of the ring and put it in front of `following`, another slot."""
    _link(links, b, _previous(links, b, slot), _next(links, b, slot))
    _link(links, b, _previous(links, b, following), slot)
    _link(links, b, slot, following)


@kernel
def _move_to_back(links: np.ndarray, heads: np.ndarray, b: int, slot: int) -> int:
    """Make `slot` the most recent; returns what `_undo_move` needs to put it back."""
    following = _next(links, b, slot)
    if slot == heads[b]:
        heads[b] = following
        return WAS_HEAD
    if following != heads[b]:
        _move_before(links, b, slot, heads[b])
    return following


@kernel
def _undo_move(links: np.ndarray, heads: np.ndarray, b: int, slot: int, followed_by: int) -> None:
    if followed_by == WAS_HEAD:
        heads[b] = slot
    elif followed_by != heads[b]:
        _move_before(links, b, slot, followed_by)


@kernel
def least_recent(links: np.ndarray, heads: np.ndarray, popped: np.ndarray) -> None:
    """Write the H least recently accessed slots of each memory into popped [B, H]."""
    for b in range(len(heads)):
        slot = heads[b]
        for h in range(popped.shape[1]):
            popped[b, h] = slot
            slot = _next(links, b, slot)


@kernel
def record_access(
    links: np.ndarray,
    heads: np.ndarray,
    popped: np.ndarray,
    writes: tuple[np.ndarray, np.ndarray],
    reads: tuple[np.ndarray, np.ndarray],
    threshold: float,
    journal: tuple[np.ndarray, np.ndarray],
) -> None:
    """Make what a step accessed the most recent: U^(2) of Rae et al. 2016.

    A slot is accessed if it was popped for writing, or if its read and write weights, summed over
    the heads, exceed `threshold` (the paper's delta).

    popped: [B, H]. writes, reads: slots, -1 for none, and weights, [B, H, K] each; what was popped
    is not among the writes. journal: moved, followed_by of this step, moved filled with -1.
    """
    write_slots, write_weights = writes
    read_slots, read_weights = reads
    moved, followed_by = journal
    _, num_heads, k = read_slots.shape
    most = moved.shape[1]
    slots, weights = np.empty(most, np.int64), np.empty(most, np.float64)
    listed, totals = np.empty(most, np.int64), np.empty(most, np.float64)
    for b in range(len(heads)):
        count = 0
        for h in range(num_heads):
            slots[count], weights[count] = popped[b, h], np.inf
            count += 1
            for i in range(k):
                slots[count], weights[count] = write_slots[b, h, i], write_weights[b, h, i]
                count += write_slots[b, h, i] >= 0
                slots[count], weights[count] = read_slots[b, h, i], read_weights[b, h, i]
                count += 1
        count = collect(slots, weights, count, listed, totals)
        moves = 0
        for i in range(count):
            if totals[i] > threshold:
                moved[b, moves] = listed[i]
                followed_by[b, moves] = _move_to_back(links, heads, b, listed[i])
                moves += 1


@kernel
def undo(links: np.ndarray, heads: np.ndarray, moved: np.ndarray, followed_by: np.ndarray) -> None:
    """Take back the moves of a journal, int32 [T, B, M] each, newest first."""
    for t in range(len(moved) - 1, -1, -1):
        for b in range(len(heads)):
            for i in range(moved.shape[2] - 1, -1, -1):
                if moved[t, b, i] >= 0:
                    _undo_move(links, heads, b, moved[t, b, i], followed_by[t, b, i])


@kernel
def redo(links: np.ndarray, heads: np.ndarray, moved: np.ndarray) -> None:
    """Make the moves of a journal, int32 [T, B, M], once more, oldest first."""
    for t in range(len(moved)):
        for b in range(len(heads)):
            for i in range(moved.shape[2]):
                if moved[t, b, i] >= 0:
                    _move_to_back(links, heads, b, moved[t, b, i])


@kernel
def order(links: np.ndarray, heads: np.ndarray) -> np.ndarray:
    """All slots of each memory, the least recently accessed first: int32 [B, N]."""
    slots = np.empty(links.shape[:2], np.int32)
    for b in range(len(heads)):
        slot = heads[b]
        for i in range(links.shape[1]):
            slots[b, i] = slot
            slot = _next(links, b, slot)
    return slots


def of_order(slots: np.ndarray) -> np.ndarray:
    """The links of rings in that order, int32 [B, N], each slot once."""
    batch_size, memory_size = slots.shape
    links = np.zeros((batch_size, memory_size, 2), np.int32)
    following = np.roll(slots, -1, axis=1)
    elements = np.arange(batch_size)[:, None]
    links[elements, slots, NEXT] = following - slots - 1
    links[elements, following, PREVIOUS] = slots + 1 - following
    # From the last slot on to the first is no step away either.
    links[abs(links) == memory_size] = 0
    return links
