"""The sparse DNC (Rae et al. 2016, supplement D): SAM that knows what was written after what."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sam import checks
from sam.sam import SAM, SAMState
from sam.sparse.links import Links
from sam.sparse.modes import MODES


@dataclasses.dataclass(frozen=True, eq=False)
class SDNCState(SAMState):
    """The state of an SDNC between two steps: a `SAMState` with the temporal links."""

    @property
    def links(self) -> Tensor:
        """N_t, sparse [B, N, N]: (b, i, j) is in [0, 1], how much i was written right after j.

        A copy, made in time proportional to N. Its transpose is P_t. No gradient goes through it.
        """
        with self._links() as links:
            b, i, k = np.nonzero(links.sources)
            indices = (b, i, links.sources[b, i, k] - 1)
            return _sparse(indices, links.weights[b, i, k], links.shape + links.shape[1:])

    @property
    def precedence(self) -> Tensor:
        """p_t, sparse [B, N]: (b, i) is in [0, 1], how much i is what was written last.

        A copy. No gradient goes through it.
        """
        with self._links() as links:
            b, k = np.nonzero(links.precedence_slots)
            indices = (b, links.precedence_slots[b, k] - 1)
            return _sparse(indices, links.precedence_weights[b, k], links.shape)

    @contextlib.contextmanager
    def _links(self) -> Iterator[Links]:
        with self.version.store.standing_at(self.version) as store:
            if store.links is None:
                raise AttributeError(
                    "links: got link_size=0, expected at least 1 for a model with links"
                )
            yield store.links


class SDNC(SAM):
    """A `SAM` that also reads what was written after, and before, the words it read last.

    link_size: K_L, to how many slots a slot may be linked in either direction; what is weakest is
    cut. 0 keeps no links: the forward and backward modes then read nothing. strict_paper_links:
    whether links of a slot to itself and those of a slot that is erased stay, as printed. The
    other settings are those of `SAM`.

    Each head mixes three weightings, by a softmax: backward and forward along the links from what
    it read before, and by content. Of the mixture the K largest weights are kept, as they are. No
    gradient goes through the links. With several heads, the links follow the sum of their write
    weights, clipped to [0, 1] per slot and scaled down where it sums to more than 1.
    """

    num_modes = MODES
    state_type = SDNCState

    def __init__(
        self,
        input_size: int,
        output_size: int,
        *,
        link_size: int = 8,
        strict_paper_links: bool = False,
        **settings: Any,
    ) -> None:
        link_size = checks.size("link_size", link_size, least=0)
        checks.flags(strict_paper_links=strict_paper_links)
        super().__init__(input_size, output_size, **settings)
        self.link_size = link_size
        self.strict_paper_links = strict_paper_links

    @property
    def signature(self) -> tuple[tuple[str, Any], ...]:
        return (
            *super().signature,
            ("link_size", self.link_size),
            ("strict_paper_links", self.strict_paper_links),
        )

    def _sizes(self) -> dict[str, int]:
        return {**super()._sizes(), "link_size": self.link_size}

    def _bytes_of_slot(self, number: int) -> int:
        return super()._bytes_of_slot(number) + self.link_size * (2 * 4 + number)

    def _make_links(self, batch_size: int, dtype: np.dtype) -> Links | None:
        if self.link_size == 0:
            return None
        if batch_size * self.memory_size**2 >= 2**63:
            raise ValueError(
                f"memory_size: got {self.memory_size} at batch size {batch_size}, expected a "
                "smaller one: a link's number, of B N^2, has 63 bits"
            )
        shape = (batch_size, self.memory_size)
        return Links(shape, self.link_size, dtype, strict=self.strict_paper_links)


def _sparse(indices: tuple[np.ndarray, ...], values: np.ndarray, shape: tuple[int, ...]) -> Tensor:
    places = torch.from_numpy(np.stack(indices))
    return torch.sparse_coo_tensor(places, torch.from_numpy(values), shape, check_invariants=True)
