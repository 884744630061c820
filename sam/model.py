"""What all models share: the call, the state, the LSTM controller and its two projections."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sam import checks, parameters, room
from sam.autograd import autocasts, own_precision
from sam.recompute import costs
from sam.recompute.unroll import check_settings
from sam.recompute.unroll import unroll as unroll_within_budget
from sam.state import State, describe, load_state_dict
from sam.tracing import opaque, refuse_symbols

# Before 1 + softplus: reads of one word among similar ones train, flat averages hardly do.
INITIAL_KEY_STRENGTH = 4.0


class RecurrentModel(nn.Module):
    """`(outputs, state) = model(inputs, state=None)`; subclasses say how it starts and unrolls.

    inputs: [T, B, input_size] (with `batch_first`: [B, T, input_size]), T >= 1, finite.
    outputs: [T, B, output_size] (or [B, T, output_size]): logits, no final nonlinearity.

    one_hot_inputs: whether the controller starts as fits inputs that are one-hot, see
    `initialize_controller`.
    checkpoint: "dp" keeps at most `checkpoint_mib` MiB for the gradient of a call and makes steps
    again during the backward pass, the fewest that this budget allows (`sam.recompute`).

    Under `torch.autocast` all is computed in the model's own dtype, and so are its outputs and
    states. `torch.compile` leaves a call as it is, and compiles what is around it.
    """

    _has_functions = False  # whether its steps are `torch.autograd.Function`s

    # The signature of a state that was found to fit, and the model's dtype then.
    _accepted: tuple[object, torch.dtype | None] = (None, None)

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
        self.input_size, self.output_size, self.hidden_size = checks.positive_sizes(
            input_size=input_size, output_size=output_size, hidden_size=hidden_size
        )
        checks.flags(batch_first=batch_first, one_hot_inputs=one_hot_inputs)
        check_settings(checkpoint, checkpoint_mib)
        self.batch_first = batch_first
        self.one_hot_inputs = one_hot_inputs
        self.checkpoint = checkpoint
        self.checkpoint_mib = checkpoint_mib

    def initial_state(self, batch_size: int, memory: Tensor | None = None) -> Any:
        """The state before the first step, optionally with a memory [N, W] or [B, N, W]."""
        raise NotImplementedError

    def state_from_dict(self, saved: dict[str, Any]) -> Any:
        """The state that `state.state_dict()` was made of.

        Args:
            saved: as `state_dict` gave it, or `torch.load` read it back.

        Raises:
            TypeError, ValueError: it is not one, or not one of a model like this.
        """
        return load_state_dict(self, saved)

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
        """A tensor of the model's dtype and device."""
        return parameters.first(self)

    def _zeros(self, *shape: int) -> Tensor:
        like = self._like
        return torch.zeros(shape, dtype=like.dtype, device=like.device)

    @opaque
    def forward(self, inputs: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        functions = self._has_functions or self.checkpoint is not None
        refuse_symbols(type(self).__name__, functions=functions)
        like = self._like
        inputs = _as_autocast_would(inputs, like)
        with own_precision(like.device.type):
            return self._forward(inputs, state, like)

    def _forward(self, inputs: Tensor, state: Any, like: Tensor) -> tuple[Tensor, Any]:
        self._check_place(like)
        layout = ("B", "T") if self.batch_first else ("T", "B")
        checks.tensor("inputs", inputs, (*layout, self.input_size), like)
        if self.batch_first:
            inputs = inputs.transpose(0, 1)
        batch_size = inputs.shape[1]
        if state is None:
            state = self.initial_state(batch_size)
        else:
            self._check_state(state, batch_size, like)
            state = _out_of_inference(state)
        if self.checkpoint is None:
            outputs, state = self.unroll(inputs, state)
        else:
            outputs, state = unroll_within_budget(self, inputs, state)
        return (outputs.transpose(0, 1) if self.batch_first else outputs), state

    def _check_place(self, like: Tensor) -> None:
        """Raises ValueError for a dtype or a device that the model does not run in."""
        if not like.is_floating_point():
            raise ValueError(f"model: got {like.dtype}, expected a floating-point dtype")

    def _check_state(self, state: Any, batch_size: int, like: Tensor) -> None:
        if not isinstance(state, State):
            raise TypeError(
                f"state: got {type(state).__name__}, expected a state of this model or None"
            )
        # A state hands its signature on to the next, so that nearly always it is the same object.
        known, dtype = self._accepted
        if known is not state.signature or dtype != like.dtype:
            if state.signature != self.signature:
                came, expected = describe(state.signature), describe(self.signature)
                raise ValueError(f"state: got one made for ({came}), expected one for ({expected})")
            self._accepted = state.signature, like.dtype
        if state.batch_size != batch_size:
            raise ValueError(
                f"state: got batch size {state.batch_size}, expected {batch_size} as in inputs"
            )
        if state.hidden.device != like.device:
            raise ValueError(f"state: got device {state.hidden.device}, expected {like.device}")


def _as_autocast_would(value: Tensor, like: Tensor) -> Tensor:
    """Under `torch.autocast`, a tensor that it may have made, in like's dtype."""
    if not torch._C._is_any_autocast_enabled() or not isinstance(value, Tensor):
        return value
    if not autocasts(like.device.type):
        return value
    cast = value.dtype in (torch.float16, torch.bfloat16, torch.float32)
    return value.to(like.dtype) if cast else value


def _out_of_inference(state: Any) -> Any:
    """The state, copied if `torch.inference_mode` has made it and a gradient may be asked for."""
    if torch.is_inference_mode_enabled() or not state.hidden.is_inference():
        return state
    parts = costs.tensors(state)
    return costs.with_tensors(state, parts, (part.clone() for part in parts.values()))


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

    _has_functions = True

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
        self.memory_size, self.word_size, self.num_heads = checks.positive_sizes(
            memory_size=memory_size, word_size=word_size, num_heads=num_heads
        )
        self._make_layers(interface_size, bypass_dropout)
        initialize_controller(
            self.controller.weight_ih[:, : self.input_size],
            self.controller.bias_ih,
            self.controller.bias_hh,
            one_hot_inputs=self.one_hot_inputs,
        )
        for layer in (self.interface, self.output):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def _make_layers(self, interface_size: int, bypass_dropout: float) -> None:
        inputs, hidden, outputs = self.input_size, self.hidden_size, self.output_size
        reads = self.num_heads * self.word_size
        room.check_parameters(
            4 * hidden * (inputs + reads + hidden + 2)
            + interface_size * (hidden + 1)
            + outputs * (hidden + reads + 1),
            input_size=inputs,
            output_size=outputs,
            hidden_size=hidden,
            word_size=self.word_size,
            num_heads=self.num_heads,
        )
        self.interface_size = interface_size
        self.controller = nn.LSTMCell(inputs + reads, hidden)
        self.interface = nn.Linear(hidden, interface_size)
        self.output = Readout(hidden, reads, outputs, bypass_dropout)

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

        share: in (0, 1]; at least one number of the word. 0 leaves query and word independent. True
            is 1, and False 0, as in settings of runs.
        """
        share = float(share) if isinstance(share, bool) else share
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

    def access(self, hidden: Tensor, cell: Tensor, state: Any) -> Any:
        """The state after writing and reading as the controller's output [B, C] says."""
        raise NotImplementedError

    def unroll(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        features = []
        for step_inputs in inputs.unbind(0):
            # Rae et al. 2016, supplement B: the controller sees [x(t), r(t-1)], y(t) [h(t), r(t)].
            seen = torch.cat([step_inputs, state.read_words.flatten(1)], 1)
            hidden, cell = self.controller(seen, (state.hidden, state.cell))
            state = self.access(hidden, cell, state)
            features.append(torch.cat([hidden, state.read_words.flatten(1)], 1))
        return self.output(torch.stack(features)), state

    def _head_parameters(self, hidden: Tensor) -> Tensor:
        """What the controller's output [B, C] says to the heads, [B, interface_size]."""
        parameters = self.interface(hidden)
        checks.form("interface", parameters, (len(hidden), self.interface_size), hidden)
        return parameters

    def _checked_memory(self, memory: Tensor, batch_size: int) -> Tensor:
        """The memory given, [N, W] or [B, N, W], as the model's steps take it."""
        refuse_symbols(type(self).__name__, functions=self._has_functions)
        like = self._like
        memory = _as_autocast_would(memory, like)
        words = (self.memory_size, self.word_size)
        batched = isinstance(memory, Tensor) and memory.dim() == 3
        checks.tensor("memory", memory, (batch_size, *words) if batched else words, like)
        return memory


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
