"""Temperatures by name, as the command line and ``Head`` accept them: built-in ones, and those that users register."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeVar

from logitlab.config.errors import ParameterError
from logitlab.config.names import unknown_name
from logitlab.config.registry import Registry

from .adacos import AdaCos
from .base import Temperature
from .fixed import Fixed
from .least_squares import LeastSquares
from .maximum_likelihood import MaximumLikelihood
from .rule_of_thumb import RuleOfThumb
from .trainable import Trainable

AnyTemperature = TypeVar("AnyTemperature", bound=Callable[..., Temperature])

#: All that are known by name; :func:`register_temperature` adds to them.
TEMPERATURES: Final[dict[str, Callable[..., Temperature]]] = {
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

_BUILT_IN: Final = tuple(TEMPERATURES)


def _fault(name: str, made: Any) -> str | None:
    """Say why something cannot stand for a temperature."""
    try:
        parameters = inspect.signature(made).parameters.values()
    except (TypeError, ValueError):
        return "its signature cannot be read"
    for each in parameters:
        if each.kind not in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY):
            return f"its parameters must have names. Got '{each}'"
        if each.name in ("kappa", "tau"):
            return (
                f"'{each.name}' is the number of temperature='fixed' and 'trainable'. Call the parameter otherwise, "
                "such as 'start'"
            )
        if each.default is each.empty:
            return f"each parameter needs a default, so that the name alone is enough. '{each.name}' has none"
    return None


#: Those of users.
REGISTERED_TEMPERATURES: Final[Registry[Callable[..., Temperature]]] = Registry(
    "temperature", "register_temperature", built_in=lambda: _BUILT_IN, check=_fault
)


def register_temperature(name: str, *, overwrite: bool = False) -> Callable[[AnyTemperature], AnyTemperature]:
    """Make a temperature of your own known by name: ``temperature="mine"`` of heads, on the command line and in YAML.

    Args:
        name: lower-case letters, digits and underscores.
        overwrite: replace a temperature that you registered under the same name before.

    Returns:
        A decorator for a subclass of :class:`Temperature`, or a function that returns one. Its parameters have
        defaults; heads take them by name, beside their own.

    Raises:
        ParameterError: the name is taken, or the parameters do not have this form.

    >>> @register_temperature("doctest_constant", overwrite=True)
    ... def constant(level=16.0):
    ...     return Fixed(kappa=level)
    >>> create_temperature("doctest_constant").kappa
    tensor(16.)
    >>> REGISTERED_TEMPERATURES.forget("doctest_constant"), TEMPERATURES.pop("doctest_constant") is constant
    (None, True)
    """

    def register(made: AnyTemperature) -> AnyTemperature:
        REGISTERED_TEMPERATURES.register(name, overwrite=overwrite)(made)
        TEMPERATURES[name] = made
        return made

    return register


def forget_temperature(name: str) -> None:
    """Take the name of a user's temperature out again."""
    if name in REGISTERED_TEMPERATURES:
        REGISTERED_TEMPERATURES.forget(name)
        del TEMPERATURES[name]


def create_temperature(name: str, *, kappa: float | None = None, tau: float | None = None) -> Temperature:
    """Build a temperature from its name and, where it takes one, its number.

    Args:
        name: ``"fixed"``, ``"trainable"``, ``"least_squares"``, ``"maximum_likelihood"``, ``"rule_of_thumb"``,
            ``"adacos"``, ``"adacos_dynamic"``, or one that a user registered.
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
        made = TEMPERATURES[name]()
        if not isinstance(made, Temperature):
            raise ParameterError(f"What is registered as '{name}' must give a Temperature. Got {made!r}.")
        return made
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
