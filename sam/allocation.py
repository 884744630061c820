"""Which slots are in use, and which are free for writing (Graves et al. 2016, "Dynamic memory
allocation")."""

from __future__ import annotations

from functools import reduce
from typing import Any

import torch
from torch import Tensor

from sam.autograd import once_differentiable


def next_usage(
    usage: Tensor, write_weights: Tensor, read_weights: Tensor, free_gates: Tensor
) -> Tensor:
    """u(t), [B, N] in [0, 1]: slots written to are in use until a head that read them frees them.

    usage: [B, N], u(t-1). write_weights: [B, N], w^w(t-1). read_weights: [B, R, N], w^r(t-1).
    free_gates: [B, R, 1], f(t). All in [0, 1].
    """
    # psi = prod_i (1 - f^i w^{r,i}); weights that are 1 but for rounding must not make it negative
    kept = (1 - free_gates * read_weights).clamp_min(0)
    retention = reduce(torch.mul, kept.unbind(1))
    # u(t) = (u + w - u w) psi
    return torch.lerp(usage, torch.ones_like(usage), write_weights) * retention


class Allocate(torch.autograd.Function):
    """The allocation weights a [B, N] of usages u [B, N] in [0, 1]: the free slots, freest first.

    a in [0, 1], its sum at most 1; among equal usages the lower slot comes first. The order of the
    slots is a constant to autograd. The gradient is exact for unused slots too, where that of
    `torch.cumprod` divides by a usage of 0.
    """

    @staticmethod
    def forward(ctx: Any, usage: Tensor) -> Tensor:
        ordered, order = usage.sort(dim=-1, stable=True)
        ctx.save_for_backward(ordered, order)
        # a[phi_j] = (1 - u[phi_j]) prod_{i<j} u[phi_i]
        weights = (1 - ordered) * _product_before(ordered)
        return torch.empty_like(usage).scatter_(-1, order, weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_allocation: Tensor) -> Tensor:
        ordered, order = ctx.saved_tensors
        gradient = to_allocation.gather(-1, order)
        # A later slot's weight holds u_k as a factor. What is left without it, of the product of
        # all usages before, is its product without the least one times u_0 / u_k: at most 1, and 0
        # where both are 0.
        least, others = ordered[:, :1], ordered[:, 1:]
        first = torch.ones_like(least)
        product = _product_before(others)
        later = gradient[:, 1:] * (1 - others) * product
        from_later = later.flip(-1).cumsum(-1).flip(-1)
        share = torch.where(others > 0, least / others, 0)
        to_ordered = torch.cat([from_later, torch.zeros_like(least)], -1)
        to_ordered *= torch.cat([first, share], -1)
        to_ordered -= gradient * torch.cat([first, least * product], -1)
        return torch.empty_like(to_ordered).scatter_(-1, order, to_ordered)


def _product_before(factors: Tensor) -> Tensor:
    """[B, X] -> [B, X]: the product of all factors before each, 1 for the first."""
    return torch.cat([torch.ones_like(factors[:, :1]), factors[:, :-1]], -1).cumprod(-1)
