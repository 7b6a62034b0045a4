"""Temperatures by name, as the command line and ``Head`` accept them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from logitlab.config.errors import ParameterError
from logitlab.config.names import unknown_name

from .adacos import AdaCos
from .base import Temperature
from .fixed import Fixed
from .least_squares import LeastSquares
from .maximum_likelihood import MaximumLikelihood
from .rule_of_thumb import RuleOfThumb
from .trainable import Trainable

TEMPERATURES: Final[dict[str, Callable[[], Temperature]]] = {
    "fixed": Fixed,
    "trainable": Trainable,
    "least_squares": LeastSquares,
    "maximum_likelihood": MaximumLikelihood,
    "rule_of_thumb": RuleOfThumb,
    "adacos": AdaCos,
    "adacos_dynamic": partial(AdaCos, dynamic=True),
}

#: Those that take ``kappa`` or ``tau``; the others choose κ themselves.
NUMBERED: Final = ("fixed", "trainable")


def create_temperature(name: str, *, kappa: float | None = None, tau: float | None = None) -> Temperature:
    """Build a temperature from its name and, where it takes one, its number.

    Args:
        name: ``"fixed"``, ``"trainable"``, ``"least_squares"``, ``"maximum_likelihood"``, ``"rule_of_thumb"``,
            ``"adacos"`` or ``"adacos_dynamic"``.
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
    if name not in NUMBERED:
        raise ParameterError(number_refused(name))
    constant = Fixed(kappa, tau=tau)
    return constant if name == "fixed" else Trainable(init=float(constant.kappa))


def number_refused(name: str) -> str:
    """Say that a temperature takes no number.

    >>> number_refused("adacos").split(".")[0]
    "The temperature 'adacos' chooses κ itself and takes no 'kappa' or 'tau'"
    """
    return (
        f"The temperature '{name}' chooses κ itself and takes no 'kappa' or 'tau'. Leave the number out, or use "
        "temperature='fixed'."
    )
