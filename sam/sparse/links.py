"""Temporal links: which slot was written after which (Rae et al. 2016, supplement D).

The paper keeps two sparse matrices, N_t of what each slot was written after and P_t of what was
written after each slot, both with at most K_L links a row. Until something is cut, P_t is the
transpose of N_t. It stays so here: a link cut from one is cut from the other, so that the weights
are kept once and a slot's links are all found from its own two rows. Cut each by itself, the two
drift apart, and the links that only one of them still has can be neither decayed nor cleared.

No gradient goes through the links (supplement D).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

import ann_backends
from sam.sparse import link_kernels
from sam.sparse.link_kernels import FOLLOWERS, SOURCES, WEIGHTS

NONE = -1
MOST = 1 + 1e-5  # a weight, which is at most 1 but for rounding


@dataclasses.dataclass
class LinkJournal:
    """The links that the steps of one pass changed, in order.

    steps: of each step int64 [n], (b N + i) N + j of the link from j to i in memory b, -1 for none,
    and [n], its weight on the other side of the change: the old one while the links stand after it.
    precedence: slots and weights [B, K_L], likewise of the pass.
    """

    precedence: tuple[np.ndarray, np.ndarray]
    steps: list[tuple[np.ndarray, np.ndarray]] = dataclasses.field(default_factory=list)


class Links:
    """The links of B memories of N slots, at most K_L = `link_size` to and from each slot.

    In all arrays a slot is stored as 1 + its number and 0 is none, so that arrays of zeros hold no
    links and cost no page of physical memory until they are written to. Rows are in ascending
    order of slots, their unused places last.

    sources: int32 [B, N, K_L], what slot i was written after, the rows of N_t. weights:
    [B, N, K_L], N_t(i, j) in (0, 1] of each of those. followers: int32 [B, N, K_L], what was
    written after slot j, the rows of P_t. The three of a slot stand side by side in one record, so
    that a slot anywhere in a large memory costs one page. precedence_slots, precedence_weights:
    [B, K_L], p_t, the slots written last.
    strict: whether links of a slot to itself, and those of a slot that was erased, stay, as the
    printed equations have it.
    """

    def __init__(
        self, shape: tuple[int, int], link_size: int, dtype: np.dtype, *, strict: bool = False
    ) -> None:
        """shape: B, N."""
        batch_size, memory_size = shape
        memories = (batch_size, memory_size)
        # In rows of K_L slots: the followers, the sources, and as many as the weights need.
        rows = 2 + dtype.itemsize // np.dtype(np.int32).itemsize
        records = ann_backends.lazy_zeros((*memories, rows, link_size), np.int32)
        self._records = records
        self._weights = _weights_in(records, dtype)
        self.precedence_slots = np.zeros((batch_size, link_size), np.int32)
        self.precedence_weights = np.zeros((batch_size, link_size), dtype)
        self.strict = strict

    def __getstate__(self) -> dict[str, Any]:
        state = dict(vars(self))
        del state["_weights"]  # a view, which a copy would lose
        return state | {"dtype": self._weights.dtype}

    def __setstate__(self, state: dict[str, Any]) -> None:
        dtype = state.pop("dtype")
        vars(self).update(state)
        self._weights = _weights_in(self._records, dtype)

    def empty(self, batch_size: int) -> Links:
        """No links, in `batch_size` memories of the same sizes."""
        _, memory_size = self.shape
        link_size = self.precedence_slots.shape[1]
        dtype = self.precedence_weights.dtype
        return Links((batch_size, memory_size), link_size, dtype, strict=self.strict)

    def copy_from(self, other: Links, source: int, target: int) -> None:
        """Give memory `target` the links that memory `source` of `other`, of equal sizes, has."""
        ann_backends.copy_changed(other._records[source], self._records[target])
        self.precedence_slots[target] = other.precedence_slots[source]
        self.precedence_weights[target] = other.precedence_weights[source]

    @property
    def shape(self) -> tuple[int, int]:
        """B, N."""
        batch_size, memory_size, _ = self.sources.shape
        return batch_size, memory_size

    @property
    def sources(self) -> np.ndarray:
        return self._records[:, :, SOURCES]

    @property
    def weights(self) -> np.ndarray:
        return self._weights[:, :, WEIGHTS]

    @property
    def followers(self) -> np.ndarray:
        return self._records[:, :, FOLLOWERS]

    def parts(self) -> dict[str, np.ndarray]:
        """What all the links follow from: not copies."""
        return {
            "sources": self.sources,
            "weights": self.weights,
            "precedence_slots": self.precedence_slots,
            "precedence_weights": self.precedence_weights,
        }

    def problem(
        self,
        sources: np.ndarray,
        weights: np.ndarray,
        precedence_slots: np.ndarray,
        precedence_weights: np.ndarray,
    ) -> str:
        """Why `parts` of these shapes cannot be those of links; empty if they can."""
        memory_size, link_size = sources.shape[1:]
        for slots, shares in ((sources, weights), (precedence_slots, precedence_weights)):
            if not ((slots >= 0) & (slots <= memory_size)).all():
                return "a slot out of range"
            used, before = slots > 0, slots[..., :-1]
            if ((slots[..., 1:] <= before) & used[..., 1:]).any() or (
                used[..., 1:] & ~used[..., :-1]
            ).any():
                return "a row whose slots do not ascend"
            if not ((shares >= 0) & (shares <= MOST)).all() or shares[~used].any():
                return "a weight out of range"
        used = sources > 0
        if not used.any():
            return ""
        followers = np.bincount(np.nonzero(used)[0] * memory_size + sources[used] - 1)
        return "a slot with too many followers" if followers.max() > link_size else ""

    def load(
        self,
        sources: np.ndarray,
        weights: np.ndarray,
        precedence_slots: np.ndarray,
        precedence_weights: np.ndarray,
    ) -> None:
        """Become the links that these `parts` are of; there were none."""
        b, i, k = np.nonzero(sources)
        j = sources[b, i, k] - 1
        self.sources[b, i, k] = j + 1
        self.weights[b, i, k] = weights[b, i, k]
        # To each j in turn, its followers i, which ascend within a memory.
        by_source = np.lexsort((i, j, b))
        b, i, j = b[by_source], i[by_source], j[by_source]
        number = b * self.shape[1] + j
        first = np.searchsorted(number, number)
        self.followers[b, j, np.arange(len(number)) - first] = i + 1
        self.precedence_slots[:] = precedence_slots
        self.precedence_weights[:] = precedence_weights

    def journal(self) -> LinkJournal:
        """An empty one for a pass that starts here."""
        return LinkJournal(
            precedence=(self.precedence_slots.copy(), self.precedence_weights.copy())
        )

    def record_write(
        self,
        popped: np.ndarray,
        popped_weights: np.ndarray,
        read_slots: np.ndarray,
        write_weights: np.ndarray,
        journal: LinkJournal,
    ) -> None:
        """Take down one step's write, w^W_t: N_t, P_t and p_t from those of the step before.

        popped, popped_weights: [B, H], the slots erased and what was then written there.
        read_slots, write_weights: [B, H, K], the slots read before, -1 for none, and what was
        added there. Weights are at least 0; summed over the heads they are clipped to [0, 1] per
        slot, and scaled down where they sum to more than 1: the equations are those of one head,
        whose weights cannot, and links that multiply weights would let reads grow without bound.
        """
        link_size, num_heads = self.precedence_slots.shape[1], popped.shape[1]
        most_written = num_heads + read_slots[0].size
        most = link_size * (2 * (num_heads + most_written) + link_size)
        numbers = np.full(most * len(popped), NONE, np.int64)
        olds = np.empty(len(numbers), self.precedence_weights.dtype)
        # Known to the journal before it begins, should the call be interrupted at its end.
        journal.steps.append((numbers, olds))
        count = link_kernels.record_write(
            self._records,
            self._weights,
            self.precedence_slots,
            self.precedence_weights,
            popped,
            popped_weights,
            read_slots,
            write_weights,
            self.strict,
            numbers,
            olds,
        )
        journal.steps[-1] = numbers[:count].copy(), olds[:count].copy()

    def follow(
        self, read_slots: np.ndarray, read_weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Where the links lead from w^R_{t-1}: b_t = P_t w^R_{t-1} and f_t = N_t w^R_{t-1}.

        read_slots, read_weights: [B, H, K], -1 for none. Returns the slots reached, int64
        [B, H, 2 K K_L], with a -1 after the last (beyond it, anything), and their b_t and f_t,
        [B, H, 2 K K_L, 2].
        """
        link_size = self.precedence_slots.shape[1]
        reached = (*read_slots.shape[:2], 2 * read_slots.shape[2] * link_size)
        slots = np.empty(reached, np.int64)
        weights = np.empty((*reached, 2), self.precedence_weights.dtype)
        link_kernels.follow(self._records, self._weights, read_slots, read_weights, slots, weights)
        return slots, weights

    def carry(self, journal: LinkJournal, *, forward: bool) -> None:
        """Carry the links across a pass, forward or backward in time, bit for bit."""
        for numbers, olds in journal.steps if forward else reversed(journal.steps):
            link_kernels.swap(self._records, self._weights, numbers, olds, forward)
        other_side = journal.precedence
        journal.precedence = (self.precedence_slots, self.precedence_weights)
        self.precedence_slots, self.precedence_weights = other_side


def _weights_in(records: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The records [B, N, G, K_L] seen as rows of weights: a view."""
    *memories, _, link_size = records.shape
    return records.reshape(-1).view(dtype).reshape(*memories, -1, link_size)
