"""The recurrent state of a model: a value, and what can be done with one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, Self

import torch
from torch import Tensor

Source = tuple[int, int] | None  # which of some states, and which element of its batch; None: empty


@dataclasses.dataclass(frozen=True, eq=False)
class State:
    """The recurrent state of one model, a value: a call takes one and returns the next.

    A state never changes, whatever is done with it, with copies of it or with other states, in
    whichever thread. It can be copied, pickled and saved. `signature` says which sizes it was made
    for, so that a model refuses another model's state.
    """

    signature: tuple[tuple[str, Any], ...] = dataclasses.field(repr=False)
    hidden: Tensor  # [B, C], the controller's h_t
    cell: Tensor  # [B, C], the controller's c_t

    @property
    def batch_size(self) -> int:
        return self.hidden.shape[0]

    def detach(self) -> Self:
        """The same state, cut from the graph that computed it (truncated BPTT goes on from it)."""
        parts: dict[str, Any] = {
            name: part.detach() if isinstance(part, Tensor) else part
            for name, part in vars(self).items()
        }
        return type(self)(**parts)

    def select(self, indices: Tensor | Sequence[int]) -> Self:
        """The state of some elements of the batch, in the order given.

        Beam search reorders and repeats its hypotheses so; finished sequences are left out.
        Gradients flow back to the elements that were selected.

        Args:
            indices: integers [n], n >= 1, each from 0 to B - 1; one may come more than once.

        Returns:
            A state of batch size n.

        Raises:
            TypeError, ValueError: `indices` are not of that form.
        """
        return self._gather([self], [(0, i) for i in _indices(indices, self.batch_size)])

    def reset(self, mask: Tensor | Sequence[bool], start: Self | None = None) -> Self:
        """This state, but with some elements of the batch as before their first step.

        Args:
            mask: bool [B], true for the elements to reset.
            start: what they are reset to, a state of batch size B or 1, such as
                `model.initial_state(1, memory=words)`. None: an empty start.

        Returns:
            A state of batch size B. No gradient flows back from the elements that were reset
            without `start`.

        Raises:
            TypeError, ValueError: an argument is not of that form.
        """
        reset = _mask(mask, self.batch_size)
        if start is None:
            return self._gather([self], [None if r else (0, i) for i, r in enumerate(reset)])
        self._check_alike("start", start)
        if start.batch_size not in (1, self.batch_size):
            raise ValueError(
                f"start: got batch size {start.batch_size}, expected 1 or {self.batch_size}"
            )
        step = start.batch_size > 1
        return self._gather(
            [self, start], [(1, i * step) if r else (0, i) for i, r in enumerate(reset)]
        )

    @staticmethod
    def cat(states: Iterable[State]) -> Any:
        """One state with the elements of several, one state's after the other's.

        Args:
            states: at least one, all made for the same model and on the same device.

        Returns:
            A state whose batch size is the sum of theirs. Gradients flow back to each.

        Raises:
            TypeError, ValueError: `states` are not of that form.
        """
        states = list(states)
        if not states:
            raise ValueError("states: got none, expected at least one")
        for i, state in enumerate(states):
            if not isinstance(state, State):
                raise TypeError(f"states[{i}]: got {type(state).__name__}, expected a state")
            states[0]._check_alike(f"states[{i}]", state)
        sources = [(i, b) for i, state in enumerate(states) for b in range(state.batch_size)]
        return states[0]._gather(states, sources)

    def state_dict(self) -> dict[str, Any]:
        """All of it as tensors, numbers and strings: `model.state_from_dict` takes it back.

        `torch.load` reads a saved one with `weights_only=True`. Gradients are not kept.
        """
        return {"signature": signature_of(self)} | {
            name: part.detach().clone() if isinstance(part, Tensor) else part
            for name, part in self._parts().items()
        }

    def load_state_dict(self, saved: dict[str, Any]) -> Self:
        """The state that `saved`, of a `state_dict`, holds; `self` is one of equal sizes.

        Raises:
            ValueError: a part is missing, or has another shape or dtype.
        """
        parts = self._parts()
        for name, part in parts.items():
            came = saved.get(name)
            if isinstance(part, Tensor):
                parts[name] = saved_tensor(name, came, part).to(part.device)
            elif type(came) is not type(part):
                raise ValueError(f"{name}: got {came!r}, expected as {part!r}")
            else:
                parts[name] = came
        return dataclasses.replace(self, **parts)

    def _gather(self, states: Sequence[Self], sources: Sequence[Source]) -> Self:
        """A state each of whose elements is one of another state's, or empty."""
        starts = [0]
        for state in states:
            starts.append(starts[-1] + state.batch_size)
        places = [starts[-1] if s is None else starts[s[0]] + s[1] for s in sources]
        index = torch.tensor(places, device=self.hidden.device)
        empty = self._empty() if None in sources else {}
        tensors: dict[str, Any] = {}
        for name in self._tensors():
            rows = [getattr(state, name) for state in states]
            if empty:
                rows.append(empty[name])
            tensors[name] = (rows[0] if len(rows) == 1 else torch.cat(rows)).index_select(0, index)
        return dataclasses.replace(self, **tensors)

    def _empty(self) -> dict[str, Tensor]:
        """The tensors of one element, [1, ...], before its first step."""
        return {name: torch.zeros_like(part[:1]) for name, part in self._tensors().items()}

    def _parts(self) -> dict[str, Any]:
        """What stands for itself: all fields but the signature."""
        fields = dataclasses.fields(self)
        return {each.name: getattr(self, each.name) for each in fields if each.name != "signature"}

    def _tensors(self) -> dict[str, Tensor]:
        """Those whose first axis is the batch."""
        return {name: part for name, part in self._parts().items() if isinstance(part, Tensor)}

    def _check_alike(self, name: str, other: object) -> None:
        if type(other) is not type(self):
            expected = type(self).__name__
            raise TypeError(f"{name}: got {type(other).__name__}, expected a {expected}")
        if other.signature != self.signature:
            came, expected = describe(other.signature), describe(self.signature)
            raise ValueError(f"{name}: got one made for ({came}), expected one for ({expected})")
        if other.hidden.device != self.hidden.device:
            came, expected = str(other.hidden.device), str(self.hidden.device)
            raise ValueError(f"{name}: got device {came}, expected {expected}")


