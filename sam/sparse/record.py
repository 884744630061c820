"""Takes down what the passes of a model ask of its index, from what a pass leaves behind."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

from ann_backends import Trace
from sam.sparse.journal import Journal
from sam.sparse.store import Version


class Recorder:
    """Collects steps for a `Trace`, at most `max_steps` (None: all).

    memories: of how many memories of the batch, from the first on (None: all). num_steps: how many
    steps it has. A copy of a model is not recorded: copying, or pickling, a recorder gives None.
    """

    def __init__(self, max_steps: int | None, memories: int | None = None) -> None:
        self.max_steps, self.memories = max_steps, memories
        self.num_steps = 0
        self._passes: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._starts: list[tuple[int, np.ndarray, np.ndarray, np.ndarray]] = []
        # Weak, so as not to hold a memory, or journals, that nobody else needs.
        self._last_version: weakref.ref[Version] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()

    @property
    def is_full(self) -> bool:
        """Whether `max_steps` have been recorded, so that nothing more will be."""
        return self.num_steps == self.max_steps

    def record(
        self, queries: np.ndarray, journal: Journal, before: Version, after: Version
    ) -> None:
        """Take down the steps of `journal`, just made between two versions.

        queries: [T, B, H, W].
        """
        if self.is_full:
            return
        own = slice(self.memories)
        queries = queries[:, own]
        self._check_like_before(queries)
        memory, written = after.store.memory[own], after.store.written[own]
        slots, old_rows, fresh = (
            part[:, own] for part in (journal.slots, journal.rows, journal.fresh)
        )
        rows = _rows_after_each_step(memory, slots, old_rows)
        if self._last_version is None or self._last_version() is not before:
            known = _findable_before(memory, written, slots, old_rows, fresh)
            self._starts.append((self.num_steps, *known))
        room = len(queries) if self.max_steps is None else self.max_steps - self.num_steps
        self._passes.append((queries[:room].copy(), slots[:room], rows[:room]))
        self.num_steps += min(room, len(queries))
        self._last_version = weakref.ref(after)

    def trace(self, memory_size: int, k: int, metric: str, info: dict[str, Any]) -> Trace:
        """What has been recorded, at least one step, as a Trace."""
        queries, slots, rows = (np.concatenate(part) for part in zip(*self._passes, strict=True))
        first_steps, elements, start_slots, start_rows = zip(*self._starts, strict=True)
        counts = [len(own) for own in start_slots]
        return Trace(
            memory_size=memory_size,
            k=k,
            metric=metric,
            queries=queries,
            slots=slots,
            rows=rows,
            first_steps=np.array(first_steps, np.int64),
            start_episode=np.repeat(np.arange(len(counts), dtype=np.int64), counts),
            start_element=np.concatenate(elements),
            start_slot=np.concatenate(start_slots),
            start_rows=np.concatenate(start_rows),
            info=info,
        )

    def _check_like_before(self, queries: np.ndarray) -> None:
        if not self._passes:
            return
        before = self._passes[0][0]
        for name, came, expected in (
            ("batch size", queries.shape[1], before.shape[1]),
            ("dtype", queries.dtype, before.dtype),
        ):
            if came != expected:
                raise ValueError(
                    f"inputs: got {name} {came}, expected {expected} as in the steps recorded so "
                    "far: a trace holds one"
                )


def _rows_after_each_step(
    memory: np.ndarray, slots: np.ndarray, old_rows: np.ndarray
) -> np.ndarray:
    """What each write of a pass left in its row, zeros where `slots` is padded: [T, B, n, W].

    memory: [B, N, W] after the pass. slots: [T, B, n], -1 for none. old_rows: [T, B, n, W], what
    each write overwrote: what the write to that row before it had left.
    """
    writes = t, b, i = np.nonzero(slots >= 0)
    slot = slots[writes]
    by_row = np.lexsort((t, slot, b))
    t, b, i, slot = t[by_row], b[by_row], i[by_row], slot[by_row]
    again = (b[1:] == b[:-1]) & (slot[1:] == slot[:-1])
    left = memory[b, slot]
    left[:-1][again] = old_rows[t, b, i][1:][again]
    rows = np.zeros_like(old_rows)
    rows[t, b, i] = left
    return rows


def _findable_before(
    memory: np.ndarray,
    written: np.ndarray,
    slots: np.ndarray,
    old_rows: np.ndarray,
    fresh: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rows known to the index before a pass just made: element, slot, content.

    int64 [S] twice, ascending, and [S, W]. memory: [B, N, W] and written: bool [B, N] after the
    pass. slots, old_rows, fresh: the pass's writes as its journal has them.
    """
    known = written.copy()
    t, b, i = np.nonzero(fresh)
    known[b, slots[t, b, i]] = False
    element, slot = np.nonzero(known)
    rows = memory[element, slot]
    # A row that the pass wrote held what the first of its writes overwrote.
    t, b, i = np.nonzero(slots >= 0)
    places, first = np.unique(b * known.shape[1] + slots[t, b, i], return_index=True)
    kept = known.reshape(-1)[places]
    at = np.searchsorted(element * known.shape[1] + slot, places[kept])
    rows[at] = old_rows[t, b, i][first[kept]]
    return element, slot, rows
