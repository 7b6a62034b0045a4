"""Declared ranges of parameters, and the one form of message for a value outside them."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Range:
    """An interval of numbers that a parameter may take.

    Attributes:
        low: lower end; ``-inf`` for none.
        high: upper end; ``inf`` for none.
        low_included: whether ``low`` itself is allowed.
        high_included: whether ``high`` itself is allowed.
        integer: whether the value must be a whole number.
        optional: whether None is allowed.

    >>> str(Range(0, 1, high_included=False))
    'a float in the range [0, 1)'
    >>> Range(0, 1, high_included=False).fault("LabelSmoothing", "alpha", 3)
    "The 'alpha' parameter of LabelSmoothing must be a float in the range [0, 1). Got 3 instead."
    """

    low: float = -math.inf
    high: float = math.inf
    low_included: bool = True
    high_included: bool = True
    integer: bool = False
    optional: bool = False

    def __str__(self) -> str:
        kind = "an int" if self.integer else "a float"
        left = "[" if self.low_included and math.isfinite(self.low) else "("
        right = "]" if self.high_included and math.isfinite(self.high) else ")"
        text = f"{kind} in the range {left}{self.low:g}, {self.high:g}{right}"
        return f"{text} or None" if self.optional else text

    def __contains__(self, value: object) -> bool:
        if value is None:
            return self.optional
        # NumPy's numbers register with these; y.max() + 1 is an honest number of classes.
        kind = numbers.Integral if self.integer else numbers.Real
        if isinstance(value, bool) or not isinstance(value, kind):
            return False
        number = float(value)
        if not math.isfinite(number):
            return False
        above = number >= self.low if self.low_included else number > self.low
        below = number <= self.high if self.high_included else number < self.high
        return above and below

    def fault(self, owner: str, name: str, value: Any) -> str | None:
        """Say what is wrong with ``value``, or return None when nothing is.

        Args:
            owner: the class or function that declares the parameter.
            name: the parameter.
            value: what the caller gave.
        """
        return None if value in self else parameter_fault(owner, name, str(self), value)


def parameter_fault(owner: str, name: str, expected: str, value: Any) -> str:
    """The one form of message for a parameter.

    >>> parameter_fault("Head", "bias", "a bool or None", "yes")
    "The 'bias' parameter of Head must be a bool or None. Got 'yes' instead."
    """
    return f"The '{name}' parameter of {owner} must be {expected}. Got {value!r} instead."
