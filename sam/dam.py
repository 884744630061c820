"""The dense access memory, SAM's dense twin (Rae et al. 2016, section 3.2)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.nn.functional import softplus

from sam import checks
from sam.dense import SIMILARITIES, ContentRead, DenseModel, DenseState
from sam.state import Source
from sam.tracing import opaque

USAGES = ("discounted", "least_recent")
NEVER = -1  # the last access of a slot that was never accessed


@dataclasses.dataclass(frozen=True, eq=False)
class DAMState(DenseState):
    """A `DenseState` with what the next write needs."""

    read_weights: Tensor  # [B, H, N], w^R(t)
    usage: Tensor  # [B, N], U(t): discounted accesses, or (int64) the step of the last access
    step: int  # t, the number of steps made

    def _empty(self) -> dict[str, Tensor]:
        if self.usage.is_floating_point():
            return super()._empty()
        return super()._empty() | {"usage": torch.full_like(self.usage[:1], NEVER)}

    def _gather(self, states: Sequence[Self], sources: Sequence[Source]) -> Self:
        """Of states that have made different numbers of steps, the last accesses keep their age."""
        step = max(state.step for state in states)
        aged = [
            state
            if state.step == step or state.usage.is_floating_point()
            else dataclasses.replace(
                state,
                usage=torch.where(state.usage == NEVER, NEVER, state.usage + step - state.step),
            )
            for state in states
        ]
        return dataclasses.replace(super()._gather(aged, sources), step=step)


class Heads(NamedTuple):
    """What the interface says to the H heads."""

    queries: Tensor  # [B, H, W], q
    add: Tensor  # [B, H, W], a
    write_gates: Tensor  # [B, H, 1], alpha in [0, 1]
    interpolation_gates: Tensor  # [B, H, 1], gamma in [0, 1]
    strengths: Tensor  # [B, H, 1], beta >= 1


class DAM(DenseModel):
    """Reads by content over all N slots; writes where it read before, and to the least used slots.

    memory_size: N. word_size: W, the paper's M. num_heads: H <= N, each of which reads and writes.
    usage: "discounted" is the paper's U1 with `discount` lambda; "least_recent" is SAM's U2, where
        a slot is accessed when its weights exceed `access_threshold` delta.
    similarity: "cosine", or "l2" for the negative squared distance.
    key_strength: whether each head has a learned beta = 1 + softplus(x), 5 or so at the start.
    one_hot_inputs: see `initialize_controller`. bypass_dropout: see `Readout`.
    aligned_queries: which share of a query starts as the word that is written, see `SAM`.

    Backward keeps 1 + 2 H / W + 1 / W buffers of [B, N, W] a step: the new memory, its rows' norms,
    the read weights and the similarities behind them.
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        *,
        memory_size: int = 1024,
        word_size: int = 32,
        num_heads: int = 4,
        hidden_size: int = 100,
        batch_first: bool = False,
        one_hot_inputs: bool = False,
        bypass_dropout: float = 0.0,
        checkpoint: str | None = None,
        checkpoint_mib: float | None = None,
        key_strength: bool = True,
        aligned_queries: float = 0.0,
        similarity: str = "cosine",
        usage: str = "discounted",
        discount: float = 0.99,
        access_threshold: float = 0.005,
    ) -> None:
        checks.flags(key_strength=key_strength)
        word_size, num_heads = checks.positive_sizes(word_size=word_size, num_heads=num_heads)
        super().__init__(
            input_size,
            output_size,
            memory_size=memory_size,
            word_size=word_size,
            num_heads=num_heads,
            interface_size=num_heads * (2 * word_size + 2 + key_strength),
            hidden_size=hidden_size,
            batch_first=batch_first,
            one_hot_inputs=one_hot_inputs,
            bypass_dropout=bypass_dropout,
            checkpoint=checkpoint,
            checkpoint_mib=checkpoint_mib,
        )
        _check_options(num_heads, self.memory_size, similarity, usage, discount, access_threshold)
        self.key_strength = key_strength
        self.similarity = similarity
        self.usage = usage
        self.discount = discount
        self.access_threshold = access_threshold
        if key_strength:
            self.sharpen_first_reads()
        self.align_first_queries(aligned_queries)

    @property
    def signature(self) -> tuple[tuple[str, Any], ...]:
        return (*super().signature, ("similarity", self.similarity), ("usage", self.usage))

    @opaque
    def initial_state(self, batch_size: int, memory: Tensor | None = None) -> DAMState:
        """The state before the first step; memory: [N, W] or [B, N, W], all 1e-6 without one."""
        (batch_size,) = checks.positive_sizes(batch_size=batch_size)
        others = (self.num_heads + 1) * self.memory_size
        fields = self._start(batch_size, memory, SIMILARITIES[self.similarity], others)
        usage = self._zeros(batch_size, self.memory_size)
        if self.usage == "least_recent":
            usage = torch.full_like(usage, NEVER, dtype=torch.int64)
        read_weights = self._zeros(batch_size, self.num_heads, self.memory_size)
        return DAMState(**fields, read_weights=read_weights, usage=usage, step=0)

    def access(self, hidden: Tensor, cell: Tensor, state: DAMState) -> DAMState:
        similarity = SIMILARITIES[self.similarity]
        heads = self._heads(hidden)
        popped = lowest(state.usage, self.num_heads)
        memory = write(state.memory, state.read_weights, popped, heads)
        scale = similarity.scale(memory)
        weights, words = ContentRead.apply(
            memory, scale, heads.queries, heads.strengths, similarity
        )
        return DAMState(
            signature=state.signature,
            hidden=hidden,
            cell=cell,
            read_words=words,
            memory=memory,
            memory_scale=scale,
            read_weights=weights,
            usage=self._next_usage(state, popped, heads, weights),
            step=state.step + 1,
        )

    def _heads(self, hidden: Tensor) -> Heads:
        parts = self._head_parameters(hidden).view(len(hidden), self.num_heads, -1)
        words, numbers = parts.split([2 * self.word_size, 2 + self.key_strength], -1)
        queries, add = words.chunk(2, -1)
        gates = torch.sigmoid(numbers[..., :2])
        if self.key_strength:
            strengths = 1 + softplus(numbers[..., 2:])
        else:
            strengths = torch.ones_like(gates[..., :1])
        return Heads(queries, add, gates[..., :1], gates[..., 1:], strengths)

    @torch.no_grad()
    def _next_usage(
        self, state: DAMState, popped: Tensor, heads: Heads, read_weights: Tensor
    ) -> Tensor:
        # sum over heads of w^W(t) + w^R(t): Rae et al. 2016, eq. 5 and section 3.2
        kept, fresh = write_shares(heads)
        accessed = torch.bmm(kept.mT, state.read_weights).squeeze(1)
        accessed.scatter_add_(1, popped, fresh.squeeze(-1)).add_(read_weights.sum(1))
        if self.usage == "discounted":  # U1(t) = lambda U1(t-1) + w^W(t) + w^R(t)
            return accessed.add_(state.usage, alpha=self.discount)
        now = (accessed > self.access_threshold).scatter_(1, popped, True)
        return state.usage.masked_fill(now, state.step)


