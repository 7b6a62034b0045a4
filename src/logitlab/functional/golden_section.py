"""Golden-section search for many one-dimensional minima at once, in a fixed number of steps."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

# 1/φ: the part of an interval that one step keeps.
_KEPT = (math.sqrt(5) - 1) / 2


def golden_section(
    function: Callable[[Tensor], Tensor], low: Tensor, high: Tensor, steps: int
) -> tuple[Tensor, Tensor]:
    """Find a local minimum of each element's function in its own interval.

    An interval shrinks to 0.618 of its length a step. Nothing depends on the data but the values themselves: no host
    synchronisation, no graph break.

    Args:
        function: from arguments ``[...]`` to values ``[...]``, element by element; called ``steps + 2`` times.
        low: lower ends, shape ``[...]``.
        high: upper ends, shape ``[...]``.
        steps: number of shrinkings.

    Returns:
        Argument and value of the best point of the last interval, each ``[...]``. Where the function has several minima
        in the interval, it is one of them.

    >>> at, value = golden_section(lambda x: (x - 0.3) ** 2, torch.zeros(1), torch.ones(1), 20)
    >>> round(at.item(), 3)
    0.3
    """
    left, right = high - _KEPT * (high - low), low + _KEPT * (high - low)
    value_left, value_right = function(left), function(right)
    for _ in range(steps):
        keep_low = value_left < value_right
        low, high = torch.where(keep_low, low, left), torch.where(keep_low, right, high)
        new = torch.where(keep_low, high - _KEPT * (high - low), low + _KEPT * (high - low))
        value = function(new)
        left, right = torch.where(keep_low, new, right), torch.where(keep_low, left, new)
        value_left, value_right = (
            torch.where(keep_low, value, value_right),
            torch.where(keep_low, value_left, value),
        )
    keep_low = value_left < value_right
    return torch.where(keep_low, left, right), torch.where(keep_low, value_left, value_right)
