"""Heads by name: the built-in ones, and those that users register."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from logitlab.config.errors import ParameterError
from logitlab.config.names import nearest_name, unknown_name
from logitlab.temperature import LeastSquares

from .head import Head
from .presets import NAMED_HEADS, PRESET_CLASSES, NamedHead
from .source import code_digest, file_digest

Factory = Callable[..., Head]
AnyFactory = TypeVar("AnyFactory", bound=Factory)

_REGISTERED: dict[str, Factory] = {}
# Of files: what stood there when the head was registered, which is what runs.
_SOURCES: dict[str, str | None] = {}

#: What ``create_head`` understands beyond the keywords of ``Head``: the setting of W, and the two numbers of
#: least squares.
EXTRA_PARAMETERS = ("preset", "multiplier", "candidates")


def create_head(name: str, in_features: int, num_classes: int, **parameters: Any) -> Head:
    """Build a head by its name.

    Args:
        name: one of ``list_heads()``.
        in_features: D, length of a feature vector.
        num_classes: C.
        **parameters: keywords of ``Head``, which override those of the name; for built-in heads also ``preset``
            (``"imagenet"``, ``"cifar10"``, ``"cifar100"``: the numbers of W Tables A.1 and A.2), and
            ``multiplier`` and ``candidates`` of least squares.

    Raises:
        ParameterError: an unknown name or parameter (with the nearest right one), or values that do not fit.

    >>> create_head("cosine", 8, 3, preset="cifar10").kappa
    tensor(12.5000)
    >>> create_head("cosine_2ls", 8, 10).kappa  # twice the closed form at 45°
    tensor(8.2084)
    """
    if name in _REGISTERED:
        return _create_registered(name, in_features, num_classes, parameters)
    if name not in NAMED_HEADS:
        raise ParameterError(unknown_name("head", name, list_heads()))
    keywords = resolve_parameters(name, parameters)
    candidates, multiplier = keywords.pop("candidates", None), keywords.pop("multiplier", None)
    has_number = keywords.get("kappa") is not None or keywords.get("tau") is not None
    # With a number the name stays a name, and Head says what is wrong with the two together.
    if keywords.get("temperature") == "least_squares" and not has_number:
        keywords["temperature"] = LeastSquares(candidates, 1.0 if multiplier is None else multiplier)
    elif keywords.get("temperature") != "least_squares" and (candidates is not None or "multiplier" in parameters):
        raise ParameterError(
            f"'multiplier' and 'candidates' belong to temperature='least_squares', which the head '{name}' does not "
            "have as it was asked for."
        )
    return Head(in_features, num_classes, **keywords)


def resolve_parameters(name: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """All keywords of a built-in head: its own, those of its preset, and the caller's on top.

    Args:
        name: a built-in head.
        parameters: the caller's keywords, ``preset`` among them.

    Raises:
        ParameterError: an unknown parameter or preset.
    """
    named = NAMED_HEADS[name]
    given = dict(parameters)
    preset = given.pop("preset", None) or named.default
    faults = [
        _unknown_parameter(name, key, known_parameters(name)) for key in given if key not in known_parameters(name)
    ]
    if preset is not None and str(preset) not in PRESET_CLASSES:
        faults.append(unknown_name("preset", str(preset), PRESET_CLASSES))
    if faults:
        raise ParameterError(faults)
    keywords = {**named.fixed, **(named.presets.get(preset, {}) if preset else {})}
    if {"kappa", "tau", "temperature"} & given.keys():
        # One number replaces the other, and a temperature replaces both. A number alone does not replace a
        # temperature: "cosine_ls" with kappa=20 would be called by a name that it no longer deserves.
        keywords.pop("kappa", None)
        keywords.pop("tau", None)
    if given.get("temperature", "least_squares") != "least_squares":
        keywords.pop("multiplier", None)
    return {**keywords, **given}


def canonical_parameters(name: str, parameters: dict[str, Any]) -> dict[str, Any] | None:
    """What a built-in head's parameters come to, however they were written; None for a registered head.

    Presets are resolved, τ is written as κ, and what ``Head`` would take anyway is left out: two ways of asking
    for one head give one answer.

    >>> canonical_parameters("cosine", {}) == canonical_parameters("cosine", {"kappa": 20, "alpha": 0})
    True
    """
    if name in _REGISTERED:
        return None
    keywords = resolve_parameters(name, parameters)
    if keywords.get("tau"):
        keywords["kappa"] = 1 / keywords.pop("tau")
    defaults = {key: parameter.default for key, parameter in inspect.signature(Head).parameters.items()}
    has_bias = keywords.get("classifier", "linear") == "linear" or keywords.get("loss") == "sigmoid"
    defaults |= {"multiplier": 1.0, "candidates": None, "bias": has_bias}
    return {key: value for key, value in sorted(keywords.items()) if value is not None and value != defaults[key]}


def known_parameters(name: str) -> list[str]:
    """The parameters that ``create_head`` takes for a name; empty when a registered factory takes any.

    Args:
        name: one of ``list_heads()``.
    """
    if name in _REGISTERED:
        signature = inspect.signature(_REGISTERED[name])
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values()):
            return []
        return [key for key in signature.parameters if key not in ("in_features", "num_classes")]
    keywords = [
        key for key, parameter in inspect.signature(Head).parameters.items() if parameter.kind is parameter.KEYWORD_ONLY
    ]
    return [*keywords, *EXTRA_PARAMETERS]


def register_head(name: str, *, overwrite: bool = False) -> Callable[[AnyFactory], AnyFactory]:
    """Make a head of your own known by name, to ``create_head``, ``compare`` and the command line.

    Args:
        name: how it is called; letters, digits and underscores.
        overwrite: replace a head that you registered under the same name before.

    Returns:
        A decorator for a factory ``(in_features, num_classes, **parameters) -> Head``.

    Raises:
        ParameterError: the name is taken or cannot be written on the command line.

    >>> @register_head("doctest_example", overwrite=True)
    ... def example(in_features, num_classes, **parameters):
    ...     return Head(in_features, num_classes, alpha=0.2, **parameters)
    >>> create_head("doctest_example", 8, 3).link
    'softmax'
    """
    if not isinstance(name, str) or not name.isidentifier():
        raise ParameterError(
            f"The name of a head must be letters, digits and underscores, as in @register_head('mine'). Got {name!r}."
        )
    if name in NAMED_HEADS:
        raise ParameterError(f"The head '{name}' is built in. Choose another name.")
    if name in _REGISTERED and not overwrite:
        raise ParameterError(f"The head '{name}' is registered already. Choose another name, or overwrite=True.")

    def register(factory: AnyFactory) -> AnyFactory:
        _REGISTERED[name] = factory
        _SOURCES[name] = file_digest(factory)
        return factory

    return register


def list_heads() -> list[str]:
    """Names of all heads, built-in and registered, sorted."""
    return sorted([*NAMED_HEADS, *_REGISTERED])


def named_head(name: str) -> NamedHead | None:
    """What a built-in head is made of; None for a registered one."""
    return NAMED_HEADS.get(name)


def head_module(name: str) -> str | None:
    """The module whose import registers a user's head; None for a built-in one."""
    return _REGISTERED[name].__module__ if name in _REGISTERED else None


