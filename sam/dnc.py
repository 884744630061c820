"""The differentiable neural computer (Graves et al. 2016, Nature 538)."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import softplus

from sam import checks
from sam.allocation import Allocate, next_usage
from sam.dense import Cosine, DenseModel, DenseState, dot, softmax_backward
from sam.erase import erase_and_add, erase_backward
from sam.linkage import Link
from sam.model import INITIAL_KEY_STRENGTH

COSINE = Cosine()
MODES = 3  # backward, content, forward


@dataclasses.dataclass(frozen=True, eq=False)
class DNCState(DenseState):
    """A `DenseState` with what was written, read and linked."""

    usage: Tensor  # [B, N], u(t) in [0, 1]
    write_weights: Tensor  # [B, N], w^w(t)
    read_weights: Tensor  # [B, R, N], w^r(t)
    precedence: Tensor  # [B, N], p(t)
    links: Tensor  # [B, N, N], L(t): row i says after which slots slot i was written


class Heads(NamedTuple):
    """What the interface says to the R read heads and the write head."""

    read_keys: Tensor  # [B, R, W], k^r
    read_strengths: Tensor  # [B, R, 1], beta^r >= 1
    write_key: Tensor  # [B, 1, W], k^w
    write_strength: Tensor  # [B, 1, 1], beta^w >= 1
    erase: Tensor  # [B, 1, W], e in [0, 1]
    add: Tensor  # [B, 1, W], v
    free_gates: Tensor  # [B, R, 1], f in [0, 1]
    allocation_gate: Tensor  # [B, 1, 1], g^a in [0, 1]: 1 for the free slots, 0 for content
    write_gate: Tensor  # [B, 1, 1], g^w in [0, 1]
    modes: Tensor  # [B, R, 3], pi: shares of backward, content and forward, sum 1


class DNC(DenseModel):
    """One write head and R read heads that follow content and the order of writing.

    memory_size: N. word_size: W. num_heads: R, the read heads.
    one_hot_inputs: see `initialize_controller`. bypass_dropout: see `Readout`.

    A step writes, then reads. Keys and added words are linear in the interface; key strengths are
    1 + softplus(x), 5 or so at the start. The memory starts constant. The gradient is that of all
    equations, through usage and links too; only the order of the slots by usage is a constant.

    Backward keeps one buffer [B, N, N] a step, the new links; and 1 + (8 R + 11) / W buffers of
    [B, N, W]: the new memory, its rows' norms, and the weightings with what they are made of.
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
            interface_size=num_heads * word_size + 3 * word_size + 5 * num_heads + 3,
            hidden_size=hidden_size,
            batch_first=batch_first,
            one_hot_inputs=one_hot_inputs,
            bypass_dropout=bypass_dropout,
            checkpoint=checkpoint,
            checkpoint_mib=checkpoint_mib,
        )
        with torch.no_grad():
            _, read_strengths, _, write_strength, *_ = self._parts(self.interface.bias)
            read_strengths.fill_(INITIAL_KEY_STRENGTH)
            write_strength.fill_(INITIAL_KEY_STRENGTH)

    def initial_state(self, batch_size: int, memory: Tensor | None = None) -> DNCState:
        """The state before the first step; memory: [N, W] or [B, N, W], all 1e-6 without one."""
        fields = self._start(batch_size, memory, COSINE)
        none = self._zeros(batch_size, self.memory_size)
        return DNCState(
            **fields,
            usage=none,
            write_weights=none,
            read_weights=self._zeros(batch_size, self.num_heads, self.memory_size),
            precedence=none,
            links=self._zeros(1).expand(batch_size, self.memory_size, self.memory_size),
        )

    def access(self, hidden: Tensor, cell: Tensor, state: DNCState) -> DNCState:
        heads = self._heads(hidden)
        usage = next_usage(state.usage, state.write_weights, state.read_weights, heads.free_gates)
        memory, write_weights = _Write.apply(
            state.memory,
            state.memory_scale,
            heads.write_key,
            heads.write_strength,
            Allocate.apply(usage),
            heads.allocation_gate,
            heads.write_gate,
            heads.erase,
            heads.add,
        )
        links, precedence, forward, backward = Link.apply(
            state.links, state.precedence, write_weights, state.read_weights
        )
        scale = COSINE.scale(memory)
        words, read_weights = _Read.apply(
            memory, scale, heads.read_keys, heads.read_strengths, heads.modes, backward, forward
        )
        return DNCState(
            signature=state.signature,
            hidden=hidden,
            cell=cell,
            read_words=words,
            memory=memory,
            memory_scale=scale,
            usage=usage,
            write_weights=write_weights,
            read_weights=read_weights,
            precedence=precedence,
            links=links,
        )

    def _parts(self, interface: Tensor) -> tuple[Tensor, ...]:
        """Views of the interface's parts, in the paper's order; all gates are one part."""
        heads, words = self.num_heads, self.word_size
        sizes = [heads * words, heads, words, 1, words, words, heads + 2, heads * MODES]
        return interface.split(sizes, -1)

    def _heads(self, hidden: Tensor) -> Heads:
        """What the controller's output [B, C] says; ranges: Graves et al. 2016, "Interface"."""
        keys, strengths, write_key, write_strength, erase, add, gates, modes = self._parts(
            self.interface(hidden)
        )
        per_head = (len(hidden), self.num_heads, -1)
        gates = torch.sigmoid(gates).unsqueeze(2)
        return Heads(
            read_keys=keys.reshape(per_head),
            read_strengths=1 + softplus(strengths).unsqueeze(2),
            write_key=write_key.unsqueeze(1),
            write_strength=1 + softplus(write_strength).unsqueeze(2),
            erase=torch.sigmoid(erase).unsqueeze(1),
            add=add.unsqueeze(1),
            free_gates=gates[:, :-2],
            allocation_gate=gates[:, -2:-1],
            write_gate=gates[:, -1:],
            modes=torch.softmax(modes.reshape(per_head), -1),
        )


