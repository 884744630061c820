"""Numbers and flags that make no sense are refused by name."""

import math
from fractions import Fraction

import numpy as np
import pytest

import sam
from sam import checks

SIZES = {"input_size": 3, "output_size": 2, "memory_size": 8, "word_size": 4, "hidden_size": 5}
NO_NUMBER = [math.nan, math.inf, -math.inf, 10**400, -(10**400), True, "0.5", None, [0.5], 1j]
SETTINGS = [
    *[(name, "access_threshold") for name in ("sam", "sdnc", "dam")],
    *[(name, "aligned_queries") for name in ("sam", "sdnc", "dam")],
    *[(name, "bypass_dropout") for name in ("ntm", "dam", "dnc", "sam", "sdnc")],
    ("dam", "discount"),
    *[(name, "seed") for name in ("sam", "sdnc")],
]


@pytest.mark.parametrize(("model", "setting"), SETTINGS)
@pytest.mark.parametrize("value", [*NO_NUMBER, -1, -0.001], ids=lambda value: str(value)[:9])
def test_what_is_no_number_in_range_is_refused(model, setting, value):
    if setting == "aligned_queries" and value is True:
        pytest.skip("it means all of a query, in published settings too")
    with pytest.raises((TypeError, ValueError), match=rf"^{setting}: got .*, expected a"):
        sam.build(model, **SIZES, **{setting: value})


@pytest.mark.parametrize("model", ["ntm", "dam", "dnc", "sam", "sdnc"])
@pytest.mark.parametrize("setting", ["memory_size", "word_size", "num_heads", "hidden_size"])
@pytest.mark.parametrize("value", ["1", 2.5, math.nan, math.inf, None, True, 0, -1])
def test_sizes_are_integers(model, setting, value):
    with pytest.raises((TypeError, ValueError), match=rf"^{setting}: got .*, expected an integer"):
        sam.build(model, **SIZES | {setting: value})


@pytest.mark.parametrize("value", NO_NUMBER[:-2], ids=lambda value: str(value)[:9])
@pytest.mark.parametrize("model", ["lstm", "ntm", "sam"])
def test_a_budget_of_memory_is_a_number(model, value):
    own = SIZES if model != "lstm" else {"input_size": 3, "output_size": 2}
    with pytest.raises((TypeError, ValueError), match=r"^checkpoint_mib: got "):
        sam.build(model, **own, checkpoint="dp", checkpoint_mib=value)


@pytest.mark.parametrize("value", ["False", "no", 0, 2, None, math.nan])
@pytest.mark.parametrize(
    ("model", "setting"),
    [
        *[(name, "one_hot_inputs") for name in ("lstm", "ntm", "dam", "dnc", "sam", "sdnc")],
        *[(name, "key_strength") for name in ("dam", "sam", "sdnc")],
        ("lstm", "batch_first"),
        ("sdnc", "strict_paper_links"),
    ],
)
def test_a_flag_is_true_or_false_and_no_word(model, setting, value):
    """`--model-set one_hot_inputs=False` gives the word "False", which would count as true."""
    with pytest.raises(TypeError, match=rf"^{setting}: got .*, expected True or False"):
        sam.build(model, input_size=3, output_size=2, **{setting: value})


@pytest.mark.parametrize("value", [0, 1, 0.5, np.float32(0.25), np.float64(0.5), Fraction(1, 2)])
def test_every_kind_of_number_is_one(value):
    checks.number("share", value, "[0, 1]")


@pytest.mark.parametrize(
    ("within", "fits", "does_not"),
    [
        ("[0, 1]", [0, 1], [-1e-9, 1 + 1e-9]),
        ("[0, 1)", [0, 1 - 1e-9], [1]),
        ("(0, inf)", [5e-324, 1.7e308, 10**308], [0, math.inf, 10**309]),
        ("[1, inf)", [1, 10**300], [1 - 1e-9, math.inf]),
    ],
)
def test_the_ends_of_an_interval(within, fits, does_not):
    for value in fits:
        checks.number("x", value, within)
    for value in does_not:
        with pytest.raises(ValueError, match=r"^x: got .*, expected a number in "):
            checks.number("x", value, within)


def test_what_is_shown_of_a_value_is_short_and_one_line():
    assert checks.shown("a\nb") == r"'a\nb'"
    assert checks.shown(10**5000) == "an integer of 16610 bits"
    assert len(checks.shown("x" * 10**6)) < 300
