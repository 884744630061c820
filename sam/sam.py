"""Sparse Access Memory (Rae et al. 2016): reads and writes a few words, found by an index."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor

import ann_backends
from sam import checks
from sam.model import MemoryModel, State
from sam.recompute.costs import Costs
from sam.recompute.schedule import Schedule
from sam.sparse.access import Settings
from sam.sparse.journal import NONE
from sam.sparse.links import Links
from sam.sparse.recompute import Call, UnrollByPlan, costs_of
from sam.sparse.record import Recorder
from sam.sparse.store import Store, Version
from sam.sparse.unroll import Load, Unroll, Weights

# Without a gradient, nothing is kept of a step; so many steps share the cost of a call.
STEPS_WITHOUT_GRADIENT = 256


@dataclasses.dataclass(frozen=True, eq=False)
class SAMState(State):
    """The state of a SAM between two steps.

    Although the memory is changed in place, a state stays what it is: using an older one again
    takes the memory back to it, in time proportional to the steps in between, and the newer ones
    can be used again as well. A state that is held holds the journal of those steps, about
    H (K + 1) words per step and memory; one that is dropped holds nothing.
    """

    read_words: Tensor  # [B, H, W], r_t
    read_slots: Tensor  # int64 [B, H, K], the slots of w^R_t; -1 before the first step
    read_weights: Tensor  # [B, H, K], w^R_t
    token: Tensor = dataclasses.field(repr=False)  # orders the passes for autograd
    version: Version = dataclasses.field(repr=False)

    @property
    def memory(self) -> Tensor:
        """M_t, [B, N, W]: a view of the memory as it stands for this state until another is used.

        Clone it to keep it. Not to be written to. During a backward pass, the memory as far as it
        has been rolled back.
        """
        store = self.version.store
        if not store.in_backward:
            store.stand_at(self.version)
        return torch.from_numpy(store.memory)


class SAM(MemoryModel):
    """A memory network whose step costs O(log N) time with a tree as index, and O(1) memory.

    memory_size: N words. word_size: W, the paper's M. num_heads: H access heads, each reads and
    writes. k: K words read per head. hidden_size: C units of the LSTM. ann: the index, by name or
    as settings (`ann_backends.available()` lists them). key_strength: whether each head scales
    similarities by a learned beta = 1 + softplus, 5.02 at first; False is the paper's model.
    aligned_queries: which share, in [0, 1], of each head's query starts as the same projection of
    the controller's output as the word that it writes, the rest of the query at zero; 0: both start
    as independent projections. one_hot_inputs: whether the controller starts as fits inputs that
    are one-hot (`initialize_controller`).
    bypass_dropout: the share of the controller's output that is dropped in training on its own way
    to the model's (`Readout`). similarity: "cosine" or "l2" (the negative squared distance).
    access_threshold: the paper's
    delta, above which a read or write counts as an access. seed: for the index's random choices.
    checkpoint: "dp" keeps at most `checkpoint_mib` MiB of what the controller computes, and
    computes the rest again during the backward pass; the memory, its index and its links are not
    asked a second time. What grows with T beside them, about H (K + 3) W numbers a step, is outside
    this budget: the journal that rolls the memory back, the words read, their slots and weights.

    Runs on the CPU, in float32 or float64.
    """

    num_modes = 0  # ways to read beside content: a head's parameters hold so many numbers more
    state_type: type[SAMState] = SAMState
    recorder: Recorder | None = None  # while `sam.record_trace` records this model

    def __init__(
        self,
        input_size: int,
        output_size: int,
        *,
        memory_size: int = 1024,
        word_size: int = 32,
        num_heads: int = 4,
        k: int = 4,
        hidden_size: int = 100,
        ann: Any = "exact",
        key_strength: bool = True,
        aligned_queries: float = 0.0,
        similarity: str = "cosine",
        access_threshold: float = 0.005,
        seed: int = 0,
        batch_first: bool = False,
        one_hot_inputs: bool = False,
        bypass_dropout: float = 0.0,
        checkpoint: str | None = None,
        checkpoint_mib: float | None = None,
    ) -> None:
        checks.flags(key_strength=key_strength)
        checks.positive_sizes(word_size=word_size, num_heads=num_heads)
        super().__init__(
            input_size,
            output_size,
            memory_size=memory_size,
            word_size=word_size,
            num_heads=num_heads,
            interface_size=num_heads * (2 * word_size + 2 + self.num_modes + key_strength),
            hidden_size=hidden_size,
            batch_first=batch_first,
            one_hot_inputs=one_hot_inputs,
            bypass_dropout=bypass_dropout,
            checkpoint=checkpoint,
            checkpoint_mib=checkpoint_mib,
        )
        checks.positive_sizes(k=k)
        if max(k, num_heads) > memory_size:
            name = "k" if k > memory_size else "num_heads"
            raise ValueError(
                f"{name}: got {max(k, num_heads)}, expected at most memory_size={memory_size}"
            )
        if similarity not in ("cosine", "l2"):
            raise ValueError(f"similarity: got {similarity!r}, expected 'cosine' or 'l2'")
        checks.number("access_threshold", access_threshold, "[0, inf)")
        checks.integer("seed", seed, 0, 2**63 - 1)
        if key_strength:
            self.sharpen_first_reads()
        self.align_first_queries(aligned_queries)
        self.k = k
        self.key_strength = key_strength
        self.ann = ann_backends.resolve(ann)
        self.similarity = similarity
        self.access_threshold = access_threshold
        self.seed = seed

    @property
    def signature(self) -> tuple[tuple[str, Any], ...]:
        return (*super().signature, ("k", self.k), ("similarity", self.similarity))

    def initial_state(self, batch_size: int, memory: Tensor | None = None) -> SAMState:
        """The state before the first step, with an empty memory or a copy of the given one.

        memory: [N, W] for the whole batch, or [B, N, W]. Every row of it counts as written. If it
        requires a gradient, it receives a dense one.
        """
        checks.positive_sizes(batch_size=batch_size)
        self._check_place()
        shape = (batch_size, self.memory_size, self.word_size)
        if memory is None:
            dtype = np.dtype(str(self._like.dtype).removeprefix("torch."))
            links = self._make_links(batch_size, dtype)
            version = Store.zeros(shape, dtype, self._make_index, links)
            token = self._zeros(1)
        else:
            self._check_memory(memory, batch_size)
            rows = memory.detach().expand(shape).numpy().copy()
            links = self._make_links(batch_size, rows.dtype)
            version = Store.full(rows, self._make_index, links)
            token = Load.apply(memory, version)
        reads = (batch_size, self.num_heads, self.k)
        return self.state_type(
            signature=self.signature,
            hidden=self._zeros(batch_size, self.hidden_size),
            cell=self._zeros(batch_size, self.hidden_size),
            read_words=self._zeros(batch_size, self.num_heads, self.word_size),
            read_slots=torch.full(reads, NONE),
            read_weights=self._zeros(*reads),
            token=token,
            version=version,
        )

    def _check_place(self) -> None:
        like = self._like
        if like.device.type != "cpu" or like.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"model: got {like.dtype} on {like.device}, expected SAM in float32 or float64 on "
                "the CPU, where its index and its sparse memory live"
            )

    def _make_index(self, memory: np.ndarray, findable: str) -> ann_backends.Index:
        return ann_backends.create(
            self.ann, memory=memory, seed=self.seed, metric=self.similarity, findable=findable
        )

    def _make_links(self, batch_size: int, dtype: np.dtype) -> Links | None:
        """The temporal links of new memories, if the model keeps any."""
        return None

    def _settings(self) -> Settings:
        return Settings(
            word_size=self.word_size,
            threshold=self.access_threshold,
            cosine=self.similarity == "cosine",
            key_strength=self.key_strength,
            has_modes=self.num_modes > 0,
        )

    def unroll(self, inputs: Tensor, state: SAMState) -> tuple[Tensor, SAMState]:
        if torch.is_grad_enabled():
            return self._unroll_piece(inputs, state)
        outputs = []
        for piece in inputs.split(STEPS_WITHOUT_GRADIENT):
            output, state = self._unroll_piece(piece, state)
            outputs.append(output)
        return torch.cat(outputs), state

    def _unroll_piece(self, inputs: Tensor, state: SAMState) -> tuple[Tensor, SAMState]:
        outputs, *after = Unroll.apply(
            inputs,
            *self._parts_of(state),
            state.version,
            self._settings(),
            self.recorder,
            *self._weights(),
        )
        return self.output(outputs), self._state_of(state, *after)

    def costs(self, batch_size: int) -> Costs:
        """What `checkpoint_mib` is spent on."""
        reads = self.num_heads * self.word_size
        sizes = (self.hidden_size, reads, len(self.interface.bias))
        return costs_of(batch_size, sizes, self.num_heads * self.k, self._like.itemsize)

    def unroll_by_plan(
        self, plan: Schedule, inputs: Tensor, state: SAMState
    ) -> tuple[Tensor, SAMState]:
        """`unroll`, of whose activations only those that the plan says are kept."""
        outputs, *after = UnrollByPlan.apply(
            Call(state.version, self._settings(), self.recorder, plan),
            inputs,
            *self._parts_of(state),
            self.output.weight,
            self.output.bias,
            *self._weights(),
        )
        return outputs, self._state_of(state, *after)

    def _parts_of(self, state: SAMState) -> tuple[Tensor, ...]:
        """As `Unroll` takes them."""
        return (
            state.hidden,
            state.cell,
            state.read_words,
            state.read_weights,
            state.token,
            state.read_slots,
        )

    def _weights(self) -> Weights:
        controller, interface = self.controller, self.interface
        return Weights(
            controller.weight_ih,
            controller.weight_hh,
            controller.bias_ih,
            controller.bias_hh,
            interface.weight,
            interface.bias,
        )

    def _state_of(
        self,
        before: SAMState,
        hidden: Tensor,
        cell: Tensor,
        read_words: Tensor,
        read_weights: Tensor,
        token: Tensor,
        read_slots: Tensor,
        version: Version,
    ) -> SAMState:
        """The next state, from what `Unroll` returns of it."""
        return self.state_type(
            signature=before.signature,
            hidden=hidden,
            cell=cell,
            read_words=read_words,
            read_slots=read_slots,
            read_weights=read_weights,
            token=token,
            version=version,
        )
