"""What a state's tensors must be before kernels, which ask nothing, follow them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sam import checks
from sam.sparse.journal import NONE


def check_parts(state: Any, reads: tuple[int, int, int], memory_size: int, like: Tensor) -> None:
    """Raises ValueError or TypeError for a state that was put together by hand, or changed.

    Args:
        state: of this model by its signature, with a batch size that fits.
        reads: B, H, K.
        memory_size: N.
        like: a tensor of the model's dtype and device.
    """
    *heads, _ = reads
    hidden_size, word_size = (dict(state.signature)[name] for name in ("hidden_size", "word_size"))
    for name, shape in (
        ("hidden", (reads[0], hidden_size)),
        ("cell", (reads[0], hidden_size)),
        ("read_words", (*heads, word_size)),
        ("read_weights", reads),
    ):
        checks.form(f"state.{name}", getattr(state, name), shape, like)
    checks.form("state.read_slots", state.read_slots, reads, like, torch.int64)
    least, most = (int(slot) for slot in torch.aminmax(state.read_slots))
    if least < NONE or most >= memory_size:
        raise ValueError(
            f"state.read_slots: got {least if least < NONE else most}, expected slots from 0 to "
            f"{memory_size - 1}, or {NONE} for none"
        )
    memory, expected = state.version.store.memory.shape, (reads[0], memory_size, word_size)
    if memory != expected:
        raise ValueError(
            f"state.version: got that of a memory {list(memory)}, expected {list(expected)}"
        )