def write_shares(heads: Heads) -> tuple[Tensor, Tensor]:
    """How much of a write goes to the words read before, and how much to the least used slot.

    Rae et al. 2016, eq. 5: w^W(t) = alpha (gamma w^R(t-1) + (1 - gamma) I^U). Both: [B, H, 1].
    """
    kept = heads.write_gates * heads.interpolation_gates
    return kept, heads.write_gates - kept


def write(memory: Tensor, read_weights: Tensor, popped: Tensor, heads: Heads) -> Tensor:
    """The memory [B, N, W] after all heads' writes; their slots `popped` [B, H] are erased first.

    Rae et al. 2016, eq. 3 and 8: M(t) = (1 - E(t)) M(t-1) + sum over heads of w^W(t) a(t)^T.
    """
    kept, fresh = write_shares(heads)
    spread = kept * heads.add
    # An erased row holds additions only. Computing those H rows anew spares a copy of the memory.
    _, _, word_size = memory.shape
    rows = popped.unsqueeze(-1)
    at_popped = read_weights.gather(2, popped.unsqueeze(1).expand_as(_square(popped)))
    new_words = torch.baddbmm(fresh * heads.add, at_popped.mT, spread)
    written = torch.baddbmm(memory, read_weights.mT, spread)
    return written.scatter_(1, rows.expand(-1, -1, word_size), new_words)


def _square(popped: Tensor) -> Tensor:
    return popped.unsqueeze(1).expand(-1, popped.shape[1], -1)


def lowest(usage: Tensor, count: int) -> Tensor:
    """The `count` slots [B, count] of lowest usage [B, N], lowest first, ties to the lower slot."""
    slots = [usage.argmin(1, keepdim=True)]  # argmin gives the first of equals, topk gives any
    if count > 1:
        usage = usage.clone()
        highest = math.inf if usage.is_floating_point() else torch.iinfo(usage.dtype).max
    for _ in range(count - 1):
        usage.scatter_(1, slots[-1], highest)
        slots.append(usage.argmin(1, keepdim=True))
    return torch.cat(slots, 1)


def _check_options(
    num_heads: int,
    memory_size: int,
    similarity: str,
    usage: str,
    discount: float,
    access_threshold: float,
) -> None:
    if num_heads > memory_size:
        raise ValueError(
            f"num_heads: got {num_heads}, expected at most memory_size = {memory_size}: "
            "every head writes to a slot of its own"
        )
    for name, value, known in (
        ("similarity", similarity, tuple(SIMILARITIES)),
        ("usage", usage, USAGES),
    ):
        if value not in known:
            raise ValueError(f"{name}: got {value!r}, expected one of {', '.join(known)}")
    checks.number("discount", discount, "[0, 1]")
    checks.number("access_threshold", access_threshold, "[0, inf)")