class _Write(torch.autograd.Function):
    """`memory, weights`: the write head goes to free slots or by content, then erases and adds.

    Its weights and the allocation weights are [B, N].
    """

    @staticmethod
    def forward(
        ctx: Any,
        memory: Tensor,
        scale: Tensor,
        key: Tensor,
        strength: Tensor,
        allocation: Tensor,
        *rest: Tensor,
    ) -> tuple[Tensor, Tensor]:
        allocation_gate, write_gate, erase, add = rest
        similarities = COSINE.compare(key, memory, scale)
        content = torch.softmax(strength * similarities, -1)
        # w^w = g^w (g^a a + (1 - g^a) c^w)
        aim = torch.lerp(content, allocation.unsqueeze(1), allocation_gate)
        weights = write_gate * aim
        ctx.save_for_backward(
            memory, scale, key, strength, allocation, similarities, content, aim, weights, *rest
        )
        # M(t) = M(t-1) (1 - w^w e^T) + w^w v^T
        return erase_and_add(memory, weights, erase, add), weights.squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_written: Tensor, to_weights: Tensor) -> tuple[Tensor | None, ...]:
        memory, scale, key, strength, allocation, similarities, content, aim, *rest = (
            ctx.saved_tensors
        )
        weights, allocation_gate, write_gate, erase, add = rest
        to_add = torch.bmm(weights, to_written)
        to_memory = torch.empty_like(to_written) if ctx.needs_input_grad[0] else None
        from_erase, to_erase = erase_backward(to_written, memory, weights, erase, to_memory)
        from_add = torch.bmm(add, to_written.mT)
        to_weights = to_weights.unsqueeze(1) + from_erase + from_add

        to_write_gate = dot(to_weights, aim)
        to_aim = to_weights * write_gate
        to_allocation_gate = dot(to_aim, allocation.unsqueeze(1) - content)
        to_allocation = (to_aim * allocation_gate).squeeze(1)
        to_logits = softmax_backward(to_aim * (1 - allocation_gate), content)
        to_strength = dot(to_logits, similarities)
        to_key, factors = COSINE.backward(
            to_logits.mul_(strength), similarities, key, memory, scale
        )
        if to_memory is not None:
            factors.add_to(to_memory, memory)
        to_gates = to_allocation_gate, to_write_gate
        return to_memory, None, to_key, to_strength, to_allocation, *to_gates, to_erase, to_add


class _Read(torch.autograd.Function):
    """`words, weights`: each read head mixes the links' weightings with its own by content."""

    @staticmethod
    def forward(
        ctx: Any,
        memory: Tensor,
        scale: Tensor,
        keys: Tensor,
        strengths: Tensor,
        modes: Tensor,
        backward: Tensor,
        forward: Tensor,
    ) -> tuple[Tensor, Tensor]:
        similarities = COSINE.compare(keys, memory, scale)
        content = torch.softmax(strengths * similarities, -1)
        # w^r = pi_1 b + pi_2 c + pi_3 f;  r = M^T w^r
        on_backward, on_content, on_forward = modes.split(1, -1)
        weights = (on_backward * backward).addcmul_(on_content, content)
        weights.addcmul_(on_forward, forward)
        ctx.save_for_backward(
            memory, scale, keys, strengths, modes, backward, content, forward, similarities, weights
        )
        return torch.bmm(weights, memory), weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_words: Tensor, to_weights: Tensor) -> tuple[Tensor | None, ...]:
        memory, scale, keys, strengths, modes, *mixed, similarities, weights = ctx.saved_tensors
        to_weights = to_weights + torch.bmm(to_words, memory.mT)
        to_modes = torch.cat([dot(to_weights, part) for part in mixed], -1)
        to_backward, to_content, to_forward = (to_weights * mode for mode in modes.split(1, -1))
        _, content, _ = mixed
        to_logits = softmax_backward(to_content, content)
        to_strengths = dot(to_logits, similarities)
        to_keys, factors = COSINE.backward(
            to_logits.mul_(strengths), similarities, keys, memory, scale
        )
        to_memory = None
        if ctx.needs_input_grad[0]:
            to_memory = factors.with_read(weights, to_words).dense(memory)
        return to_memory, None, to_keys, to_strengths, to_modes, to_backward, to_forward
