"""The compiled tanh beside NumPy's in higher precision."""

import numba
import numpy as np
import pytest

from sam.sparse.tanh import tanh


@numba.njit
def compiled(values):
    result = np.empty_like(values)
    for i in range(values.size):
        result[i] = tanh(values[i])
    return result


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_is_off_by_a_few_roundings_at_most(dtype):
    largest = np.geomspace(1e-30, 1e30, 20_001)
    values = np.concatenate([-largest, np.linspace(-20, 20, 40_001), largest]).astype(dtype)
    exact = np.tanh(values.astype(np.longdouble))
    own = compiled(values)
    assert np.all(np.abs(own - exact) <= 5 * np.finfo(dtype).eps * np.abs(exact))
    assert np.abs(own).max() == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_infinity_gives_one_and_nan_stays(dtype):
    values = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0], dtype)
    np.testing.assert_array_equal(compiled(values), np.tanh(values))
    assert np.signbit(compiled(values)[-1])


def test_where_it_is_not_compiled_it_is_the_standard_librarys():
    assert tanh(0.5) == pytest.approx(np.tanh(0.5), rel=1e-15)
