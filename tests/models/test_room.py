"""Sizes: NumPy's integers, and what there is no room for."""

import errno

import numpy as np
import pytest
import torch

import sam
from sam import room
from sam.models import MODELS

SPARSE = ("sam", "sdnc")
ROOM = r"expected a size that there is room for: .* would take [\d.e]+ bytes, and there are \d+"


def sizes_of(name):
    sizes = {"input_size": 5, "output_size": 4, "hidden_size": 12}
    if name != "lstm":
        sizes |= {"memory_size": 16, "word_size": 6, "num_heads": 2}
    if name in SPARSE:
        sizes |= {"k": 3}
    if name == "sdnc":
        sizes |= {"link_size": 4}
    return sizes


CASES = [(name, size) for name in MODELS for size in [*sizes_of(name), "batch_size"]]


@pytest.mark.parametrize(("name", "size"), CASES)
@pytest.mark.parametrize("power", [10, 12, 18, 30, 400, 5000])
def test_a_size_without_room_is_named(name, size, power):
    sizes, huge = sizes_of(name), 10**power
    if size != "batch_size":
        sizes[size] = huge
    if size in ("k", "num_heads"):
        sizes["memory_size"] = huge
    # Equal sizes: the first is named.
    named = "memory_size" if size == "k" else size
    got = huge if power < 15 else f"1e{power}"
    with pytest.raises(ValueError, match=f"^{named}: got {got} beside .*{ROOM}$"):
        sam.build(name, **sizes).initial_state(huge if size == "batch_size" else 1)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    "integer", [np.int64, np.int32, np.uint8, torch.tensor], ids=lambda kind: kind.__name__
)
def test_other_integers_are_sizes(name, integer):
    plain = sam.build(name, **sizes_of(name))
    model = sam.build(name, **{size: integer(value) for size, value in sizes_of(name).items()})
    assert plain.signature == model.signature
    for size in sizes_of(name):
        assert type(getattr(model, size)) is int
    model.load_state_dict(plain.state_dict())
    inputs = torch.randn(3, 2, 5)
    state = model.initial_state(integer(2))
    assert torch.equal(model(inputs, state)[0], plain(inputs)[0])


@pytest.mark.parametrize(("name", "size"), [case for case in CASES if case[1] != "batch_size"])
@pytest.mark.parametrize("value", [True, np.bool_(True), 2.0, np.float64(2), "2", None, [2]])
def test_what_is_no_integer_is_no_size(name, size, value):
    with pytest.raises(TypeError, match=f"{size}: got .*, expected an integer of at least [01]"):
        sam.build(name, **sizes_of(name) | {size: value})


@pytest.mark.parametrize(("name", "size"), [case for case in CASES if case[1] != "batch_size"])
def test_a_size_below_the_least(name, size):
    with pytest.raises(ValueError, match=f"{size}: got -3, expected an integer of at least [01]"):
        sam.build(name, **sizes_of(name) | {size: np.int64(-3)})


@pytest.mark.parametrize("name", SPARSE)
def test_slots_have_numbers_of_32_bits(name, monkeypatch):
    monkeypatch.setattr(room, "memory_here", lambda: 2**60)
    model = sam.build(name, **sizes_of(name) | {"memory_size": 2**31})
    with pytest.raises(ValueError, match="memory_size: got 2147483648, expected at most 21474836"):
        model.initial_state(1)


def test_links_have_numbers_of_63_bits(monkeypatch):
    monkeypatch.setattr(room, "memory_here", lambda: 2**60)
    model = sam.build("sdnc", **sizes_of("sdnc") | {"memory_size": 2**31 - 1})
    with pytest.raises(ValueError, match="memory_size: got 2147483647 at batch size 3, expected"):
        model.initial_state(3)


@pytest.mark.parametrize("error", [MemoryError("no more"), OSError(errno.ENOMEM, "no more")])
def test_a_failed_reservation_says_what_was_asked_for(error):
    expected = pytest.raises(ValueError, match=f"^b: got 7 beside a=5, {ROOM}")
    with expected as caught, room.reserving("it", 10, a=5, b=7):
        raise error
    assert caught.value.__cause__ is error


def test_another_failure_is_itself():
    with pytest.raises(FileNotFoundError), room.reserving("it", 10, a=5):
        raise FileNotFoundError(errno.ENOENT, "none")


@pytest.mark.parametrize("name", MODELS)
def test_on_meta_there_is_room_for_all_that_has_a_number(name):
    with torch.device("meta"):
        model = sam.build(name, **sizes_of(name) | {"hidden_size": 10**6})
    assert model.hidden_size == 10**6
    with torch.device("meta"), pytest.raises(ValueError, match=f"hidden_size: got .*{ROOM}"):
        sam.build(name, **sizes_of(name) | {"hidden_size": 10**10})


@pytest.mark.parametrize(
    ("number", "written"),
    [
        (0, "0"),
        (7, "7"),
        (10**14, "100000000000000"),
        (10**15, "1e15"),
        (12345 * 10**20, "1.234e24"),
    ],
)
def test_numbers_are_written_in_few_characters(number, written):
    assert room.about(number) == written
