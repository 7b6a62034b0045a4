"""The mean over seeds and its standard error."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from typing import NamedTuple

from logitlab.config.errors import InputError


class Estimate(NamedTuple):
    """A mean and how far it may be off.

    Attributes:
        mean: arithmetic mean.
        error: standard error of the mean, in the unit of the values; None when one value cannot tell.
    """

    mean: float
    error: float | None


def mean_and_error(values: Iterable[float | None]) -> Estimate:
    r"""Mean over seeds and its standard error.

    .. math:: \bar v = \frac1n \sum_i v_i, \qquad
        e = \frac{1}{\sqrt n} \sqrt{\frac{1}{n-1} \sum_i (v_i - \bar v)^2}

    Args:
        values: one a seed; None and NaN (a measure that is undefined) are left out.

    Raises:
        InputError: no value is left, or one is infinite.

    References:
        W Table 1 ("mean ± standard error").

    >>> mean_and_error([1.0, 3.0, None])
    Estimate(mean=2.0, error=1.0)
    >>> mean_and_error([0.5])
    Estimate(mean=0.5, error=None)
    """
    kept = present(values)
    if not kept:
        raise InputError("Expected at least one value to take the mean of. Got none that is defined.")
    mean = statistics.fmean(kept)
    return Estimate(mean, statistics.stdev(kept) / math.sqrt(len(kept)) if len(kept) > 1 else None)


def present(values: Iterable[float | None]) -> list[float]:
    """Return the values that are defined: neither None nor NaN.

    Raises:
        InputError: a value is infinite; neither a mean nor a test exists then.

    >>> present([1, None, float("nan")])
    [1.0]
    """
    kept = [float(value) for value in values if value is not None and not math.isnan(value)]
    if any(math.isinf(value) for value in kept):
        raise InputError("Expected finite values. Got an infinite one; leave it out or write None for it.")
    return kept
