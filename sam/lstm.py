"""The LSTM without an external memory: the baseline of every learning result."""

from __future__ import annotations

from torch import Tensor, nn

from sam import checks, room
from sam.model import RecurrentModel, initialize_controller
from sam.state import State
from sam.tracing import opaque


class LSTM(RecurrentModel):
    """One LSTM layer of `hidden_size` cells and a linear output: y(t) = output(h(t)).

    The settings are those of `RecurrentModel`.
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
        super().__init__(
            input_size,
            output_size,
            hidden_size=hidden_size,
            batch_first=batch_first,
            one_hot_inputs=one_hot_inputs,
            checkpoint=checkpoint,
            checkpoint_mib=checkpoint_mib,
        )
        inputs, hidden, outputs = self.input_size, self.hidden_size, self.output_size
        room.check_parameters(
            4 * hidden * (inputs + hidden + 2) + outputs * (hidden + 1),
            input_size=inputs,
            output_size=outputs,
            hidden_size=hidden,
        )
        self.controller = nn.LSTM(inputs, hidden)
        self.output = nn.Linear(hidden, outputs)
        initialize_controller(
            *(
                self.controller.get_parameter(f"{name}_l0")
                for name in ("weight_ih", "bias_ih", "bias_hh")
            ),
            one_hot_inputs=one_hot_inputs,
        )
        nn.init.xavier_uniform_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    @opaque
    def initial_state(self, batch_size: int, memory: Tensor | None = None) -> State:
        """The state before the first step: h and c [batch_size, hidden_size] are zero."""
        (batch_size,) = checks.positive_sizes(batch_size=batch_size)
        room.check(
            "a state",
            2 * batch_size * self.hidden_size * self._like.itemsize,
            self._like.device,
            batch_size=batch_size,
            hidden_size=self.hidden_size,
        )
        if memory is not None:
            raise ValueError("memory: got one, expected None: an LSTM has no external memory")
        return State(
            signature=self.signature,
            hidden=self._zeros(batch_size, self.hidden_size),
            cell=self._zeros(batch_size, self.hidden_size),
        )

    def unroll(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        before = (state.hidden.unsqueeze(0), state.cell.unsqueeze(0))
        hidden, after = self.controller(inputs, before)
        state = State(
            signature=state.signature, hidden=after[0].squeeze(0), cell=after[1].squeeze(0)
        )
        return self.output(hidden), state
