"""The tables of lsh with sketches carried across a log: changes are undone or made again.

As in `lsh_log`. Sketches are in no log: what stands in a place is the sketch of its row as that is
in the memory, whose rows have been carried already. Places without a row may hold anything.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from ann_backends.kernels.jit import kernel
from ann_backends.lsh_wide_tables import (
    BITS,
    BLOCK,
    CODES,
    DROPPED,
    FINDABLE,
    FREE,
    LARGEST,
    LISTED,
    MEMBER,
    NEW_BLOCK,
    NEWEST,
    NONE,
    OLD_CODE,
    OLD_PLACE,
    OLDEST,
    PART,
    PARTS,
    RECENT,
    SIZE,
    SLOT,
    STAYED,
    USED,
    WRITTEN,
    Tables,
    bucket_of,
    group_of,
    note_size,
    settle,
    slot_at,
    unlist,
    write,
)
from ann_backends.sketch import LANES, copy_lane
from ann_backends.uncounted import UNCOUNTED


@dataclasses.dataclass(eq=False)
class Filling:
    """How the tables of an element are filled on the other side of a rebuild or of longer codes.

    buckets: int32 [L, 1 << bits, 2]. older: int32 [1 + USED], of the blocks in use. records: int32
    [members, 2 L], codes and places of the members. recent: int32 [RECENT]. state: int64 [5].
    """

    element: int
    buckets: np.ndarray
    older: np.ndarray
    records: np.ndarray
    recent: np.ndarray
    state: np.ndarray

    @classmethod
    def of(cls, index: Tables, element: int) -> Filling:
        """As the element is filled now."""
        state = index.state[element].copy()
        return cls(
            element,
            _buckets(index, element)[:, : 1 << state[BITS]].copy(),
            index.older[element, : 1 + state[USED]].copy(),
            index.records[element, members_of(index, element), CODES:],
            index.recent[element].copy(),
            state,
        )

    def exchange(self, index: Tables, memory: np.ndarray) -> None:
        """Fill the element so, and become what it was."""
        now, element = Filling.of(index, self.element), self.element
        buckets = _buckets(index, element)
        buckets[:, : 1 << now.state[BITS]] = 0
        buckets[:, : self.buckets.shape[1]] = self.buckets
        index.older[element, : self.older.size] = self.older
        index.records[element, members_of(index, element), CODES:] = self.records
        index.recent[element] = self.recent
        index.state[element] = self.state
        sketch_members(index, memory[element], element)
        vars(self).update(vars(now))

    @property
    def nbytes(self) -> int:
        """Size of its arrays."""
        arrays = self.buckets, self.older, self.records, self.recent, self.state
        return sum(array.nbytes for array in arrays)


def _buckets(index: Tables, element: int) -> np.ndarray:
    """The buckets of an element, by table and code: [L, 1 << most_bits, 2]."""
    return index.buckets[element].reshape(index.records.shape[2] // 2, -1, 2)


def members_of(index: Tables, element: int) -> np.ndarray:
    """The findable rows of an element."""
    return index.members[element, : index.state[element, FINDABLE]]


@kernel(**UNCOUNTED)
def sketch_members(index: Tables, words: np.ndarray, b: int) -> None:
    """Put the sketches of all members where the members stand."""
    tables = index.records.shape[2] // 2
    for slot in index.members[b, : index.state[b, FINDABLE]]:
        for t in range(tables):
            place = index.records[b, slot, CODES + tables + t]
            if place:
                settle(index, words, b, t, slot, place)


@kernel
def redo(index: Tables, memory: np.ndarray, chunk: np.ndarray) -> None:
    """Make again all that `undo` took back."""
    tables = index.records.shape[2] // 2
    codes = np.empty(tables, np.int32)
    for b in range(chunk.shape[0]):
        words, log, end = memory[b], chunk[b], chunk[b, 0]
        log[0] = 1
        while log[0] < end:
            slot = log[log[0] + SLOT]
            if slot < 0:
                unlist(index, b, -1 - slot, log)
            else:
                for t in range(tables):
                    codes[t] = log[log[0] + PARTS + PART * t + OLD_CODE]
                write(index, words, b, slot, codes, log)


@kernel(**UNCOUNTED)
def undo(index: Tables, memory: np.ndarray, chunk: np.ndarray) -> None:
    """Take back all changes noted in a chunk."""
    size = note_size(index.records.shape[2] // 2)
    for b in range(chunk.shape[0]):
        for at in range(chunk[b, 0] - size, 0, -size):
            if chunk[b, at + SLOT] < 0:
                _take_back_removal(index, memory[b], b, chunk[b], at)
            else:
                _take_back_write(index, memory[b], b, chunk[b], at)


@kernel(**UNCOUNTED)
def _take_back_write(index: Tables, words: np.ndarray, b: int, log: np.ndarray, at: int) -> None:
    slot, records, state = log[at + SLOT], index.records, index.state
    tables = records.shape[2] // 2
    state[b, WRITTEN] -= 1
    index.recent[b, state[b, WRITTEN] % RECENT] = log[at + OLDEST]
    for t in range(tables - 1, -1, -1):
        part = at + PARTS + PART * t
        new_code, old_code = records[b, slot, CODES + t], log[part + OLD_CODE]
        if log[part + DROPPED] == STAYED:
            settle(index, words, b, t, slot, records[b, slot, CODES + tables + t])
        else:
            _expel(index, words, b, t, slot, log[part + DROPPED])
            records[b, slot, CODES + t] = old_code
            _return(index, words, b, t, slot, log[part + OLD_PLACE])
        log[part + OLD_CODE] = new_code
    if log[at + MEMBER] >= 0:
        state[b, FINDABLE] -= 1
        index.members[b, state[b, FINDABLE]] = log[at + MEMBER]
        records[b, slot, LISTED] = 0


@kernel(**UNCOUNTED)
def _take_back_removal(index: Tables, words: np.ndarray, b: int, log: np.ndarray, at: int) -> None:
    slot, records, state = -1 - log[at + SLOT], index.records, index.state
    for t in range(records.shape[2] // 2 - 1, -1, -1):
        _return(index, words, b, t, slot, log[at + PARTS + PART * t + OLD_PLACE])
    # The member that took its place still stands in its own, behind the others.
    last, place = index.members[b, state[b, FINDABLE]], log[at + MEMBER]
    state[b, FINDABLE] += 1
    records[b, last, LISTED] = state[b, FINDABLE]
    index.members[b, place] = slot
    records[b, slot, LISTED] = place + 1


@kernel(**UNCOUNTED)
def _expel(index: Tables, words: np.ndarray, b: int, t: int, slot: int, dropped: int) -> None:
    """Take the newest row out of the bucket of its code; undoes what entering it did."""
    tables, state = index.records.shape[2] // 2, index.state
    place = index.records[b, slot, CODES + tables + t]
    index.records[b, slot, CODES + tables + t] = 0
    if dropped > NONE:
        settle(index, words, b, t, dropped - 1, place)
        return
    bucket = bucket_of(index, t, index.records[b, slot, CODES + t])
    index.buckets[b, bucket, SIZE] -= 1
    if place % BLOCK == 0:
        block = place // BLOCK
        index.buckets[b, bucket, NEWEST] = index.older[b, block]
        if dropped == NEW_BLOCK:
            state[b, USED] -= 1
        else:
            index.older[b, block] = state[b, FREE]
            state[b, FREE] = block


@kernel(**UNCOUNTED)
def _return(index: Tables, words: np.ndarray, b: int, t: int, slot: int, place: int) -> None:
    """Put a row in its place again, if it had one; undoes what leaving the bucket did."""
    if place == 0:
        return
    tables, state = index.records.shape[2] // 2, index.state
    bucket = bucket_of(index, t, index.records[b, slot, CODES + t])
    lane = index.buckets[b, bucket, SIZE] % BLOCK
    index.buckets[b, bucket, SIZE] += 1
    if lane == 0:
        block = state[b, FREE]
        state[b, FREE] = index.older[b, block]
        index.older[b, block] = index.buckets[b, bucket, NEWEST]
        index.buckets[b, bucket, NEWEST] = block
    last = index.buckets[b, bucket, NEWEST] * BLOCK + lane
    if place != last:
        # The bucket's last row had taken the place.
        moved = slot_at(index, b, place)
        index.records[b, moved, CODES + tables + t] = last
        group, to_group = group_of(index, b, place), group_of(index, b, last)
        copy_lane(index.sketches, group, place % LANES, to_group, last % LANES)
    settle(index, words, b, t, slot, place)


def problem(index: Tables, element: int, least_bits: int) -> str:
    """What is wrong with an element's tables; empty if they are sound."""
    number, tables = index.records.shape[1], index.records.shape[2] // 2
    most_bits = (index.buckets.shape[1] // tables).bit_length() - 1
    findable, bits, written, used, _ = (int(n) for n in index.state[element])
    if not (0 <= findable <= number and least_bits <= bits <= most_bits):
        return f"{findable} findable rows with codes of {bits} bits"
    if not (0 <= written < 2**62 and 0 <= used < index.older.shape[1]):
        return f"{written} writes, {used} blocks"
    recent, members = index.recent[element], members_of(index, element)
    if not ((recent >= -1) & (recent < number)).all():
        return "a row written last that is none"
    if not ((members >= 0) & (members < number)).all():
        return "a member that is no row"
    records = index.records[element]
    if (
        np.count_nonzero(records[:, LISTED]) != findable
        or (records[members, LISTED] != np.arange(1, findable + 1)).any()
    ):
        return "a member that is not in its place"
    codes, places = records[members, CODES : CODES + tables], records[:, CODES + tables :]
    if ((codes < 0) | (codes >= 1 << bits)).any():
        return "a member without a code"
    if np.count_nonzero(places) != np.count_nonzero(places[members]):
        return "a row in a bucket that is no member"
    return "" if _are_buckets_sound(index, element) else "a bucket with other rows than its own"


@kernel
def _are_buckets_sound(index: Tables, b: int) -> bool:
    """Whether each block in use is in one bucket or free, and each place in use of one row."""
    used, tables = index.state[b, USED], index.records.shape[2] // 2
    # Of each block its bucket + 1, and how many rows it has.
    owners, fills = np.zeros(used + 1, np.int64), np.zeros(used + 1, np.int64)
    size_of_table, rows = index.buckets.shape[1] // tables, 0
    for bucket in range(index.buckets.shape[1]):
        size, block = index.buckets[b, bucket, SIZE], index.buckets[b, bucket, NEWEST]
        if not 0 <= size <= LARGEST or (size and bucket % size_of_table >> index.state[b, BITS]):
            return False
        fill = (size - 1) % BLOCK + 1
        for _ in range((size + BLOCK - 1) // BLOCK):
            if not 0 < block <= used or owners[block]:
                return False
            owners[block], fills[block] = bucket + 1, fill
            block, fill = index.older[b, block], BLOCK
        if block:
            return False
        rows += size
    block = index.state[b, FREE]
    while block:
        if not 0 < block <= used or owners[block]:
            return False
        owners[block] = -1
        block = index.older[b, block]
    if (owners[1:] == 0).any():
        return False
    taken = np.zeros((used + 1) * BLOCK, np.bool_)
    for slot in index.members[b, : index.state[b, FINDABLE]]:
        for t in range(tables):
            place = index.records[b, slot, CODES + tables + t]
            if place:
                block = place // BLOCK
                bucket = bucket_of(index, t, index.records[b, slot, CODES + t])
                if not 0 < block <= used or owners[block] != bucket + 1 or taken[place]:
                    return False
                if place % BLOCK >= fills[block]:
                    return False
                taken[place] = True
                rows -= 1
    return rows == 0
