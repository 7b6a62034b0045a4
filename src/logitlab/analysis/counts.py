"""Whole numbers that say how many: bins, points, classes."""

from __future__ import annotations

import operator
from typing import Any


def is_count(value: Any, least: int, most: int | None = None) -> bool:
    """Whether a value is an integer (NumPy's too, but no boolean) from ``least`` to ``most``.

    >>> is_count(15, 1), is_count(15.0, 1), is_count(True, 1), is_count(4, 1, 3)
    (True, False, False, False)
    """
    if isinstance(value, bool):
        return False
    try:
        number = operator.index(value)
    except TypeError:
        return False
    return number >= least and (most is None or number <= most)
