"""What all models share: the call, the state, the LSTM controller and its two projections."""

from __future__ import annotations

import dataclasses
from typing import Any, Self

import torch
from torch import Tensor, nn

from sam import checks
from sam.recompute.unroll import check_settings
from sam.recompute.unroll import unroll as unroll_within_budget

# Before 1 + softplus: reads of one word among similar ones train, flat averages hardly do.
INITIAL_KEY_STRENGTH = 4.0


@dataclasses.dataclass(frozen=True, eq=False)
class State:
    """The recurrent state of one model, a value: a call takes one and returns the next.

    `signature` says which sizes it was made for, so that a model refuses another model's state.
    """

    signature: tuple[tuple[str, Any], ...] = dataclasses.field(repr=False)
    hidden: Tensor  # [B, C], the controller's h_t
    cell: Tensor  # [B, C], the controller's c_t

    @property
    def batch_size(self) -> int:
        return self.hidden.shape[0]

    def detach(self) -> Self:
        """The same state, cut from the graph that computed it (truncated BPTT goes on from it)."""
        parts: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            part = getattr(self, field.name)
            parts[field.name] = part.detach() if isinstance(part, Tensor) else part
        return type(self)(**parts)


class RecurrentModel(nn.Module):
    """`(outputs, state) = model(inputs, state=None)`; subclasses say how it starts and unrolls.

    inputs: [T, B, input_size] (with `batch_first`: [B, T, input_size]), T >= 1, finite.
    outputs: [T, B, output_size] (or [B, T, output_size]): logits, no final nonlinearity.

    one_hot_inputs: whether the controller starts as fits inputs that are one-hot, see
    `initialize_controller`.
    checkpoint: "dp" keeps at most `checkpoint_mib` MiB for the gradient of a call and makes steps
    again during the backward pass, the fewest that this budget allows (`sam.recompute`).
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        *,
        hidden_size: int = 100,
        batch_first: bool = False,
        one_hot_inputs: bool = False,
        checkpoint: str | None = None,
        checkpoint_mib: float | None = None,
    ) -> None:
        super().__init__()
        checks.positive_sizes(
            input_size=input_size, output_size=output_size, hidden_size=hidden_size
        )
        checks.flags(batch_first=batch_first, one_hot_inputs=one_hot_inputs)
        check_settings(checkpoint, checkpoint_mib)
        self.input_size = input_size
        self.output_size = output_size
        self.hidden_size = hidden_size
        self.batch_first = batch_first
        self.one_hot_inputs = one_hot_inputs
        self.checkpoint = checkpoint
        self.checkpoint_mib = checkpoint_mib

    def initial_state(self, batch_size: int, memory: Tensor | None = None) -> Any:
        """The state before the first step, optionally with a memory [N, W] or [B, N, W]."""
        raise NotImplementedError

    def unroll(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Outputs [T, B, output_size] of checked inputs [T, B, input_size], and the state at T."""
        raise NotImplementedError

    @property
    def signature(self) -> tuple[tuple[str, Any], ...]:
        """Name, sizes and dtype: what a state must have been made for."""
        return (
            ("model", type(self).__name__),
            ("hidden_size", self.hidden_size),
            ("dtype", self._like.dtype),
        )

    @property
    def _like(self) -> Tensor:
        """A parameter, for its dtype and device."""
        return next(self.parameters())

    def _zeros(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=self._like.dtype, device=self._like.device)

    def forward(self, inputs: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        layout = ("B", "T") if self.batch_first else ("T", "B")
        checks.tensor("inputs", inputs, (*layout, self.input_size), self._like)
        if self.batch_first:
            inputs = inputs.transpose(0, 1)
        batch_size = inputs.shape[1]
        if state is None:
            state = self.initial_state(batch_size)
        else:
            self._check_state(state, batch_size)
        if self.checkpoint is None:
            outputs, state = self.unroll(inputs, state)
        else:
            outputs, state = unroll_within_budget(self, inputs, state)
        return (outputs.transpose(0, 1) if self.batch_first else outputs), state

    def _check_state(self, state: Any, batch_size: int) -> None:
        if not isinstance(state, State):
            raise TypeError(
                f"state: got {type(state).__name__}, expected a state of this model or None"
            )
        if state.signature != self.signature:
            came, expected = (
                ", ".join(f"{name}={value}" for name, value in signature)
                for signature in (state.signature, self.signature)
            )
            raise ValueError(f"state: got one made for ({came}), expected one for ({expected})")
        if state.batch_size != batch_size:
            raise ValueError(
                f"state: got batch size {state.batch_size}, expected {batch_size} as in inputs"
            )
        if state.hidden.device != self._like.device:
            raise ValueError(
                f"state: got device {state.hidden.device}, expected {self._like.device}"
            )


class Readout(nn.Linear):
    """y(t) from [h(t), r(t)]; in training, parts of h(t) are dropped on this way alone.

    bypass_dropout: the share of h(t), in [0, 1), that is set to zero before the output (the rest is
    scaled up), so that what is asked has to come through the memory (Franke et al. 2018).
    0: none, as in the paper. `eval` turns it off.
    """

    def __init__(
        self, hidden_size: int, read_size: int, output_size: int, bypass_dropout: float
    ) -> None:
        checks.number("bypass_dropout", bypass_dropout, "[0, 1)")
        super().__init__(hidden_size + read_size, output_size)
        self.hidden_size, self.bypass_dropout = hidden_size, bypass_dropout

    def forward(self, features: Tensor) -> Tensor:
        if self.training and self.bypass_dropout:
            hidden, reads = features.tensor_split([self.hidden_size], -1)
            hidden = nn.functional.dropout(hidden, self.bypass_dropout)
            features = torch.cat([hidden, reads], -1)
        return super().forward(features)


class MemoryModel(RecurrentModel):
    """An LSTM controller with an external memory of N words of W numbers and H access heads.

    The controller's input is [x(t), r(t-1)]; `interface` projects its output h(t) to the heads'
    parameters; `output` projects [h(t), r(t)] to y(t) (Rae et al. 2016, section 3.3 and figure 6).

    memory_size: N. word_size: W, the paper's M. num_heads: H. hidden_size: C.
    interface_size: how many numbers the heads take in all. bypass_dropout: see `Readout`; not
    beside a `checkpoint`, which would compute steps again with other zeros. settings: those of
    `RecurrentModel`.
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        *,
        memory_size: int,
        word_size: int,
        num_heads: int,
        interface_size: int,
        hidden_size: int,
        bypass_dropout: float = 0.0,
        **settings: Any,
    ) -> None:
        super().__init__(input_size, output_size, hidden_size=hidden_size, **settings)
        if bypass_dropout and self.checkpoint:
            raise ValueError(
                f"bypass_dropout: got {bypass_dropout} beside checkpoint={self.checkpoint!r}, "
                "expected 0"
            )
        checks.positive_sizes(memory_size=memory_size, word_size=word_size, num_heads=num_heads)
        self.memory_size = memory_size
        self.word_size = word_size
        self.num_heads = num_heads
        read_size = num_heads * word_size
        self.controller = nn.LSTMCell(input_size + read_size, hidden_size)
        self.interface = nn.Linear(hidden_size, interface_size)
        self.output = Readout(hidden_size, read_size, output_size, bypass_dropout)
        initialize_controller(
            self.controller.weight_ih[:, :input_size],
            self.controller.bias_ih,
            self.controller.bias_hh,
            one_hot_inputs=self.one_hot_inputs,
        )
        for layer in (self.interface, self.output):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    @torch.no_grad()
    def sharpen_first_reads(self) -> None:
        """Start the last interface number of each head, its key strength, at 1 + softplus(4)."""
        self.interface.bias.view(self.num_heads, -1)[:, -1] = INITIAL_KEY_STRENGTH

    @torch.no_grad()
    def align_first_queries(self, share: float) -> None:
        """Start that share of each head's query as what it writes there, and the rest at zero.

        A state then finds at first what was written by states like it, which two independent
        projections only do once training has turned them to each other. What stands in a word
        beyond that share is read, but not asked for: words with the same first part and another
        rest are as near to a query as the word that is written at that step.

        share: in (0, 1]; at least one number of the word. 0 leaves query and word independent.
        """
        checks.number("aligned_queries", share, "[0, 1]")
        if share == 0:
            return
        aligned = max(1, round(share * self.word_size))
        heads = self.interface.weight.view(self.num_heads, -1, self.hidden_size)
        queries, words = heads[:, : self.word_size], heads[:, self.word_size : 2 * self.word_size]
        words[:, :aligned] = queries[:, :aligned]
        queries[:, aligned:] = 0

    @property
    def signature(self) -> tuple[tuple[str, Any], ...]:
        return (
            *super().signature,
            ("memory_size", self.memory_size),
            ("word_size", self.word_size),
            ("num_heads", self.num_heads),
        )

    def _check_memory(self, memory: Tensor, batch_size: int) -> None:
        words = (self.memory_size, self.word_size)
        batched = isinstance(memory, Tensor) and memory.dim() == 3
        checks.tensor("memory", memory, (batch_size, *words) if batched else words, self._like)


@torch.no_grad()
def initialize_controller(
    input_weights: Tensor, bias_ih: Tensor, bias_hh: Tensor, *, one_hot_inputs: bool
) -> None:
    """Start an LSTM's forget gate with a total bias of 1 (Collier & Beel 2018).

    input_weights: [4 C, input_size]. one_hot_inputs: torch starts weights and biases alike, uniform
    in 1 / sqrt(C) around 0, so that of an input with a single 1 little more is seen than of the
    biases, and all states, and words written, look alike. With one-hot inputs their weights start
    uniform in [-1, 1] and all other biases at 0.
    """
    if one_hot_inputs:
        nn.init.uniform_(input_weights, -1.0, 1.0)
        nn.init.zeros_(bias_ih)
        nn.init.zeros_(bias_hh)
    hidden_size = len(bias_ih) // 4  # gates in torch's order: input, forget, cell, output
    bias_ih[hidden_size : 2 * hidden_size] = 1.0
    bias_hh[hidden_size : 2 * hidden_size] = 0.0
