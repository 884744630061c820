"""Copies of indexes: over another memory, in a file, and of single elements."""

from __future__ import annotations

import abc
import copy
from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

from ann_backends import checks
from ann_backends.log import Log, Touched

# What a state says of the index that it is of, and must be the same in one that loads it.
SAME = ("name", "metric", "seed", "shape", "dtype")


class Copied(abc.ABC):
    """What is copied of an `Index`, which says what all of this is, and the ways to do it."""

    growing: ClassVar[frozenset[str]]

    settings: Any
    memory: np.ndarray
    seed: int
    metric: str
    batch_size: int
    memory_size: int
    _given: npt.ArrayLike
    _lazy: bool
    _insertions: np.ndarray
    _rebuilds: int
    _open_log: Log | None
    _tracked_rows: np.ndarray

    @abc.abstractmethod
    def update(self, slots: npt.ArrayLike) -> None:
        """See `Index`."""

    @abc.abstractmethod
    def remove(self, slots: npt.ArrayLike) -> None:
        """See `Index`."""

    @abc.abstractmethod
    def reset(self) -> None:
        """See `Index`."""

    @abc.abstractmethod
    def _structure(self) -> dict[str, np.ndarray]: ...

    @abc.abstractmethod
    def _take_element(self, element: int, part: dict[str, np.ndarray]) -> None: ...

    @abc.abstractmethod
    def _element_problem(self, element: int) -> str: ...

    @abc.abstractmethod
    def _fill(self) -> None: ...

    @abc.abstractmethod
    def _update(self, slots: np.ndarray) -> None: ...

    def state_dict(self) -> dict[str, Any]:
        """The index without its memory: copied arrays, strings, numbers and dicts of them.

        What may be assigned, such as `checks`, is no part of it, as settings are not.
        """
        return {
            **_described(self),
            "rebuilds": self._rebuilds,
            "insertions": self._insertions.copy(),
            "structure": {name: array.copy() for name, array in self._structure().items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Become the index that `state`, from `state_dict`, is of; the rows are those it had.

        Settings, seed, metric and the memory's shape and dtype must be those of that index. Arrays
        may be CPU tensors as well. What does not fit, or does not hang together, raises ValueError
        and changes nothing.
        """
        _load(self, state)

    def __copy__(self: T) -> T:
        return _copied(self, self._given)

    def __deepcopy__(self: T, memo: dict[int, Any]) -> T:
        made = _copied(self, _copied_memory(self._given, memo))
        memo[id(self)] = made
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        how = self.settings, self._given, self.seed, self.metric, self._lazy, _assigned(self)
        return _restored, (type(self), *how, self.state_dict())

    def _announce(self, touched: Touched) -> None:
        """Make those rows findable, as they are now, that were so on the other side; no others."""
        now = self._tracked_rows.reshape(-1)[touched.places]
        self.update(_by_element(self, touched.places[touched.findable]))
        self.remove(_by_element(self, touched.places[~touched.findable]))
        touched.findable = now


T = TypeVar("T", bound=Copied)


def given(memory: Any) -> Any:
    """What an owner's memory is known by, so that both are copied as one: itself.

    Not the result of an operation of autograd, which cannot be copied and keeps its graph.
    """
    return memory if getattr(memory, "is_leaf", True) else memory.detach()


def gather(memory: npt.ArrayLike, sources: Sequence[tuple[T, int] | None], like: T) -> T:
    """An index over `memory` whose elements are copies of elements of other indexes.

    memory: [B, N, W], the rows of the copied elements in their places already. sources: for each
    of the B elements the index and the number of the element that it is a copy of; None for one
    with no findable row. like: says the settings, seed, metric and what is assigned, such as
    `checks`; all sources must agree with it in settings, seed, metric, dtype, N and W.

    An element of a reversible backend (see `Settings`) is copied to the bit, and answers there as
    it did. Elements of others are built anew from the rows that were findable.
    """
    if not isinstance(like, Copied):
        raise TypeError(f"like: got {type(like).__name__}, expected an index")
    rows = checks.memory(memory)
    wanted = (len(sources), *like.memory.shape[1:])
    if rows.shape != wanted or rows.dtype != like.memory.dtype:
        raise ValueError(
            f"memory: got {rows.dtype} {list(rows.shape)}, "
            f"expected {like.memory.dtype} {list(wanted)} for {len(sources)} sources"
        )
    for source in sources:
        if source is not None:
            _check_source(source, like)
    lazy = all(source is None or source[0]._lazy for source in sources)
    made = _empty(like, memory, lazy)
    for element, source in enumerate(sources):
        if source is not None:
            index, number = source
            made._take_element(
                element, {n: array[number] for n, array in index._structure().items()}
            )
            made._insertions[element] = index._insertions[number]
    _index_tracked(made)
    return made


def _copied(index: T, memory: npt.ArrayLike) -> T:
    """The same index over `memory`, which holds the same rows."""
    made = gather(memory, [(index, b) for b in range(index.batch_size)], index)
    made._rebuilds = index._rebuilds
    return made


def _load(index: Copied, state: dict[str, Any]) -> None:
    """See `Copied.load_state_dict`."""
    if index._open_log is not None:
        raise RuntimeError("load_state_dict: got an index whose log is open")
    own = _described(index)
    for name in SAME:
        if state.get(name) != own[name]:
            raise ValueError(f"state: got {name} {state.get(name)!r}, expected {own[name]!r}")
    made = _empty(index, index._given, index._lazy)
    structure = _arrays_like(made._structure(), state.get("structure"), made.growing)
    insertions = _arrays_like({"insertions": made._insertions}, state, frozenset())
    for element in range(made.batch_size):
        made._take_element(element, {name: array[element] for name, array in structure.items()})
        problem = made._element_problem(element)
        if problem:
            raise ValueError(f"state: got {problem} in element {element}, expected a sound index")
    made._insertions[:] = insertions["insertions"]
    made._rebuilds = checks.integer("state['rebuilds']", state.get("rebuilds"), 0, 2**62)
    _index_tracked(made)
    vars(index).update(vars(made))


def _index_tracked(index: Copied) -> None:
    """Build an index that is not reversible, and empty, over the rows known to be findable."""
    if index.settings.reversible:
        return
    index._insertions[:] = 0
    if index._tracked_rows.all():
        index._fill()
    else:
        index._update(_by_element(index, np.flatnonzero(index._tracked_rows)))


def _by_element(index: Copied, places: np.ndarray) -> np.ndarray:
    """Ascending places, each element * N + slot, as slots [B, n] with -1 for padding."""
    element, slot = np.divmod(places, index.memory_size)
    counts = np.bincount(element, minlength=index.batch_size)
    slots = np.full((index.batch_size, counts.max()), -1, np.int64)
    slots[np.arange(slots.shape[1]) < counts[:, None]] = slot
    return slots


def _copied_memory(given: Any, memo: dict[int, Any]) -> Any:
    """A deep copy. Of an array that shows all of another, as a view, that one is copied with it."""
    shown = given
    while type(shown) is np.ndarray and shown.base is not None:
        if not (type(shown.base) is np.ndarray or hasattr(shown.base, "detach")):
            break
        shown = shown.base
    if id(given) in memo or shown is given or shown.nbytes != given.nbytes:
        return copy.deepcopy(given, memo)
    array = checks.as_array("memory", copy.deepcopy(shown, memo))
    if not array.flags.c_contiguous:
        return copy.deepcopy(given, memo)
    memo[id(given)] = array.reshape(-1).view(given.dtype).reshape(given.shape)
    return memo[id(given)]


def _empty(like: T, memory: npt.ArrayLike, lazy: bool) -> T:
    """An index as `like` is, with nothing in it. lazy: whether its arrays are lazily resident."""
    return _built(type(like), like.settings, memory, like.seed, like.metric, lazy, _assigned(like))


def _built(
    kind: type[T],
    settings: Any,
    memory: npt.ArrayLike,
    seed: int,
    metric: str,
    lazy: bool,
    assigned: dict[str, Any],
) -> T:
    made = settings.build(memory, seed=seed, metric=metric, findable="none")
    if type(made) is not kind:
        raise TypeError(
            f"settings: got {type(settings).__name__}, whose build gives {type(made).__name__}, "
            f"expected one that gives {kind.__name__}, which is to be copied"
        )
    for name, value in assigned.items():
        setattr(made, name, value)
    if not lazy:
        made._lazy = False
        made.reset()
    return made


def _restored(*given: Any) -> Copied:
    """The index that was pickled."""
    *how, state = given
    made = _built(*how)
    made.load_state_dict(state)
    return made


def _assigned(index: Copied) -> dict[str, Any]:
    """The values of all that may be assigned: the properties of its class that can be set."""
    names = [n for kind in type(index).__mro__ for n, v in vars(kind).items() if _settable(v)]
    return {name: getattr(index, name) for name in dict.fromkeys(names)}


def _settable(value: object) -> bool:
    return isinstance(value, property) and value.fset is not None


def _described(index: Copied) -> dict[str, Any]:
    return {
        "name": index.settings.name,
        "metric": index.metric,
        "seed": index.seed,
        "shape": list(index.memory.shape),
        "dtype": str(index.memory.dtype),
    }


def _check_source(source: Any, like: Copied) -> None:
    try:
        index, element = source
    except (TypeError, ValueError):
        index = None
    if not isinstance(index, Copied):
        what = type(source).__name__
        raise TypeError(f"sources: got {what} as one of them, expected (index, element) or None")
    checks.integer("sources", element, 0, index.batch_size - 1)
    for name, got, expected in (
        ("settings", index.settings, like.settings),
        ("seed", index.seed, like.seed),
        ("metric", index.metric, like.metric),
        ("dtype", index.memory.dtype, like.memory.dtype),
        ("memory", list(index.memory.shape[1:]), list(like.memory.shape[1:])),
    ):
        if got != expected:
            raise ValueError(f"sources: got an index with {name} {got}, expected {expected}")


def _arrays_like(
    own: dict[str, np.ndarray], given: Any, growing: frozenset[str]
) -> dict[str, np.ndarray]:
    """The arrays of `given` with the names of `own`, whose dtypes and shapes they must have."""
    if not isinstance(given, dict):
        raise ValueError(f"state: got {type(given).__name__} for its structure, expected a dict")
    arrays = {}
    for name, expected in own.items():
        if name not in given:
            raise ValueError(f"state: got no {name!r}, expected an array")
        array = np.ascontiguousarray(checks.as_array(f"state[{name!r}]", given[name]))
        wanted = list(expected.shape)
        if name in growing and array.ndim > 1:
            wanted[1] = array.shape[1]
        if array.dtype != expected.dtype or list(array.shape) != wanted:
            raise ValueError(
                f"state[{name!r}]: got {array.dtype} {list(array.shape)}, "
                f"expected {expected.dtype} {wanted}"
            )
        arrays[name] = array
    return arrays
