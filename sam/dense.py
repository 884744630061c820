"""What the dense memory models share: similarities over all N slots, and the loop over time.

A pass over the memory [B, N, W] is what a step of a dense model costs, and a fresh buffer of that
size costs several passes. So the formulas here come with their gradients written out: each consumer
of a memory hands back one gradient buffer, built by one `bmm` from small factors.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ann_backends import NORM_EPSILON
from sam import room
from sam.autograd import once_differentiable
from sam.model import MemoryModel
from sam.state import State

INITIAL_MEMORY = 1e-6  # constant at the start: Collier & Beel 2018, section 3

# How many numbers a temporary buffer may have: larger work is done piece by piece. The pieces stay
# in the cache, where a fresh buffer for all would cost more in page faults than the arithmetic.
BLOCK = 1 << 18


@dataclasses.dataclass(frozen=True, eq=False)
class DenseState(State):
    """A `State` with a memory."""

    read_words: Tensor  # [B, H, W], r(t), fed to the controller at t + 1
    memory: Tensor  # [B, N, W], M(t)
    memory_scale: Tensor  # [B, 1, N], what the similarity needs of each row; follows from memory

    def _empty(self) -> dict[str, Tensor]:
        memory = torch.full_like(self.memory[:1], INITIAL_MEMORY)
        similarity = SIMILARITIES[dict(self.signature).get("similarity", "cosine")]
        return super()._empty() | {"memory": memory, "memory_scale": similarity.scale(memory)}


class DenseModel(MemoryModel):
    """A `MemoryModel` that reads and writes all N slots at every step.

    Subclasses say how one step follows from the controller's output.
    """

    def _start(
        self, batch_size: int, memory: Tensor | None, similarity: Similarity, others: int
    ) -> dict[str, Any]:
        """The fields of a `DenseState` before the first step.

        memory: [N, W] or [B, N, W], which is copied. others: how many numbers the model's own
        fields have for each memory.
        """
        self._check_room(batch_size, others)
        if memory is None:
            memory = self._zeros(self.memory_size, self.word_size) + INITIAL_MEMORY
        else:
            memory = self._checked_memory(memory, batch_size).clone()
        scale = similarity.scale(memory).expand(batch_size, 1, -1)
        return {
            "signature": self.signature,
            "hidden": self._zeros(batch_size, self.hidden_size),
            "cell": self._zeros(batch_size, self.hidden_size),
            "read_words": self._zeros(batch_size, self.num_heads, self.word_size),
            "memory": memory.expand(batch_size, -1, -1),
            "memory_scale": scale,
        }

    def _check_room(self, batch_size: int, others: int) -> None:
        """others: as in `_start`."""
        like, reads = self._like, self.num_heads * self.word_size
        words = self.memory_size * (self.word_size + 1)
        room.check(
            "a state",
            batch_size * (2 * self.hidden_size + reads + words + others) * like.itemsize,
            like.device,
            batch_size=batch_size,
            memory_size=self.memory_size,
            word_size=self.word_size,
            num_heads=self.num_heads,
            hidden_size=self.hidden_size,
        )


class MemoryGradient(NamedTuple):
    """A gradient [B, N, W] in factors: left^T right - shrink * memory."""

    left: Tensor  # [B, H, N]
    right: Tensor  # [B, H, W]
    shrink: Tensor  # [B, N, 1]

    def dense(self, memory: Tensor) -> Tensor:
        """The gradient itself."""
        return torch.bmm(self.left.mT, self.right).addcmul_(memory, self.shrink, value=-1)

    def add_to(self, gradient: Tensor, memory: Tensor) -> None:
        """Adds it to `gradient` in place."""
        gradient.baddbmm_(self.left.mT, self.right).addcmul_(memory, self.shrink, value=-1)

    def with_read(self, weights: Tensor, words_gradient: Tensor) -> MemoryGradient:
        """Adds that of the read words r = w M: weights [B, H, N], words_gradient [B, H, W]."""
        left = torch.cat([self.left, weights], 1)
        right = torch.cat([self.right, words_gradient], 1)
        return MemoryGradient(left, right, self.shrink)


class Similarity(Protocol):
    """Compares queries [B, H, W] with every row of a memory [B, N, W]."""

    def scale(self, memory: Tensor) -> Tensor:
        """[B, 1, N] (or [1, N] of a memory [N, W]): computed once for each version of the memory.

        A constant to autograd: `backward` counts its gradient in with the memory's.
        """

    def compare(self, queries: Tensor, memory: Tensor, scale: Tensor) -> Tensor:
        """The similarities [B, H, N]."""

    def backward(
        self, gradient: Tensor, similarities: Tensor, queries: Tensor, memory: Tensor, scale: Tensor
    ) -> tuple[Tensor, MemoryGradient]:
        """The gradients of the queries and of the memory, from that of the similarities."""


class Cosine:
    """q.m / (sqrt(|q|^2 + eps) sqrt(|m|^2 + eps)), in [-1, 1]; a zero word is like no other."""

    def scale(self, memory: Tensor) -> Tensor:
        with torch.no_grad():
            norms = torch.linalg.vector_norm(memory, dim=-1)
            return norms.square_().add_(NORM_EPSILON).sqrt_().unsqueeze(-2)

    def compare(self, queries: Tensor, memory: Tensor, scale: Tensor) -> Tensor:
        units = queries / self._query_norms(queries)
        return torch.bmm(units, memory.mT).div_(scale)

    def backward(
        self, gradient: Tensor, similarities: Tensor, queries: Tensor, memory: Tensor, scale: Tensor
    ) -> tuple[Tensor, MemoryGradient]:
        norms = self._query_norms(queries)
        units = queries / norms
        left = gradient / scale
        to_units = torch.bmm(left, memory)
        along = (to_units * units).sum(-1, keepdim=True)
        shrink = (gradient * similarities).sum(1, keepdim=True).div_(scale).div_(scale)
        return (to_units - along * units) / norms, MemoryGradient(left, units, shrink.mT)

    @staticmethod
    def _query_norms(queries: Tensor) -> Tensor:
        return (queries.square().sum(-1, keepdim=True) + NORM_EPSILON).sqrt()


class SquaredDistance:
    """-|q - m|^2 = 2 q.m - |q|^2 - |m|^2, at most 0."""

    def scale(self, memory: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.linalg.vector_norm(memory, dim=-1).square_().unsqueeze(-2)

    def compare(self, queries: Tensor, memory: Tensor, scale: Tensor) -> Tensor:
        lengths = queries.square().sum(-1, keepdim=True)
        return torch.bmm(2 * queries, memory.mT).sub_(lengths).sub_(scale)

    def backward(
        self, gradient: Tensor, similarities: Tensor, queries: Tensor, memory: Tensor, scale: Tensor
    ) -> tuple[Tensor, MemoryGradient]:
        left = 2 * gradient
        to_queries = torch.bmm(left, memory) - left.sum(-1, keepdim=True) * queries
        return to_queries, MemoryGradient(left, queries, left.sum(1).unsqueeze(-1))


SIMILARITIES: dict[str, Similarity] = {"cosine": Cosine(), "l2": SquaredDistance()}


class ContentRead(torch.autograd.Function):
    """`weights, words`: heads read what is similar to their queries (Rae et al. 2016, eq. 1, 2).

    Keeps the memory, the weights and the similarities; nothing else of their size.
    """

    @staticmethod
    def forward(
        ctx: Any,
        memory: Tensor,
        scale: Tensor,
        queries: Tensor,
        strengths: Tensor,
        similarity: Similarity,
    ) -> tuple[Tensor, Tensor]:
        similarities = similarity.compare(queries, memory, scale)
        weights = torch.softmax(strengths * similarities, -1)
        ctx.similarity = similarity
        ctx.save_for_backward(memory, scale, queries, strengths, similarities, weights)
        return weights, torch.bmm(weights, memory)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, to_weights: Tensor, to_words: Tensor
    ) -> tuple[Tensor | None, None, Tensor, Tensor, None]:
        memory, scale, queries, strengths, similarities, weights = ctx.saved_tensors
        to_logits = softmax_backward(to_weights + torch.bmm(to_words, memory.mT), weights)
        to_strengths = dot(to_logits, similarities)
        to_queries, factors = ctx.similarity.backward(
            to_logits.mul_(strengths), similarities, queries, memory, scale
        )
        to_memory = None
        if ctx.needs_input_grad[0]:
            to_memory = factors.with_read(weights, to_words).dense(memory)
        return to_memory, None, to_queries, to_strengths, None


def softmax_backward(to_weights: Tensor, weights: Tensor) -> Tensor:
    """The gradient of the logits of `weights`, a softmax over the last axis."""
    return (to_weights - dot(weights, to_weights)).mul_(weights)


def dot(left: Tensor, right: Tensor) -> Tensor:
    """Inner products over the last axis, which stays as an axis of one."""
    return (left * right).sum(-1, keepdim=True)
