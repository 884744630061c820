"""The lsh backend's tables carried across a log: what was done to them is undone or made again.

A log's chunk notes of each row what writing or removing it changed (`lsh_tables`). Undoing them,
the newest first, leaves the tables as they were, to the bit. A note of a row written then holds the
codes that it had after, so that writing it again, with the same code as before, makes the
same changes and the same note.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from ann_backends.kernels.jit import kernel
from ann_backends.lsh_tables import (
    APPENDED,
    CODES,
    DROPPED,
    HOME,
    KEPT_OUT,
    MEMBER,
    OLD_CODE,
    OLD_HOME,
    OLDEST,
    PART,
    PARTS,
    PLACE,
    ROOM,
    SIDES,
    SLOT,
    STAYED,
    WHERE,
    Tables,
    line_of,
    note_size,
    unlist,
    write,
)
from ann_backends.uncounted import UNCOUNTED


@dataclasses.dataclass(eq=False)
class Filling:
    """How the tables of an element are filled on the other side of a rebuild or of longer codes.

    bits: the length of codes. lines: int32 [L, 1 << bits, ROOM], the buckets of such codes.
    records: int32 [members, 1 + L], homes and codes of the members.
    """

    element: int
    bits: int
    lines: np.ndarray
    records: np.ndarray

    @classmethod
    def of(cls, index: Tables, element: int) -> Filling:
        """As the element is filled now."""
        bits = int(index.bits[element])
        lines = _buckets(index, element)[:, : 1 << bits].copy()
        return cls(element, bits, lines, index.records[element, members_of(index, element), HOME:])

    def exchange(self, index: Tables) -> None:
        """Fill the element so, and become what it was."""
        now = Filling.of(index, self.element)
        lines = _buckets(index, self.element)
        lines[:, : 1 << now.bits] = 0
        lines[:, : 1 << self.bits] = self.lines
        index.bits[self.element] = self.bits
        index.records[self.element, members_of(index, self.element), HOME:] = self.records
        self.bits, self.lines, self.records = now.bits, now.lines, now.records

    @property
    def nbytes(self) -> int:
        """Size of its arrays."""
        return self.lines.nbytes + self.records.nbytes


def _buckets(index: Tables, element: int) -> np.ndarray:
    """The buckets of an element, by table and code: [L, 1 << most_bits, ROOM]."""
    return index.lines[element].reshape(index.records.shape[2] - CODES, -1, ROOM)


def members_of(index: Tables, element: int) -> np.ndarray:
    """The findable rows of an element."""
    return index.members[element, : index.findable[element]]


@kernel
def redo(index: Tables, chunk: np.ndarray) -> None:
    """Make again all that `undo` took back."""
    tables = index.records.shape[2] - CODES
    codes = np.empty((1, tables), np.int32)
    for b in range(chunk.shape[0]):
        log, end = chunk[b], chunk[b, 0]
        log[0] = 1
        while log[0] < end:
            slot = log[log[0] + SLOT]
            if slot < 0:
                unlist(index, b, -1 - slot, log)
            else:
                for t in range(tables):
                    codes[0, t] = log[log[0] + PARTS + PART * t + OLD_CODE]
                write(index, b, slot, codes, 0, log)


@kernel(**UNCOUNTED)
def undo(index: Tables, chunk: np.ndarray) -> None:
    """Take back all changes noted in a chunk."""
    size = note_size(index.records.shape[2] - CODES)
    for b in range(chunk.shape[0]):
        for at in range(chunk[b, 0] - size, 0, -size):
            if chunk[b, at + SLOT] < 0:
                _take_back_removal(index, b, chunk[b], at)
            else:
                _take_back_write(index, b, chunk[b], at)


@kernel(**UNCOUNTED)
def _take_back_write(index: Tables, b: int, log: np.ndarray, at: int) -> None:
    slot, records = log[at + SLOT], index.records
    for t in range(records.shape[2] - CODES - 1, -1, -1):
        part = at + PARTS + PART * t
        new_code, old_code = records[b, slot, CODES + t], log[part + OLD_CODE]
        records[b, slot, CODES + t], log[part + OLD_CODE] = old_code, new_code
        if log[part + WHERE] != STAYED:
            left, gap = divmod(log[part + WHERE], SIDES)
            _expel(index.lines, b, line_of(index, b, t, new_code), gap, log[part + DROPPED])
            entry = -(slot + 1) if t == log[at + OLD_HOME] else slot + 1
            _return(index.lines, b, line_of(index, b, t, old_code), left, entry)
    records[b, slot, HOME] = log[at + OLD_HOME]
    index.written[b] -= 1
    index.recent[b, index.written[b] % index.recent.shape[1]] = log[at + OLDEST]
    if log[at + MEMBER] >= 0:
        index.findable[b] -= 1
        index.members[b, index.findable[b]] = log[at + MEMBER]
        records[b, slot, PLACE] = 0


@kernel(**UNCOUNTED)
def _take_back_removal(index: Tables, b: int, log: np.ndarray, at: int) -> None:
    slot, records = -1 - log[at + SLOT], index.records
    for t in range(records.shape[2] - CODES):
        line = line_of(index, b, t, records[b, slot, CODES + t])
        entry = -(slot + 1) if t == records[b, slot, HOME] else slot + 1
        _return(index.lines, b, line, log[at + PARTS + PART * t + WHERE], entry)
    # The member that took its place still stands in its own, behind the others.
    last, place = index.members[b, index.findable[b]], log[at + MEMBER]
    index.findable[b] += 1
    records[b, last, PLACE] = index.findable[b]
    index.members[b, place] = slot
    records[b, slot, PLACE] = place + 1


@kernel(**UNCOUNTED)
def _expel(lines: np.ndarray, b: int, line: int, gap: int, dropped: int) -> None:
    """Take the newest row out of a bucket, and put back what was dropped for it."""
    if gap == APPENDED:
        last = ROOM - 1
        while lines[b, line, last] == 0:
            last -= 1
        lines[b, line, last] = 0
    elif gap != KEPT_OUT:
        _return(lines, b, line, gap, dropped)


@kernel(**UNCOUNTED)
def _return(lines: np.ndarray, b: int, line: int, place: int, entry: int) -> None:
    """Put an entry in its place again, if it had one; what stands from there on moves up by one."""
    if place < ROOM:
        for i in range(ROOM - 1, place, -1):
            lines[b, line, i] = lines[b, line, i - 1]
        lines[b, line, place] = entry


def problem(index: Tables, element: int, least_bits: int) -> str:
    """What is wrong with an element's tables; empty if they are sound."""
    number, tables = index.records.shape[1], index.records.shape[2] - CODES
    most_bits = index.planes.shape[1] // tables
    findable, bits = index.findable[element], index.bits[element]
    if not (0 <= findable <= number and least_bits <= bits <= most_bits):
        return f"{findable} findable rows with codes of {bits} bits"
    if not 0 <= index.written[element] < 2**62:
        return f"{index.written[element]} writes"
    recent, members = index.recent[element], members_of(index, element)
    if not (((recent >= 0) & (recent < number)).all()):
        return "a row written last that is none"
    if not ((members >= 0) & (members < number)).all():
        return "a member that is no row"
    records = index.records[element]
    if (
        np.count_nonzero(records[:, PLACE]) != findable
        or (records[members, PLACE] != np.arange(1, findable + 1)).any()
    ):
        return "a member that is not in its place"
    homes, codes = records[members, HOME], records[members, CODES:]
    if ((homes < 0) | (homes >= tables)).any() or ((codes < 0) | (codes >= 1 << most_bits)).any():
        return "a member without a home or code"
    return _problem_of_buckets(index, element)


def problem_of_rows(members: np.ndarray, words: np.ndarray) -> str:
    """What is wrong with the words [N, W] of the members; empty if they are finite."""
    return "" if np.isfinite(words[members]).all() else "NaN or infinite values in a findable row"


def _problem_of_buckets(index: Tables, element: int) -> str:
    """Whether each entry is of a member whose code is the bucket's, once, and resident at home."""
    records, bits = index.records[element], index.bits[element]
    for t, lines in enumerate(_buckets(index, element)):
        used = lines != 0
        slots = abs(lines[used].astype(np.int64)) - 1
        bucket = np.nonzero(used)[0]
        if (used[:, 1:] > used[:, :-1]).any() or (slots >= len(records)).any():
            return "a bucket with gaps or entries that are no rows"
        own = records[slots]
        if (
            (own[:, PLACE] == 0).any()
            or np.unique(slots).size != slots.size
            or (bucket != (own[:, CODES + t] & (1 << bits) - 1)).any()
            or ((lines[used] < 0) != (own[:, HOME] == t)).any()
        ):
            return "a row in a bucket that is not its own"
    return ""
