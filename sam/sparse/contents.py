"""Autograd's way into and out of a store: memories given, looked at, and gathered.

A state's token stands for its memory in autograd's graph. Each of these takes or returns a token,
and hands dL/dM on from version to version as `Unroll` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sam.autograd import once_differentiable_in_numpy
from sam.sparse.gradient import SparseGradient
from sam.sparse.store import Version


class Load(torch.autograd.Function):
    """The token of a state whose memory was given; takes the memory's gradient back to the giver.

    words: [N, W] or [B, N, W], the memory as given. version: that of the store which holds it.
    """

    @staticmethod
    def forward(ctx: Any, words: Tensor, version: Version) -> Tensor:
        ctx.version, ctx.shared = version, words.dim() == 2
        return words.new_zeros(1)

    @staticmethod
    @once_differentiable_in_numpy
    def backward(ctx: Any, to_token: Tensor) -> tuple[Tensor, None]:
        store = ctx.version.store
        with store.held():
            gradient = store.begin_backward(ctx.version)
        return torch.from_numpy(gradient.dense(shared=ctx.shared)), None


class Look(torch.autograd.Function):
    """A copy of the memory [B, N, W] at a version, whose gradient joins what later passes gave."""

    @staticmethod
    def forward(ctx: Any, token: Tensor, version: Version) -> Tensor:
        ctx.version = version
        with version.store.standing_at(version) as store:
            return torch.from_numpy(store.memory.copy())

    @staticmethod
    @once_differentiable_in_numpy
    def backward(ctx: Any, to_memory: Tensor) -> tuple[Tensor, None]:
        store = ctx.version.store
        with store.held():
            store.add_gradient(ctx.version, SparseGradient.of(to_memory.numpy()))
        return to_memory.new_zeros(1), None


class Gather(torch.autograd.Function):
    """The token of a state whose memories are copies of other states', from the tokens of those.

    version: the new one. versions, sources: as `store.gather` takes them.
    """

    @staticmethod
    def forward(
        ctx: Any,
        version: Version,
        versions: Sequence[Version],
        sources: Sequence[tuple[int, int] | None],
        *tokens: Tensor,
    ) -> Tensor:
        ctx.version, ctx.versions, ctx.sources = version, versions, sources
        return torch.zeros_like(tokens[0])

    @staticmethod
    @once_differentiable_in_numpy
    def backward(ctx: Any, to_token: Tensor) -> tuple[Tensor | None, ...]:
        store = ctx.version.store
        with store.held():
            gradient = store.begin_backward(ctx.version)
        for number, (version, needed) in enumerate(
            zip(ctx.versions, ctx.needs_input_grad[3:], strict=True)
        ):
            if not needed:
                continue
            # Of each new memory, which of this version's it is a copy of, or -1.
            elements = [s[1] if s is not None and s[0] == number else -1 for s in ctx.sources]
            with version.store.held():
                part = gradient.of_elements(elements, version.store.memory.shape)
                version.store.add_gradient(version, part)
        return None, None, None, *(torch.zeros_like(to_token) for _ in ctx.versions)
