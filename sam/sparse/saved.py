"""What a store holds as plain tensors, for files, and back.

A file may hold anything, and kernels follow slots without asking: so all that is loaded is checked.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

import ann_backends
from sam.sparse import ring
from sam.sparse.links import Links
from sam.sparse.store import Store, Version
from sam.state import saved_tensor


def to_dict(store: Store) -> dict[str, Any]:
    """Copies, as tensors, numbers, strings and dicts of them.

    memory: [B, N, W]. written: bool [B, N]. usage_order: int32 [B, N], all slots, the least
    recently accessed first. links: empty, or `sources` and `weights` [B, N, K_L],
    `precedence_slots` and `precedence_weights` [B, K_L], as in `Links`. index: of its backend.
    """
    arrays: dict[str, Any] = {
        "memory": store.memory,
        "written": store.written,
        "usage_order": ring.order(store.ring, store.heads),
        "links": {} if store.links is None else store.links.parts(),
        "index": store.index.state_dict(),
    }
    copied: dict[str, Any] = _mapped(arrays, lambda array: torch.from_numpy(array.copy()))
    return copied


def from_dict(saved: dict[str, Any], like: Store) -> Version:
    """The first version of a store that holds `saved`; takes over `like`, an empty one.

    Raises ValueError, which names the part, where one is missing or not sound.
    """
    memory = _array("memory", saved, like.memory)
    if not np.isfinite(memory).all():
        raise ValueError("memory: got NaN or infinite values, expected finite ones")
    written = _array("written", saved, like.written)
    order = _array("usage_order", saved, np.empty(like.written.shape, np.int32))
    if not (np.sort(order) == np.arange(order.shape[1])).all():
        raise ValueError("usage_order: got a slot twice or none, expected each slot once")
    ann_backends.copy_changed(memory, like.memory)
    ann_backends.copy_changed(written, like.written)
    like.num_written[:] = np.count_nonzero(written, axis=1)
    ann_backends.copy_changed(ring.of_order(order), like.ring)
    like.heads[:] = order[:, 0]
    if like.links is not None:
        _load_links(saved.get("links"), like.links)
    index = saved.get("index")
    if not isinstance(index, dict):
        raise ValueError(f"index: got {type(index).__name__}, expected a dict")
    like.index.load_state_dict(index)
    return like.first_version()


def _load_links(saved: object, links: Links) -> None:
    if not isinstance(saved, dict):
        raise ValueError(f"links: got {type(saved).__name__}, expected a dict")
    parts = {name: _array(name, saved, like) for name, like in links.parts().items()}
    problem = links.problem(**parts)
    if problem:
        raise ValueError(f"links: got {problem}, expected those of a state")
    links.load(**parts)


def _array(name: str, saved: dict[str, Any], like: np.ndarray) -> np.ndarray:
    tensor: Tensor = saved_tensor(
        name, saved.get(name), torch.from_numpy(np.ascontiguousarray(like))
    )
    return tensor.detach().contiguous().numpy()


def _mapped(part: Any, change: Any) -> Any:
    """The same dicts, with every array in them changed."""
    if isinstance(part, dict):
        return {name: _mapped(each, change) for name, each in part.items()}
    return change(part) if isinstance(part, np.ndarray) else part
