"""The candidate set of the temperatures that search."""

from __future__ import annotations

from collections.abc import Sequence

from logitlab.config.errors import InputError
from logitlab.config.parameters import parameter_fault
from logitlab.functional import KAPPA_CANDIDATES, check_candidates


def read_candidates(owner: str, candidates: Sequence[float] | None) -> tuple[tuple[float, ...], str | None]:
    """Take candidates as the user gave them.

    Args:
        owner: the temperature, for the message.
        candidates: values of κ; None for the twenty of TS Eq. (30).

    Returns:
        The candidates, and what is wrong with them or None.

    >>> read_candidates("LeastSquares", [1, 2])
    ((1.0, 2.0), None)
    """
    if candidates is None:
        return KAPPA_CANDIDATES, None
    try:
        values = tuple(float(value) for value in candidates)
        check_candidates(values)
    except (InputError, TypeError, ValueError):
        expected = "a list of positive numbers in increasing order"
        return KAPPA_CANDIDATES, parameter_fault(owner, "candidates", expected, candidates)
    return values, None


def show_candidates(candidates: Sequence[float]) -> str:
    """Show candidates: the default by their number, others in full."""
    if tuple(candidates) == KAPPA_CANDIDATES:
        return str(len(candidates))
    return "[" + ", ".join(f"{value:g}" for value in candidates) + "]"
