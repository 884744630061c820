"""What the steps of one pass changed in a memory, so that they can be undone and made again.

A journal keeps O(1) numbers per step, never a copy of the memory (Rae et al. 2016, section 3.4).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

import ann_backends
from ann_backends import kernel
from sam.sparse.links import LinkJournal

NONE = -1  # fills the unused places of lists of slots


@dataclasses.dataclass(frozen=True)
class Journal:
    """The changes of T steps to B memories; what a step did not use of its lists is NONE.

    slots: int64 [T, B, H (K + 1)], the distinct rows written in each step, ascending.
    rows: [T, B, H (K + 1), W], what stands in them on the other side of the step: their old
        content while the memory stands after it, their new content while it stands before it.
    fresh: bool [T, B, H (K + 1)], whether the row had never been written before.
    moved, followed_by: int32 [T, B, H (2K + 1)], the moves of the usage ring (`ring`).
    links: the changes of the temporal links, where there are any. index: those of the index.
    """

    slots: np.ndarray
    rows: np.ndarray
    fresh: np.ndarray
    moved: np.ndarray
    followed_by: np.ndarray
    links: LinkJournal | None
    index: ann_backends.Log

    @classmethod
    def empty(
        cls,
        num_steps: int,
        read_shape: tuple[int, ...],
        like: np.ndarray,
        links: LinkJournal | None,
        start_log: Callable[[], ann_backends.Log],
    ) -> Journal:
        """For T steps with read weights of shape [B, H, K] over a memory of like's W and dtype.

        start_log: starts that of the index; called last, when all else has its room.
        """
        batch_size, num_heads, k = read_shape
        writes = (num_steps, batch_size, num_heads * (k + 1))
        moves = (num_steps, batch_size, num_heads * (2 * k + 1))
        return cls(
            slots=np.full(writes, NONE, np.int64),
            rows=np.empty((*writes, like.shape[-1]), like.dtype),
            fresh=np.zeros(writes, np.bool_),
            moved=np.full(moves, NONE, np.int32),
            followed_by=np.empty(moves, np.int32),
            links=links,
            index=start_log(),
        )

    def of_steps(self, start: int, stop: int) -> Journal:
        """That of the steps from `start` to `stop`: views, with the links and the index of all."""
        steps = slice(start, stop)
        return Journal(
            slots=self.slots[steps],
            rows=self.rows[steps],
            fresh=self.fresh[steps],
            moved=self.moved[steps],
            followed_by=self.followed_by[steps],
            links=self.links,
            index=self.index,
        )

    def carry_rows(self, memory: np.ndarray, forward: bool) -> None:
        """Carry the memory [B, N, W] across all steps, forward or backward in time, bit for bit."""
        _carry_rows(memory, self.slots, self.rows, forward)


@kernel
def _carry_rows(memory: np.ndarray, slots: np.ndarray, rows: np.ndarray, forward: bool) -> None:
    """As `Journal.carry_rows`."""
    last = len(slots) - 1
    for step in range(len(slots)):
        t = step if forward else last - step
        swap_rows(memory, slots[t], rows[t])


@kernel
def swap_rows(memory: np.ndarray, slots: np.ndarray, rows: np.ndarray) -> None:
    """Carry the memory to the other side of a step. slots, rows: the journal's of that step."""
    for b in range(slots.shape[0]):
        for i in range(slots.shape[1]):
            slot = slots[b, i]
            if slot >= 0:
                for w in range(rows.shape[2]):
                    kept = memory[b, slot, w]
                    memory[b, slot, w] = rows[b, i, w]
                    rows[b, i, w] = kept
