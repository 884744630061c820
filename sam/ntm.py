"""The neural Turing machine (Graves et al. 2014, arXiv 1410.5401)."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import softplus

from sam import checks
from sam.addressing import Focus, locate, locate_backward
from sam.dense import Cosine, DenseModel, DenseState
from sam.erase import erase_and_add, erase_backward

COSINE = Cosine()
SHIFTS = 3  # by -1, 0 and +1 slots


@dataclasses.dataclass(frozen=True, eq=False)
class NTMState(DenseState):
    """A `DenseState` with where the heads stand."""

    write_weights: Tensor  # [B, H, N], w^W(t)
    read_weights: Tensor  # [B, H, N], w^R(t)


class NTM(DenseModel):
    """H write heads and H read heads that move by content and by shifts; a step writes, then reads.

    memory_size: N. word_size: W, the paper's M. num_heads: H.
    one_hot_inputs: see `initialize_controller`. bypass_dropout: see `Readout`.

    Keys and added words are linear in the interface. The memory starts constant, every head at
    slot 0. Backward keeps 1 + 4 H / W + 1 / W buffers of [B, N, W] a step: the new memory, its
    rows' norms, and for both kinds of heads the weights and the similarities behind them.
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
    ) -> None:
        checks.positive_sizes(word_size=word_size, num_heads=num_heads)
        super().__init__(
            input_size,
            output_size,
            memory_size=memory_size,
            word_size=word_size,
            num_heads=num_heads,
            interface_size=2 * num_heads * (2 * word_size + SHIFTS + 3),
            hidden_size=hidden_size,
            batch_first=batch_first,
            one_hot_inputs=one_hot_inputs,
            bypass_dropout=bypass_dropout,
            checkpoint=checkpoint,
            checkpoint_mib=checkpoint_mib,
        )

    def initial_state(self, batch_size: int, memory: Tensor | None = None) -> NTMState:
        """The state before the first step; memory: [N, W] or [B, N, W], all 1e-6 without one."""
        fields = self._start(batch_size, memory, COSINE)
        weights = self._zeros(batch_size, self.num_heads, self.memory_size)
        weights[..., 0] = 1.0
        return NTMState(**fields, write_weights=weights, read_weights=weights)

    def access(self, hidden: Tensor, cell: Tensor, state: NTMState) -> NTMState:
        keys, focus, erase, add = self._heads(hidden)
        write_keys, read_keys = keys.chunk(2, 1)
        write_focus, read_focus = zip(*(part.chunk(2, 1) for part in focus), strict=True)
        memory, write_weights = _Write.apply(
            state.memory,
            state.memory_scale,
            state.write_weights,
            write_keys,
            *write_focus,
            erase,
            add,
        )
        scale = COSINE.scale(memory)
        words, read_weights = _Read.apply(memory, scale, state.read_weights, read_keys, *read_focus)
        return NTMState(
            signature=state.signature,
            hidden=hidden,
            cell=cell,
            read_words=words,
            memory=memory,
            memory_scale=scale,
            write_weights=write_weights,
            read_weights=read_weights,
        )

    def _heads(self, hidden: Tensor) -> tuple[Tensor, Focus, Tensor, Tensor]:
        """Keys [B, 2H, W] and focus of the write heads, then the read heads; erase, add [B, H, W].

        Ranges: Graves et al. 2014, sections 3.2 and 3.3.
        """
        heads, words = self.num_heads, 2 * self.num_heads * self.word_size
        parts = self.interface(hidden)
        moves, erase, add = parts.split([parts.shape[1] - words, words // 2, words // 2], 1)
        keys, strengths, gates, shifts, sharpness = moves.view(len(hidden), 2 * heads, -1).split(
            [self.word_size, 1, 1, SHIFTS, 1], -1
        )
        focus = Focus(
            strengths=softplus(strengths),
            gates=torch.sigmoid(gates),
            shifts=torch.softmax(shifts, -1),
            sharpness=1 + softplus(sharpness),
        )
        per_head = (len(hidden), heads, self.word_size)
        return keys, focus, torch.sigmoid(erase).view(per_head), add.view(per_head)


class _Write(torch.autograd.Function):
    """`memory, weights`: the write heads move over the old memory, then erase and add."""

    @staticmethod
    def forward(
        ctx: Any, memory: Tensor, scale: Tensor, previous: Tensor, keys: Tensor, *rest: Tensor
    ) -> tuple[Tensor, Tensor]:
        *focus, erase, add = rest
        similarities = COSINE.compare(keys, memory, scale)
        weights = locate(similarities, previous, Focus(*focus))
        ctx.save_for_backward(memory, scale, previous, keys, similarities, weights, *rest)
        return erase_and_add(memory, weights, erase, add), weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_written: Tensor, to_weights: Tensor) -> tuple[Tensor | None, ...]:
        memory, scale, previous, keys, similarities, weights, *rest = ctx.saved_tensors
        *focus, erase, add = rest
        to_add = torch.bmm(weights, to_written)
        to_memory = torch.empty_like(to_written) if ctx.needs_input_grad[0] else None
        from_erase, to_erase = erase_backward(to_written, memory, weights, erase, to_memory)
        to_weights = to_weights + from_erase + torch.bmm(add, to_written.mT)
        to_similarities, to_previous, to_focus = locate_backward(
            to_weights, weights, similarities, previous, Focus(*focus)
        )
        to_keys, factors = COSINE.backward(to_similarities, similarities, keys, memory, scale)
        if to_memory is not None:
            factors.add_to(to_memory, memory)
        return to_memory, None, to_previous, to_keys, *to_focus, to_erase, to_add


class _Read(torch.autograd.Function):
    """`words, weights`: the read heads move over the new memory and read there."""

    @staticmethod
    def forward(
        ctx: Any, memory: Tensor, scale: Tensor, previous: Tensor, keys: Tensor, *focus: Tensor
    ) -> tuple[Tensor, Tensor]:
        similarities = COSINE.compare(keys, memory, scale)
        weights = locate(similarities, previous, Focus(*focus))
        ctx.save_for_backward(memory, scale, previous, keys, similarities, weights, *focus)
        return torch.bmm(weights, memory), weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_words: Tensor, to_weights: Tensor) -> tuple[Tensor | None, ...]:
        memory, scale, previous, keys, similarities, weights, *focus = ctx.saved_tensors
        to_similarities, to_previous, to_focus = locate_backward(
            to_weights + torch.bmm(to_words, memory.mT),
            weights,
            similarities,
            previous,
            Focus(*focus),
        )
        to_keys, factors = COSINE.backward(to_similarities, similarities, keys, memory, scale)
        to_memory = None
        if ctx.needs_input_grad[0]:
            to_memory = factors.with_read(weights, to_words).dense(memory)
        return to_memory, None, to_previous, to_keys, *to_focus