def head_source(name: str) -> str | None:
    """SHA-256 of the code that makes a user's head; None for a built-in one.

    Of its file as it was when the head was registered, or, in a notebook, of the factory and all it reaches there.
    An edited head is another head: studies put this into the identity of a trial.
    """
    return (_SOURCES[name] or code_digest(_REGISTERED[name])) if name in _REGISTERED else None


def _create_registered(name: str, in_features: int, num_classes: int, parameters: dict[str, Any]) -> Head:
    known = known_parameters(name)
    unknown = [key for key in parameters if known and key not in known]
    if unknown:
        raise ParameterError([_unknown_parameter(name, key, known) for key in unknown])
    head = _REGISTERED[name](in_features, num_classes, **parameters)
    if not isinstance(head, Head):
        raise ParameterError(f"The factory of the head '{name}' must return a Head. Got {type(head).__name__}.")
    return head


def _unknown_parameter(name: str, key: str, known: list[str]) -> str:
    if key in ("kappa", "M") and name == "squared_error":
        return f"W's κ and M are 'target_weight' and 'target_value' of the head '{name}'. Got '{key}'."
    suggestion = nearest_name(key, known)
    return f"Unknown parameter '{key}' of the head '{name}'" + (
        f"; did you mean '{suggestion}'?" if suggestion else f". Known: {', '.join(known)}."
    )
