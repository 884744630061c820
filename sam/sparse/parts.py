"""What a state's tensors must be before kernels, which ask nothing, follow them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ann_backends import kernel
from sam import checks
from sam.sparse.journal import NONE


@kernel
def _range(slots: np.ndarray) -> tuple[int, int]:
    """The least and the largest of [B, H, K]."""
    least = most = slots[0, 0, 0]
    for b in range(slots.shape[0]):
        for h in range(slots.shape[1]):
            for k in range(slots.shape[2]):
                least, most = min(least, slots[b, h, k]), max(most, slots[b, h, k])
    return least, most


def check_parts(state: Any, reads: tuple[int, int, int], memory_size: int, like: Tensor) -> None:
    """Raises ValueError or TypeError for a state that was put together by hand, or changed.

    Args:
        state: of this model by its signature, with a batch size that fits.
        reads: B, H, K.
        memory_size: N.
        like: a tensor of the model's dtype and device.
    """
    batch_size, num_heads, _ = reads
    sizes = dict(state.signature)
    hidden_size, word_size = sizes["hidden_size"], sizes["word_size"]
    for name, part, shape in (
        ("hidden", state.hidden, (batch_size, hidden_size)),
        ("cell", state.cell, (batch_size, hidden_size)),
        ("read_words", state.read_words, (batch_size, num_heads, word_size)),
        ("read_weights", state.read_weights, reads),
    ):
        if part.shape != shape or part.dtype != like.dtype:
            checks.form(f"state.{name}", part, shape, like)
    slots = state.read_slots
    if slots.shape != reads or slots.dtype != torch.int64:
        checks.form("state.read_slots", slots, reads, like, torch.int64)
    least, most = _range(slots.numpy())
    if least < NONE or most >= memory_size:
        raise ValueError(
            f"state.read_slots: got {least if least < NONE else most}, expected slots from 0 to "
            f"{memory_size - 1}, or {NONE} for none"
        )
    memory, expected = state.version.store.memory.shape, (batch_size, memory_size, word_size)
    if memory != expected:
        raise ValueError(
            f"state.version: got that of a memory {list(memory)}, expected {list(expected)}"
        )
