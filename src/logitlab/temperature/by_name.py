"""Temperatures by name, as the command line and ``Head`` accept them."""

from __future__ import annotations

from logitlab.config.errors import ParameterError
from logitlab.config.names import unknown_name

from .base import Temperature
from .fixed import Fixed
from .least_squares import LeastSquares
from .trainable import Trainable

TEMPERATURES: dict[str, type[Temperature]] = {
    "fixed": Fixed,
    "trainable": Trainable,
    "least_squares": LeastSquares,
}


def create_temperature(name: str, *, kappa: float | None = None, tau: float | None = None) -> Temperature:
    """Build a temperature from its name and, where it takes one, its number.

    Args:
        name: ``"fixed"``, ``"trainable"`` or ``"least_squares"``.
        kappa: the constant of ``"fixed"``, the start of ``"trainable"``.
        tau: 1/κ, instead of ``kappa``.

    Raises:
        ParameterError: an unknown name, or a number that the temperature cannot use.

    >>> create_temperature("trainable", tau=0.1).init
    10.0
    """
    if name not in TEMPERATURES:
        raise ParameterError(unknown_name("temperature", name, TEMPERATURES))
    if kappa is None and tau is None:
        if name == "fixed":
            raise ParameterError("The temperature 'fixed' needs its number: give 'kappa' or 'tau' (= 1/kappa).")
        return TEMPERATURES[name]()
    constant = Fixed(kappa, tau=tau)
    if name == "fixed":
        return constant
    if name == "trainable":
        return Trainable(init=float(constant.kappa))
    raise ParameterError(
        f"The temperature '{name}' chooses κ itself and takes no 'kappa' or 'tau'. "
        "Leave the number out, or use temperature='fixed'."
    )
