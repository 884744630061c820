"""A backend as a third party writes one: brute force in plain NumPy, public names only."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np

from ann_backends import Index, Settings, similarity


@dataclasses.dataclass(frozen=True)
class Toy(Settings):
    name: ClassVar[str] = "toy"

    def build(self, memory: Any, **arguments: Any) -> ToyIndex:
        return ToyIndex(self, memory, **arguments)


class ToyIndex(Index):
    def _clear(self) -> None:
        self._known = self._zeros((self.batch_size, self.memory_size), np.bool_)

    def _update(self, slots: np.ndarray) -> None:
        self._mark(slots, True)

    def _remove(self, slots: np.ndarray) -> None:
        self._mark(slots, False)

    def _mark(self, slots: np.ndarray, known: bool) -> None:
        for own, chosen in zip(self._known, slots, strict=True):
            own[chosen[chosen >= 0]] = known

    def _search(self, queries: np.ndarray, slots: np.ndarray, values: np.ndarray) -> None:
        slots[:], values[:] = -1, -np.inf
        for b, own in enumerate(self._known):
            rows = np.flatnonzero(own)
            near = similarity(queries[b], self.memory[b, rows], self.metric)
            best = np.argsort(-near, axis=1, kind="stable")[:, : slots.shape[2]]
            slots[b, :, : best.shape[1]] = rows[best]
            values[b, :, : best.shape[1]] = np.take_along_axis(near, best, 1)

    def _rebuild(self, element: int) -> None:
        """Nothing wears here."""

    def _findable(self) -> np.ndarray:
        return self._known.sum(axis=1)

    def _bytes(self) -> int:
        return self._known.nbytes
