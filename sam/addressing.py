"""The NTM's addressing (Graves et al. 2014, section 3.3.2), with its gradient written out.

Plain autograd would keep about ten buffers [B, H, N] for it; here the backward pass computes the
intermediate weightings again from the similarities, which costs less than storing them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from sam.dense import BLOCK, dot, softmax_backward

# Floor of the shifted weights, whose logarithm is taken; below it they have no gradient.
FLOOR = 1e-12


class Focus(NamedTuple):
    """What a head says about where it wants to be, once its key has been compared."""

    strengths: Tensor  # [B, H, 1], beta > 0: how sharp the content weighting is
    gates: Tensor  # [B, H, 1], g in [0, 1]: 1 for content, 0 for the previous weights
    shifts: Tensor  # [B, H, 3], s(-1), s(0), s(+1), in [0, 1], sum 1
    sharpness: Tensor  # [B, H, 1], gamma >= 1


class _Stages(NamedTuple):
    content: Tensor  # [R, N], w^c, of R heads of the batch
    ring: Tensor  # [R, N + 2], w^g with its last weight in front of it and its first behind
    shifted: Tensor  # [R, N], w~, at least FLOOR
    logs: Tensor  # [R, N], log w~


def locate(similarities: Tensor, previous: Tensor, focus: Focus) -> Tensor:
    """Where the heads go: weights [B, H, N], from their keys' similarities and where they were.

    Graves et al. 2014, eq. 9: w(i) = w~(i)^gamma / sum_j w~(j)^gamma, which is the softmax of
    gamma log w~: unlike the power it neither underflows to 0 / 0 nor gives 0 log 0 as a gradient.
    """
    weights = torch.empty_like(similarities)
    rows = weights.flatten(0, 1)
    for block, similarity, before, part in _blocks(similarities, previous, focus):
        logs = _stages(similarity, before, part).logs
        torch.softmax(logs.mul_(part.sharpness), -1, out=rows[block])
    return weights


def locate_backward(
    to_weights: Tensor, weights: Tensor, similarities: Tensor, previous: Tensor, focus: Focus
) -> tuple[Tensor, Tensor, Focus]:
    """The gradients of `similarities`, `previous` and `focus`, from that of `weights`."""
    to_similarities, to_previous = torch.empty_like(similarities), torch.empty_like(previous)
    to_focus = []
    gradients, rows = to_weights.flatten(0, 1), weights.flatten(0, 1)
    for block, similarity, before, part in _blocks(similarities, previous, focus):
        to_logits, to_before, to_part = _backward(
            gradients[block], rows[block], similarity, before, part
        )
        to_similarities.flatten(0, 1)[block] = to_logits
        to_previous.flatten(0, 1)[block] = to_before
        to_focus.append(to_part)
    joined = (torch.cat(parts) for parts in zip(*to_focus, strict=True))
    shaped = Focus(*(part.view_as(like) for part, like in zip(joined, focus, strict=True)))
    return to_similarities, to_previous, shaped


def _blocks(
    similarities: Tensor, previous: Tensor, focus: Focus
) -> Iterator[tuple[slice, Tensor, Tensor, Focus]]:
    """Some heads of the batch at a time: which rows, similarities, previous weights, focus."""
    rows, before = similarities.flatten(0, 1), previous.flatten(0, 1)
    parts = [part.flatten(0, 1) for part in focus]
    size = max(1, BLOCK // rows.shape[1])
    for start in range(0, len(rows), size):
        block = slice(start, start + size)
        yield block, rows[block], before[block], Focus(*(part[block] for part in parts))


def _stages(similarities: Tensor, previous: Tensor, focus: Focus) -> _Stages:
    # Eq. 5: w^c = softmax(beta K[k, M(i)])
    content = torch.softmax(focus.strengths * similarities, -1)
    # Eq. 7: w^g = g w^c + (1 - g) w(t-1)
    ring = _as_ring(torch.lerp(previous, content, focus.gates))
    # Eq. 8: w~(i) = sum_j w^g(j) s(i - j)
    shifted = _convolve(ring, focus.shifts).clamp_min_(FLOOR)
    return _Stages(content, ring, shifted, shifted.log())


def _backward(
    to_weights: Tensor, weights: Tensor, similarities: Tensor, previous: Tensor, focus: Focus
) -> tuple[Tensor, Tensor, Focus]:
    content, ring, shifted, logs = _stages(similarities, previous, focus)
    to_powers = softmax_backward(to_weights, weights)
    to_sharpness = dot(to_powers, logs)
    to_shifted = to_powers.mul_(focus.sharpness).div_(shifted).mul_(shifted > FLOOR)

    to_shifts = torch.cat([dot(to_shifted, side) for side in _sides(ring)], -1)
    # The transposed convolution goes round the ring the other way.
    to_blend = _convolve(_as_ring(to_shifted), focus.shifts.flip(-1))

    to_gates = dot(to_blend, content) - dot(to_blend, previous)
    to_logits = softmax_backward(to_blend * focus.gates, content)
    to_strengths = dot(to_logits, similarities)
    to_previous = to_blend.mul_(1 - focus.gates)
    gradients = Focus(to_strengths, to_gates, to_shifts, to_sharpness)
    return to_logits.mul_(focus.strengths), to_previous, gradients


def _as_ring(weights: Tensor) -> Tensor:
    """[R, N] -> [R, N + 2]: slot 0 follows slot N - 1."""
    return torch.cat([weights[:, -1:], weights, weights[:, :1]], -1)


def _sides(ring: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What a shift by -1, 0, +1 brings to each slot: its neighbour i + 1, itself, and i - 1."""
    return ring[:, 2:], ring[:, 1:-1], ring[:, :-2]


def _convolve(ring: Tensor, shifts: Tensor) -> Tensor:
    backward, stay, forward = shifts.split(1, -1)
    after, here, before = _sides(ring)
    return (after * backward).addcmul_(here, stay).addcmul_(before, forward)
