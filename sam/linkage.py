"""What was written after what (Graves et al. 2016, "Temporal memory linkage")."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from sam.autograd import once_differentiable
from sam.dense import BLOCK, dot


class Link(torch.autograd.Function):
    """`links, precedence, forward, backward`: what a write adds to the links; where they lead.

    links: [B, N, N] in [0, 1], L(t): how much slot i was written right after slot j. Its diagonal
        is 0, its rows and columns sum to at most 1.
    precedence: [B, N] in [0, 1], p(t): how much each slot was the last one written; sum at most 1.
    write_weights: [B, N], w^w(t); read_weights: [B, R, N], w^r(t-1): both in [0, 1], sum at most 1.
    forward, backward: [B, R, N], where the links lead from what was read last, with and against
        the order of writing.

    The links are what a step of the DNC costs, and most of that is fresh memory. A step takes one
    buffer [B, N, N] forward, which backward keeps, and one for the gradient of the links before;
    all else is done on some rows at a time, which stay in the cache.
    """

    @staticmethod
    def forward(
        ctx: Any, links: Tensor, precedence: Tensor, write_weights: Tensor, read_weights: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        linked = torch.empty_like(links, memory_format=torch.contiguous_format)
        forward, backward = torch.empty_like(read_weights), torch.zeros_like(read_weights)
        for batch, rows in _blocks(links):
            # L(t)[i, j] = (1 - w[i] - w[j]) L(t-1)[i, j] + w[i] p(t-1)[j];  L(t)[i, i] = 0
            kept = _kept(write_weights[batch], rows)
            block = torch.mul(links[batch, rows], kept, out=linked[batch, rows])
            block.addcmul_(write_weights[batch, rows, None], precedence[batch, None])
            _clear_diagonal(block, rows)
            # f = L(t) w^r(t-1);  b = L(t)^T w^r(t-1)
            forward[batch, :, rows] = torch.bmm(read_weights[batch], block.mT)
            backward[batch].baddbmm_(read_weights[batch, :, rows], block)
        # p(t) = (1 - sum_i w[i]) p(t-1) + w
        last = torch.addcmul(write_weights, 1 - write_weights.sum(1, keepdim=True), precedence)
        ctx.save_for_backward(links, linked, precedence, write_weights, read_weights)
        ctx.set_materialize_grads(False)  # the links after the last step have no gradient
        return linked, last, forward, backward

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_linked: Tensor | None, *rest: Tensor | None) -> tuple[Any, ...]:
        links, linked, precedence, write_weights, read_weights = ctx.saved_tensors
        to_last, to_forward, to_backward = (
            torch.zeros_like(like) if gradient is None else gradient
            for gradient, like in zip(rest, (precedence, read_weights, read_weights), strict=True)
        )
        to_precedence = to_last * (1 - write_weights.sum(1, keepdim=True))
        to_write = to_last - dot(to_last, precedence)
        to_read = torch.zeros_like(read_weights)
        to_links = torch.empty_like(linked) if ctx.needs_input_grad[0] else None
        # The gradient of L(t) by way of f and b, in factors.
        left, right = (
            torch.cat([to_forward, read_weights], 1),
            torch.cat([read_weights, to_backward], 1),
        )
        for batch, rows in _blocks(links):
            factors = left[batch, :, rows].mT, right[batch]
            if to_linked is None:
                gradient = torch.bmm(*factors)
            else:
                gradient = torch.baddbmm(to_linked[batch, rows], *factors)
            _clear_diagonal(gradient, rows)
            to_read[batch].baddbmm_(to_forward[batch, :, rows], linked[batch, rows])
            to_read[batch, :, rows] += torch.bmm(to_backward[batch], linked[batch, rows].mT)

            to_precedence[batch, None].baddbmm_(write_weights[batch, None, rows], gradient)
            to_write[batch, rows, None] += torch.bmm(gradient, precedence[batch, :, None])
            to_kept = gradient * links[batch, rows]
            to_write[batch, rows] -= to_kept.sum(2)
            to_write[batch] -= to_kept.sum(1)
            if to_links is not None:
                kept = _kept(write_weights[batch], rows)
                torch.mul(gradient, kept, out=to_links[batch, rows])
        return to_links, to_precedence, to_write, to_read


def _blocks(links: Tensor) -> Iterator[tuple[slice, slice]]:
    """Slices of the batch and of the rows: whole small matrices, or pieces of a large one."""
    batch_size, memory_size, _ = links.shape
    rows = max(1, min(memory_size, BLOCK // memory_size))
    matrices = max(1, BLOCK // memory_size**2)
    for batch in range(0, batch_size, matrices):
        for row in range(0, memory_size, rows):
            yield slice(batch, batch + matrices), slice(row, row + rows)


def _kept(write_weights: Tensor, rows: slice) -> Tensor:
    """1 - w[i] - w[j] of these rows i and all columns j."""
    return (1 - write_weights[:, rows, None]) - write_weights[:, None]


def _clear_diagonal(block: Tensor, rows: slice) -> None:
    """Zeros what these rows [B, I, N] hold of the diagonal."""
    block.diagonal(rows.start, 1, 2).zero_()
