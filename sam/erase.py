"""Several heads erase and add at once (Graves et al. 2014, eq. 3 and 4); and the gradient."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from sam.dense import BLOCK

# The factor that is left after the erases of a group of heads, prod_h (1 - w_h(i) e_h), is a sum
# over subsets of the group: one matrix product of inner size 2^heads, where head by head it would
# take a buffer [B, N, W] each. Groups of more than four heads would cost more than they save.
GROUP = 4


def erase_and_add(memory: Tensor, weights: Tensor, erase: Tensor, add: Tensor) -> Tensor:
    """M'(i) = M(i) prod_h (1 - w_h(i) e_h) + sum_h w_h(i) a_h, all erases before all adds.

    memory: [B, N, W]. weights: [B, H, N] in [0, 1]. erase: [B, H, W] in [0, 1]. add: [B, H, W].
    """
    result = torch.empty_like(memory, memory_format=torch.contiguous_format)
    for batch, slots in _blocks(memory):
        block_weights = weights[batch, :, slots]
        first, *others = _groups(block_weights, erase[batch])
        kept = first.kept(out=result[batch, slots])
        for group in others:
            kept.mul_(group.kept())
        kept.mul_(memory[batch, slots]).baddbmm_(block_weights.mT, add[batch])
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
        groups = _groups(weights[batch, :, slots], erase[batch])
        for index, group in enumerate(groups):
            # Of this group's product: what comes back times all that it was multiplied with.
            to_kept = to_new * memory[batch, slots]
            for other in groups[:index] + groups[index + 1 :]:
                to_kept.mul_(other.kept())
            heads = slice(index * GROUP, (index + 1) * GROUP)
            from_weights, from_erase = group.backward(to_kept)
            to_weights[batch, heads, slots] = from_weights
            to_erase[batch, heads] += from_erase
        if to_memory is not None:
            block = groups[0].kept(out=to_memory[batch, slots]).mul_(to_new)
            for group in groups[1:]:
                block.mul_(group.kept())
    return to_weights, to_erase


def _blocks(memory: Tensor) -> Iterator[tuple[slice, slice]]:
    """Slices of the batch and of the slots: whole small memories, or pieces of a large one."""
    batch_size, memory_size, word_size = memory.shape
    slots = max(1, min(memory_size, BLOCK // word_size))
    memories = max(1, BLOCK // (memory_size * word_size))
    for batch in range(0, batch_size, memories):
        for slot in range(0, memory_size, slots):
            yield slice(batch, batch + memories), slice(slot, slot + slots)


class _Group:
    """prod_h (1 - w_h(i) e_h) of at most GROUP heads, as a sum over the subsets of the heads.

    weights: [B, G, N]. erase: [B, G, W].
    """

    def __init__(self, weights: Tensor, erase: Tensor) -> None:
        self.sizes = [weights.shape[-1], erase.shape[-1]]
        self.factors = torch.cat([weights, -erase], -1)  # [B, G, N + W]
        self.products = _subset_products(self.factors)  # [B, 2^G, N + W]

    def kept(self, out: Tensor | None = None) -> Tensor:
        """The product itself, [B, N, W]."""
        left, right = self.products.split(self.sizes, -1)
        return torch.bmm(left.mT, right, out=out)

    def backward(self, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients of weights and erase from that of the product."""
        left, right = self.products.split(self.sizes, -1)
        to_products = [torch.bmm(right, gradient.mT), torch.bmm(left, gradient)]
        to_factors = _subset_products_backward(
            torch.cat(to_products, -1), self.products, self.factors
        )
        to_weights, to_negative_erase = to_factors.split(self.sizes, -1)
        return to_weights, -to_negative_erase


def _groups(weights: Tensor, erase: Tensor) -> list[_Group]:
    parts = zip(weights.split(GROUP, 1), erase.split(GROUP, 1), strict=True)
    return [_Group(*part) for part in parts]


def _subset_products(factors: Tensor) -> Tensor:
    """[B, G, X] -> [B, 2^G, X]: the product of every subset of the heads, the empty one first."""
    products = torch.ones_like(factors[:, :1])
    for factor in factors.split(1, 1):
        products = torch.cat([products, products * factor], 1)
    return products


def _subset_products_backward(gradient: Tensor, products: Tensor, factors: Tensor) -> Tensor:
    """The gradient of the factors: undoes the doublings of `_subset_products`, last head first."""
    to_factors = []
    for factor in reversed(factors.split(1, 1)):
        without, with_head = gradient.chunk(2, 1)
        products = products[:, : without.shape[1]]
        to_factors.append((with_head * products).sum(1, keepdim=True))
        gradient = torch.addcmul(without, with_head, factor)
    return torch.cat(to_factors[::-1], 1)