def load_state_dict(model: Any, saved: object) -> Any:
    """The state of a model that `saved`, of a `state_dict`, holds. Raises ValueError, TypeError."""
    if not isinstance(saved, dict) or not isinstance(saved.get("hidden"), Tensor):
        raise TypeError(
            f"saved: got {type(saved).__name__}, expected a dict that state.state_dict() gave"
        )
    expected = signature_of(model)
    if saved.get("signature") != expected:
        raise ValueError(f"saved: got one made for {saved.get('signature')}, expected {expected}")
    if saved["hidden"].dim() != 2 or not len(saved["hidden"]):
        raise ValueError(f"hidden: got shape {list(saved['hidden'].shape)}, expected [B, C]")
    return model.initial_state(len(saved["hidden"])).load_state_dict(saved)


def signature_of(owner: Any) -> dict[str, str]:
    """The signature of a state or model as a dict of strings."""
    return {name: str(value) for name, value in owner.signature}


def saved_tensor(name: str, came: object, like: Tensor) -> Tensor:
    """`came`, if it is a tensor of like's shape and dtype."""
    if not isinstance(came, Tensor):
        raise ValueError(f"{name}: got {type(came).__name__}, expected a tensor")
    if came.shape != like.shape or came.dtype != like.dtype:
        raise ValueError(
            f"{name}: got {came.dtype} {list(came.shape)}, expected {like.dtype} {list(like.shape)}"
        )
    return came


def describe(signature: tuple[tuple[str, Any], ...]) -> str:
    return ", ".join(f"{name}={value}" for name, value in signature)


def _indices(indices: object, batch_size: int) -> list[int]:
    """As a list, checked."""
    expected = f"expected integers [n], n >= 1, from 0 to {batch_size - 1}"
    try:
        listed = torch.as_tensor(indices, device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"indices: got {type(indices).__name__} ({error}), {expected}") from error
    if listed.dim() != 1 or not len(listed):
        raise ValueError(f"indices: got shape {list(listed.shape)}, {expected}")
    if listed.dtype == torch.bool or listed.is_floating_point() or listed.is_complex():
        raise TypeError(f"indices: got dtype {listed.dtype}, {expected}")
    if not 0 <= int(listed.min()) <= int(listed.max()) < batch_size:
        raise ValueError(f"indices: got {listed.tolist()}, {expected}")
    return [int(i) for i in listed]


def _mask(mask: object, batch_size: int) -> list[bool]:
    """As a list, checked."""
    expected = f"expected bool [{batch_size}]"
    try:
        listed = torch.as_tensor(mask, device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"mask: got {type(mask).__name__} ({error}), {expected}") from error
    if listed.dtype != torch.bool:
        raise TypeError(f"mask: got dtype {listed.dtype}, {expected}")
    if listed.shape != (batch_size,):
        raise ValueError(f"mask: got shape {list(listed.shape)}, {expected}")
    return [bool(m) for m in listed]
