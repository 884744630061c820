"""Locality-sensitive hashing with wide buckets, whose rows are ranked by their sketches.

Codes are vertices of cross-polytopes (Andoni et al. 2015, "Practical and optimal LSH for angular
distance"): a word's coordinates in a random basis are taken by eights, and each eight says
which of its axes the word is nearest to, and at which end; the last may be fewer, so that codes
are of any length. Rotations depend on no data. Codes are short: a bucket holds tens of rows, and a
search scans whole buckets, sixteen rows at a time, by the 8-bit copies that
`ann_backends.sketch` makes. It takes the buckets whose vertices are least farther from the query
than the nearest ones are; with a `reach`, no farther than rows as near as those found already
are likely to be.

A bucket is a chain of blocks, all of them full but the newest. A row that leaves is replaced by
the bucket's last one, and blocks that run empty are used again: nothing wears. A bucket of
`LARGEST` rows drops one of its newest block's for each that comes; such a row stands in one table
less until it is written again.

What is promised of fresh rows: a row found in the query's own bucket of the first table that may
equal the query is scored by itself, so that no crowd hides it, and the rows written last, `RECENT`
of them, are ranked in every search.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ann_backends import checks, lsh_wide_log, lsh_wide_tables
from ann_backends.index import Index
from ann_backends.log import Log
from ann_backends.lsh_wide_search import search
from ann_backends.lsh_wide_tables import (
    AXES,
    BITS,
    BLOCK,
    CODES,
    FINDABLE,
    GROUPS,
    LOAD,
    RECENT,
    VERTEX_BITS,
    Tables,
)
from ann_backends.sketch import group_shape

MOST_BITS, MOST_PROBES = 24, 2**16


class WideLSHIndex(Index):
    """The `Index` that `LSH` builds with sketches."""

    settings: Any  # the `LSH` that builds it, which imports this file

    @property
    def probes(self) -> int:
        """Buckets that a search looks into per table; at first the settings' own."""
        return self._probes

    @probes.setter
    def probes(self, value: int) -> None:
        self._probes = checks.integer("probes", value, 1, MOST_PROBES)

    @property
    def reach(self) -> float | None:
        """How far a search looks, see `LSH`; at first the settings' own."""
        return self._reach

    @reach.setter
    def reach(self, value: float | None) -> None:
        self._reach = value if value is None else checks.positive("reach", value)

    def _clear(self) -> None:
        tables, fixed = self.settings.tables, self.settings.bits
        self._probes = getattr(self, "_probes", self.settings.probes)
        self._reach = getattr(self, "_reach", self.settings.reach)
        self._least_bits = 0 if fixed is None else fixed
        most_bits = bits_for(self.memory_size) if fixed is None else fixed
        batch_size, memory_size = self.batch_size, self.memory_size
        # All blocks of a bucket but one are full.
        blocks = 1 + tables * min(memory_size, memory_size // BLOCK + (1 << most_bits))
        fours, *lanes = group_shape(self.word_size)
        sketches = self._zeros((batch_size * blocks * GROUPS, fours + 1, *lanes), np.int8)
        axes = random_axes(self.word_size, tables, most_bits, self.seed)
        state = np.zeros((batch_size, 5), np.int64)
        state[:, BITS] = self._least_bits
        self._tables = Tables(
            axes=axes.astype(self.memory.dtype),
            buckets=self._zeros((batch_size, tables << most_bits, 2), np.int32),
            older=self._zeros((batch_size, blocks), np.int32),
            sketches=sketches,
            slots=sketches.view(np.int32)[..., 0],
            records=self._zeros((batch_size, memory_size, CODES + 2 * tables), np.int32),
            members=self._zeros((batch_size, memory_size), np.int32),
            recent=np.full((batch_size, RECENT), -1, np.int32),
            state=state,
        )

    def _fill(self) -> None:
        lsh_wide_tables.list_all(self._tables)
        for element in range(self.batch_size):
            self._rebuild(element)

    def _update(self, slots: np.ndarray) -> None:
        done = 0
        while done < slots.size:
            chunk = self._chunk(slots.shape[1])
            done = lsh_wide_tables.update(self._tables, self.memory, slots, done, chunk)
            if done < 0:
                done = -done
                self._lengthen_codes((done - 1) // slots.shape[1])

    def _lengthen_codes(self, element: int) -> None:
        if self._open_log is not None:
            self._note_rebuild(element, self._open_log)
        lsh_wide_tables.lengthen_codes(self._tables, self.memory[element], element)

    def _remove(self, slots: np.ndarray) -> None:
        lsh_wide_tables.remove(self._tables, slots, self._chunk(slots.shape[1]))

    def _search(self, queries: np.ndarray, slots: np.ndarray, similarity: np.ndarray) -> None:
        reach = math.inf if self._reach is None else self._reach
        limits = self._probes, reach
        search(self._tables, limits, self.memory, queries, slots, similarity)

    def _rebuild(self, element: int) -> None:
        lsh_wide_tables.rebuild(self._tables, self.memory, element, self._least_bits)

    def _findable(self) -> np.ndarray:
        return self._tables.state[:, FINDABLE]

    def _bytes(self) -> int:
        return sum(array.nbytes for array in self._tables) - self._tables.slots.nbytes

    def _chunk(self, rows: int) -> np.ndarray:
        """Where to note what happens to so many rows of each element."""
        return self._log_chunk(rows * lsh_wide_tables.note_size(self.settings.tables))

    def _structure(self) -> dict[str, np.ndarray]:
        """Without the sketches, which follow from the rows."""
        left_out = "axes", "sketches", "slots"
        return {name: a for name, a in self._tables._asdict().items() if name not in left_out}

    def _take_element(self, element: int, part: dict[str, np.ndarray]) -> None:
        super()._take_element(element, part)
        if not self._element_problem(element):
            lsh_wide_log.sketch_members(self._tables, self.memory[element], element)

    def _note_rebuild(self, element: int, log: Log) -> None:
        log.entries.append(lsh_wide_log.Filling.of(self._tables, element))

    def _carry_entry(self, entry: Any, forward: bool) -> None:
        if isinstance(entry, lsh_wide_log.Filling):
            entry.exchange(self._tables, self.memory)
        elif forward:
            lsh_wide_log.redo(self._tables, self.memory, entry)
        else:
            lsh_wide_log.undo(self._tables, self.memory, entry)

    def _element_problem(self, element: int) -> str:
        return lsh_wide_log.problem(self._tables, element, self._least_bits)


def bits_for(rows: int) -> int:
    """The length of the codes that gives buckets of at most LOAD rows on average."""
    return min(max(0, (rows - 1) // LOAD).bit_length(), MOST_BITS)


def random_axes(word_size: int, tables: int, bits: int, seed: int) -> np.ndarray:
    """Random unit vectors [W, tables * C] for codes of `bits`; a table's are orthogonal W by W."""
    rng = np.random.default_rng(seed)
    axes = np.empty((word_size, tables, AXES * math.ceil(bits / VERTEX_BITS)))
    for table in range(tables):
        for first in range(0, axes.shape[2], word_size):
            basis = np.linalg.qr(rng.standard_normal((word_size, word_size)))[0]
            axes[:, table, first : first + word_size] = basis[:, : axes.shape[2] - first]
    return axes.reshape(word_size, -1)
