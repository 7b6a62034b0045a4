"""The mean and its standard error against SciPy."""

import math

import numpy as np
import pytest
from scipy import stats

from logitlab.config.errors import InputError
from logitlab.statistics import Estimate, mean_and_error, present


def test_equals_scipy() -> None:
    values = np.random.default_rng(0).normal(3, 2, 17)
    found = mean_and_error(values)
    assert found.mean == pytest.approx(values.mean(), rel=1e-14)
    assert found.error == pytest.approx(stats.sem(values), rel=1e-13)


def test_offset_leaves_the_error_alone() -> None:
    # One-pass formulas lose this one: the deviations are 1e-9 of the mean.
    assert mean_and_error([1e9, 1e9 + 1, 1e9 + 2]).error == pytest.approx(1 / math.sqrt(3), rel=1e-12)


def test_undefined_values_are_left_out() -> None:
    assert mean_and_error([1.0, None, math.nan, 3.0]) == mean_and_error([1.0, 3.0]) == (2.0, 1.0)


def test_one_value_has_no_error() -> None:
    assert mean_and_error([0.25]) == Estimate(0.25, None)


def test_equal_values_have_error_zero() -> None:
    assert mean_and_error([0.1, 0.1, 0.1]).error == 0.0


@pytest.mark.parametrize("values", [[], [None], [math.nan]])
def test_nothing_to_average(values: list[float | None]) -> None:
    with pytest.raises(InputError, match="at least one value"):
        mean_and_error(values)


@pytest.mark.parametrize("infinite", [math.inf, -math.inf])
def test_infinite_values_are_refused(infinite: float) -> None:
    with pytest.raises(InputError, match="finite"):
        present([1.0, infinite])
