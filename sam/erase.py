"""Erasing and adding by several heads at once (Graves et al. 2014, eq. 3 and 4), and its gradient."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

# The factor that is left after the erases of a group of heads, prod_h (1 - w_h(i) e_h), is a sum
# over subsets of the group: one matrix product of inner size 2^heads, where head by head it would
# take a buffer [B, N, W] each. Groups of more than four heads would cost more than they save.
GROUP = 4

# Temporary buffers of the memory's shape are made for so many numbers at a time: they stay in the
# cache, where a fresh buffer for all would cost more in page faults than the arithmetic.
BLOCK = 1 << 18


def erase_and_add(memory: Tensor, weights: Tensor, erase: Tensor, add: Tensor) -> Tensor:
    """M'(i) = M(i) prod_h (1 - w_h(i) e_h) + sum_h w_h(i) a_h, all erases before all adds.

    memory: [B, N, W]. weights: [B, H, N] in [0, 1]. erase: [B, H, W] in [0, 1]. add: [B, H, W].
    """
    result = torch.empty_like(memory, memory_format=torch.contiguous_format)
    for batch, slots in _blocks(memory):
        words, block_weights = memory[batch, slots], weights[batch, :, slots]
        first, *others = _groups(block_weights, erase[batch])
        kept = _kept(*first, out=result[batch, slots])
        for group in others:
            kept.mul_(_kept(*group))
        kept.mul_(words).baddbmm_(block_weights.mT, add[batch])
    return result


def erase_backward(
    gradient: Tensor, memory: Tensor, weights: Tensor, erase: Tensor, to_memory: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The gradients [B, H, N] of `weights` and [B, H, W] of `erase`, from that of the new memory.

    The old memory's is written to `to_memory`, where there is one. The add is not counted in.
    """
    to_weights, to_erase = torch.empty_like(weights), torch.zeros_like(erase)
    for batch, slots in _blocks(memory):
        to_new = gradient[batch, slots]
        groups = list(_groups(weights[batch, :, slots], erase[batch]))
        kept = [_kept(*group) for group in groups]
        for index, group in enumerate(groups):
            # Of this group's product: what comes back times all that it was multiplied with.
            to_kept = to_new * memory[batch, slots]
            for factor in kept[:index] + kept[index + 1 :]:
                to_kept.mul_(factor)
            heads = slice(index * GROUP, (index + 1) * GROUP)
            from_weights, from_erase = _kept_backward(to_kept, *group)
            to_weights[batch, heads, slots] = from_weights
            to_erase[batch, heads] += from_erase
        if to_memory is not None:
            block = torch.mul(to_new, kept[0], out=to_memory[batch, slots])
            for factor in kept[1:]:
                block.mul_(factor)
    return to_weights, to_erase


def _blocks(memory: Tensor) -> Iterator[tuple[slice, slice]]:
    """Slices of the batch and of the slots: whole small memories, or pieces of a large one."""
    batch_size, memory_size, word_size = memory.shape
    slots = max(1, min(memory_size, BLOCK // word_size))
    memories = max(1, BLOCK // (memory_size * word_size))
    for batch in range(0, batch_size, memories):
        for slot in range(0, memory_size, slots):
            yield slice(batch, batch + memories), slice(slot, slot + slots)


def _groups(weights: Tensor, erase: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(weights.split(GROUP, 1), erase.split(GROUP, 1), strict=True)


def _kept(weights: Tensor, erase: Tensor, out: Tensor | None = None) -> Tensor:
    """prod_h (1 - w_h(i) e_h), [B, N, W], of one group of heads."""
    left, right = _subset_products(weights), _subset_products(-erase)
    return torch.bmm(left.mT, right, out=out)


def _kept_backward(gradient: Tensor, weights: Tensor, erase: Tensor) -> tuple[Tensor, Tensor]:
    left, right = _subset_products(weights), _subset_products(-erase)
    to_left = torch.bmm(right, gradient.mT)
    to_right = torch.bmm(left, gradient)
    to_weights = _subset_products_backward(to_left, left, weights)
    return to_weights, -_subset_products_backward(to_right, right, -erase)


def _subset_products(factors: Tensor) -> Tensor:
    """[B, H, X] -> [B, 2^H, X]: the product of every subset of the heads, the empty one first."""
    products = torch.ones_like(factors[:, :1])
    for factor in factors.split(1, 1):
        products = torch.cat([products, products * factor], 1)
    return products


def _subset_products_backward(gradient: Tensor, products: Tensor, factors: Tensor) -> Tensor:
    """Undoes the doublings of `_subset_products`, last head first."""
    to_factors = torch.empty_like(factors)
    for head in reversed(range(factors.shape[1])):
        size = 1 << head
        without, with_head = gradient[:, :size], gradient[:, size : 2 * size]
        to_factors[:, head] = (with_head * products[:, :size]).sum(1)
        gradient = without + with_head * factors[:, head : head + 1]
    return to_factors
