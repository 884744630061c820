"""Sparse Access Memory (Rae et al. 2016): reads and writes a few words, found by an index."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

import ann_backends
from sam import checks, room
from sam.model import MemoryModel
from sam.recompute.costs import Costs
from sam.recompute.schedule import Schedule
from sam.sparse import saved as saved_store
from sam.sparse.access import Settings
from sam.sparse.contents import Gather, Load, Look
from sam.sparse.journal import NONE
from sam.sparse.links import Links
from sam.sparse.parts import check_parts
from sam.sparse.plain import LINEAR, LSTM_CELL, READOUT, Kind, difference, weights_of
from sam.sparse.recompute import Call, UnrollByPlan, costs_of
from sam.sparse.record import Recorder
from sam.sparse.step_function import Step
from sam.sparse.store import Version, empty, full, gather
from sam.sparse.unroll import Unroll, Weights
from sam.state import Source, State
from sam.tracing import opaque

# Without a gradient, nothing is kept of a step; so many steps share the cost of a call.
STEPS_WITHOUT_GRADIENT = 256

MOST_SLOTS = 2**31 - 1  # as the usage ring and the links number them


@dataclasses.dataclass(frozen=True, eq=False)
class SAMState(State):
    """The state of a SAM between two steps.

    Although the memory is changed in place, a state stays what it is: using an older one again
    takes the memory back to it, in time proportional to the steps in between, and the newer ones
    can be used again as well. A state that is held holds the journal of those steps, about
    H (K + 1) words per step and memory; one that is dropped holds nothing. Threads that use states
    of one memory take turns. A copy, as of `copy.deepcopy`, `pickle`, `select`, `reset` and `cat`,
    has a memory of its own, made in time proportional to N.
    """

    read_words: Tensor  # [B, H, W], r_t
    read_slots: Tensor  # int64 [B, H, K], the slots of w^R_t; -1 before the first step
    read_weights: Tensor  # [B, H, K], w^R_t
    token: Tensor = dataclasses.field(repr=False)  # orders the passes for autograd
    version: Version = dataclasses.field(repr=False)

    @property
    def memory(self) -> Tensor:
        """M_t, [B, N, W]: a copy, and part of autograd's graph as the memory itself is."""
        memory: Tensor = Look.apply(self.token, self.version)
        return memory

    def state_dict(self) -> dict[str, Any]:
        with self.version.store.standing_at(self.version) as store:
            return super().state_dict() | saved_store.to_dict(store)

    def load_state_dict(self, saved: dict[str, Any]) -> Self:
        state = super().load_state_dict(saved)
        memory_size = self.version.store.memory.shape[1]
        if not ((state.read_slots >= NONE) & (state.read_slots < memory_size)).all():
            expected = f"expected slots from 0 to {memory_size - 1}, or -1 for none"
            raise ValueError(f"read_slots: got {state.read_slots.tolist()}, {expected}")
        return dataclasses.replace(state, version=saved_store.from_dict(saved, self.version.store))

    def _parts(self) -> dict[str, Any]:
        """All but the memory, and what stands for it in autograd's graph."""
        parts = super()._parts()
        del parts["token"], parts["version"]
        return parts

    def _empty(self) -> dict[str, Tensor]:
        return super()._empty() | {"read_slots": torch.full_like(self.read_slots[:1], NONE)}

    def _gather(self, states: Sequence[Self], sources: Sequence[Source]) -> Self:
        versions = [state.version for state in states]
        version = gather(versions, sources)
        token = Gather.apply(version, versions, sources, *(state.token for state in states))
        gathered = super()._gather(states, sources)
        return dataclasses.replace(gathered, token=token, version=version)


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

    All steps of a call run as one, on the weights of `controller` and `interface`. Where something
    hangs on the call of these layers (hooks, adapters, pruning, quantisation, a layer in their
    place), they are called step by step, which takes longer; not beside a `checkpoint`.

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
        word_size, num_heads, k = checks.positive_sizes(
            word_size=word_size, num_heads=num_heads, k=k
        )
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
        if max(k, num_heads) > self.memory_size:
            name = "k" if k > self.memory_size else "num_heads"
            raise ValueError(
                f"{name}: got {room.about(max(k, num_heads))}, expected at most "
                f"memory_size={self.memory_size}"
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

    @opaque
    def initial_state(self, batch_size: int, memory: Tensor | None = None) -> SAMState:
        """The state before the first step, with an empty memory or a copy of the given one.

        memory: [N, W] for the whole batch, or [B, N, W]. Every row of it counts as written. If it
        requires a gradient, it receives a dense one.
        """
        (batch_size,) = checks.positive_sizes(batch_size=batch_size)
        self._check_place(self._like)
        shape = (batch_size, self.memory_size, self.word_size)
        reads = (batch_size, self.num_heads, self.k)
        with self._reserving(batch_size):
            if memory is None:
                dtype = np.dtype(str(self._like.dtype).removeprefix("torch."))
                links = self._make_links(batch_size, dtype)
                version = empty(shape, dtype, self._make_index, links)
                token = self._zeros(1)
            else:
                memory = self._checked_memory(memory, batch_size)
                rows = memory.detach().resolve_neg().expand(shape).numpy().copy()
                links = self._make_links(batch_size, rows.dtype)
                version = full(rows, self._make_index, links)
                token = Load.apply(memory, version)
        return self.state_type(
            signature=self.signature,
            hidden=self._zeros(batch_size, self.hidden_size),
            cell=self._zeros(batch_size, self.hidden_size),
            read_words=self._zeros(batch_size, self.num_heads, self.word_size),
            read_slots=torch.full(reads, NONE, device="cpu"),
            read_weights=self._zeros(*reads),
            token=token,
            version=version,
        )

    def _reserving(self, batch_size: int) -> contextlib.AbstractContextManager[None]:
        """For the block that reserves the memories; refuses sizes that no memory can have."""
        like, sizes = self._like, {"batch_size": batch_size, **self._sizes()}
        reads = self.num_heads * (self.word_size + 2 * self.k)
        numbers = batch_size * (2 * self.hidden_size + reads)
        room.check("a state", numbers * like.itemsize, like.device, **sizes)
        needed = batch_size * self.memory_size * self._bytes_of_slot(like.itemsize)
        if self.memory_size > MOST_SLOTS:
            room.check("the memory", needed, like.device, **sizes)
            raise ValueError(
                f"memory_size: got {self.memory_size}, expected at most {MOST_SLOTS}: a slot's "
                "number has 32 bits"
            )
        return room.reserving("the memory", needed, **sizes)

    def _sizes(self) -> dict[str, int]:
        """On which a state's size depends, beside that of the batch."""
        names = ("memory_size", "word_size", "num_heads", "k", "hidden_size")
        return {name: getattr(self, name) for name in names}

    def _bytes_of_slot(self, number: int) -> int:
        """What the store reserves for each: its word, its place in the usage ring, a flag."""
        return self.word_size * number + 2 * 4 + 1

    def _check_place(self, like: Tensor) -> None:
        if like.device.type != "cpu" or like.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"model: got {like.dtype} on {like.device}, expected SAM in float32 or float64 on "
                "the CPU, where its index and its sparse memory live"
            )

    def _check_state(self, state: Any, batch_size: int, like: Tensor) -> None:
        super()._check_state(state, batch_size, like)
        check_parts(state, (batch_size, self.num_heads, self.k), self.memory_size, like)

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
        weights = self._weights()
        if weights is None:
            return super().unroll(inputs, state)
        if torch.is_grad_enabled():
            return self._unroll_piece(inputs, state, weights)
        outputs = []
        for piece in inputs.split(STEPS_WITHOUT_GRADIENT):
            output, state = self._unroll_piece(piece, state, weights)
            outputs.append(output)
        return torch.cat(outputs), state

    def access(self, hidden: Tensor, cell: Tensor, state: SAMState) -> SAMState:
        read_words, *after = Step.apply(
            self._head_parameters(hidden).unflatten(1, (self.num_heads, -1)),
            state.read_weights,
            state.token,
            state.read_slots,
            state.version,
            self._settings(),
            self.recorder,
        )
        return self._state_of(state, hidden, cell, read_words, *after)

    def _weights(self) -> Weights | None:
        """Of the layers that feed the memory, if those do for calling them; else None."""
        kinds = self._kinds()
        controller = weights_of(self.controller, *kinds["controller"])
        if controller is None:
            return None
        interface = weights_of(self.interface, *kinds["interface"])
        return None if interface is None else Weights(*controller, *interface)

    def _kinds(self) -> dict[str, tuple[Kind, int]]:
        """Of each layer, as the model made it, and how many numbers its first weight has."""
        hidden, reads = self.hidden_size, self.num_heads * self.word_size
        return {
            "controller": (LSTM_CELL, 4 * hidden * (self.input_size + reads)),
            "interface": (LINEAR, self.interface_size * hidden),
            "output": (READOUT, self.output_size * (hidden + reads)),
        }

    def _unroll_piece(
        self, inputs: Tensor, state: SAMState, weights: Weights
    ) -> tuple[Tensor, SAMState]:
        outputs, *after = Unroll.apply(
            inputs,
            *self._parts_of(state),
            state.version,
            self._settings(),
            self.recorder,
            *weights,
        )
        return self.output(outputs), self._state_of(state, *after)

    def costs(self, batch_size: int) -> Costs:
        """What `checkpoint_mib` is spent on.

        Raises ValueError for a model whose layers have to be called: a plan takes their weights.
        """
        for name, (kind, numbers) in self._kinds().items():
            layer = self.get_submodule(name)
            if weights_of(layer, kind, numbers) is None:
                raise ValueError(
                    f"checkpoint: got {self.checkpoint!r} with {difference(name, layer, kind)}, "
                    "expected None, or layers as the model made them: steps that are made again "
                    "do not call them"
                )
        reads = self.num_heads * self.word_size
        sizes = (self.hidden_size, reads, self.interface_size)
        return costs_of(batch_size, sizes, self.num_heads * self.k, self._like.itemsize)

    def unroll_by_plan(
        self, plan: Schedule, inputs: Tensor, state: SAMState
    ) -> tuple[Tensor, SAMState]:
        """`unroll`, of whose activations only those that the plan says are kept."""
        weights = self._weights()
        assert weights is not None, "the costs of a model whose layers are called are not known"
        outputs, *after = UnrollByPlan.apply(
            Call(state.version, self._settings(), self.recorder, plan),
            inputs,
            *self._parts_of(state),
            self.output.weight,
            self.output.bias,
            *weights,
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
