"""Heads by name: the built-in ones, and those that users register."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from logitlab.config.errors import ParameterError
from logitlab.config.names import nearest_name, unknown_name
from logitlab.config.source import file_digest
from logitlab.margins import Annealing, Margin
from logitlab.temperature import NUMBERED, REGISTERED_TEMPERATURES, TEMPERATURES

from .head import Head
from .presets import ALIASES, NAMED_HEADS, PRESET_CLASSES, NamedHead

Factory = Callable[..., Head]
AnyFactory = TypeVar("AnyFactory", bound=Factory)

_REGISTERED: dict[str, Factory] = {}
# Of files: what stood there when the head was registered, which is what runs.
_SOURCES: dict[str, str | None] = {}

#: What ``create_head`` understands beyond the keywords of ``Head``: the setting of W, and what a temperature that is
#: given by its name takes.
TEMPERATURE_PARAMETERS = ("multiplier", "candidates", "search", "normalizer", "momentum")
EXTRA_PARAMETERS = ("preset", *TEMPERATURE_PARAMETERS)

# A temperature that users register cannot take these: they are the head's own.
_OF_HEADS = frozenset(inspect.signature(Head).parameters)


def create_head(name: str, in_features: int, num_classes: int, **parameters: Any) -> Head:
    """Build a head by its name.

    Args:
        name: one of ``list_heads()``.
        in_features: D, length of a feature vector.
        num_classes: C.
        **parameters: keywords of ``Head``, which override those of the name; for built-in heads also ``preset``
            (``"imagenet"``, ``"cifar10"``, ``"cifar100"``: the numbers of W Tables A.1 and A.2), and
            what the temperature takes (``multiplier``, ``candidates``, ``search`` of least squares). Heads with a
            margin take its number as ``margin``.

    Raises:
        ParameterError: an unknown name or parameter (with the nearest right one), or values that do not fit.

    >>> create_head("cosine", 8, 3, preset="cifar10").kappa
    tensor(12.5000)
    >>> create_head("cosine_2ls", 8, 10).kappa  # twice the closed form at 45°
    tensor(8.2084)
    """
    if name in _REGISTERED:
        return _create_registered(name, in_features, num_classes, parameters)
    name = head_name(name)
    keywords = resolve_parameters(name, parameters)
    _build_margin(name, keywords, parameters)
    _build_temperature(name, keywords, parameters)
    return NAMED_HEADS[name].head_class(in_features, num_classes, **keywords)


def resolve_parameters(name: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """All keywords of a built-in head: its own, those of its preset, and the caller's on top.

    Args:
        name: a built-in head.
        parameters: the caller's keywords, ``preset`` among them.

    Raises:
        ParameterError: an unknown parameter or preset.
    """
    name = head_name(name)
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
    keywords = {**named.usual, **named.fixed, **(named.presets.get(preset, {}) if preset else {})}
    scaled = {key for key in ("kappa", "tau", "temperature") if given.get(key) is not None}
    if scaled and named.length_by_temperature:
        keywords["classifier"] = "cosine"
    if scaled and "temperature" in named.usual:
        keywords.pop("temperature")
    if {"kappa", "tau", "temperature"} & given.keys():
        # One number replaces the other, and a temperature replaces both. A number alone does not replace a
        # temperature: "cosine_ls" with kappa=20 would be called by a name that it no longer deserves.
        keywords.pop("kappa", None)
        keywords.pop("tau", None)
    if given.get("temperature", "least_squares") != "least_squares":
        keywords.pop("multiplier", None)
    keywords |= given
    if isinstance(keywords.get("annealing"), dict):
        # What is left out is that of the head.
        keywords["annealing"] = annealing_parameters({**named.usual.get("annealing", {}), **keywords["annealing"]})
    return keywords


def annealing_parameters(given: dict[str, Any]) -> dict[str, Any]:
    """All numbers of a schedule of λ.

    Raises:
        ParameterError: an unknown one.
    """
    defaults = {key: value.default for key, value in inspect.signature(Annealing).parameters.items()}
    unknown = [key for key in given if key not in defaults]
    if unknown:
        raise ParameterError([unknown_name("parameter of 'annealing'", str(key), defaults) for key in unknown])
    return {**defaults, **given}


def head_name(name: str) -> str:
    """The name of a head by itself or by an alias (``amsoftmax`` for ``cosface``).

    Raises:
        ParameterError: an unknown name, with the nearest right one.
    """
    name = ALIASES.get(name, name) if isinstance(name, str) else name
    if name not in NAMED_HEADS and name not in _REGISTERED:
        raise ParameterError(unknown_name("head", name, [*list_heads(), *ALIASES]))
    return name


def temperature_parameters() -> tuple[str, ...]:
    """What a temperature that is given by its name takes, those that users registered included."""
    registered = [
        key for made in REGISTERED_TEMPERATURES.items().values() for key in inspect.signature(made).parameters
    ]
    return tuple(dict.fromkeys([*TEMPERATURE_PARAMETERS, *registered]))


def _build_temperature(name: str, keywords: dict[str, Any], given: dict[str, Any]) -> None:
    """Hand a temperature that stands by its name the parameters that are its own, in place."""
    temperature = keywords.get("temperature")
    if isinstance(temperature, str) and temperature in REGISTERED_TEMPERATURES:
        shared = [key for key in inspect.signature(REGISTERED_TEMPERATURES[temperature]).parameters if key in _OF_HEADS]
        if shared:
            raise ParameterError(
                f"The temperature '{temperature}' has a parameter '{shared[0]}', which heads have as well. Rename it."
            )
    own = {
        key: value
        for key in temperature_parameters()
        if key not in _OF_HEADS and (value := keywords.pop(key, None)) is not None
    }
    has_number = keywords.get("kappa") is not None or keywords.get("tau") is not None
    known: Any = {}
    if isinstance(temperature, str) and temperature in TEMPERATURES:
        known = inspect.signature(TEMPERATURES[temperature]).parameters
    faults = []
    for key, value in own.items():
        owners = [word for word in TEMPERATURES if key in inspect.signature(TEMPERATURES[word]).parameters]
        if (
            key not in known
            and key in given
            and value != inspect.signature(TEMPERATURES[owners[0]]).parameters[key].default
        ):
            words = "' or '".join(owners)
            faults.append(
                f"'{key}' belongs to temperature='{words}', which the head '{name}' does not have as it was asked for."
            )
    if faults:
        raise ParameterError(faults)
    # With a number the name stays a name, and Head says what is wrong with the two together.
    if known and temperature not in NUMBERED and not has_number:
        taken = {key: value for key, value in own.items() if key in known}
        keywords["temperature"] = TEMPERATURES[str(temperature)](**taken)


def _build_margin(name: str, keywords: dict[str, Any], given: dict[str, Any]) -> None:
    """Make a module of the numbers of a margin, in place."""
    kind = NAMED_HEADS[name].margin
    if kind is None:
        return
    known = inspect.signature(kind).parameters
    numbers = {key: keywords.pop(key) for key in list(keywords) if key in known}
    if isinstance(numbers.get("margin"), Margin):
        own = [key for key in numbers if key != "margin" and key in given]
        if own:
            raise ParameterError(f"Got a margin as a module beside its {own}. Give them to the module.")
        keywords["margin"] = numbers["margin"]
        return
    if isinstance(numbers.get("annealing"), dict):
        numbers["annealing"] = Annealing(**numbers["annealing"])
    if "class_counts" in numbers and keywords.get("adjustment"):
        keywords["class_counts"] = numbers["class_counts"]
    keywords["margin"] = kind(**numbers)


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
    keywords |= _plainest(keywords)
    if keywords.get("tau"):
        keywords["kappa"] = 1 / keywords.pop("tau")
    if keywords.get("loss") == "focal" and keywords.get("gamma") is None:
        keywords["gamma"] = 2.0
    kinds = (Head, NAMED_HEADS[head_name(name)].head_class)
    defaults = {key: value.default for kind in kinds for key, value in inspect.signature(kind).parameters.items()}
    has_bias = keywords.get("classifier", "linear") == "linear" or keywords.get("loss") == "sigmoid"
    defaults |= {"multiplier": 1.0, "candidates": None, "search": "grid", "normalizer": "bound", "momentum": 0.1}
    defaults |= {"bias": has_bias, "annealing": None, "detach_margin": False, "max_margin": None}
    chosen = temperature_name(keywords)
    # The chosen temperature comes last: its default of a parameter may be another than a built-in one's.
    for word in sorted(REGISTERED_TEMPERATURES.names(), key=lambda word: word == chosen):
        signature = inspect.signature(REGISTERED_TEMPERATURES[word]).parameters
        defaults |= {key: value.default for key, value in signature.items() if word == chosen or key not in defaults}
    return {key: value for key, value in sorted(keywords.items()) if value is not None and value != defaults[key]}


def _plainest(keywords: dict[str, Any]) -> dict[str, Any]:
    """Write alike what comes to the same: one of several ways to give a number."""
    found = dict(keywords)
    annealing = found.get("annealing")
    if isinstance(annealing, dict) and annealing["gamma"] * annealing["power"] == 0:
        annealing = max(annealing["start"], annealing["minimum"])
    if isinstance(annealing, (int, float)):
        annealing = float(annealing) or None
    # m = 1 is no margin, with λ or without.
    found["annealing"] = None if found.get("margin") == 1 else annealing
    for key in ("margin", "class_counts"):
        values = found.get(key)
        if isinstance(values, (list, tuple)) and values and all(value == values[0] for value in values):
            found[key] = values[0] if key == "margin" else None
    has_number = found.get("kappa") is not None or found.get("tau") is not None
    if has_number and found.get("temperature") == "fixed":
        found["temperature"] = None
    return found


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
    named = NAMED_HEADS[head_name(name)]
    keywords = [
        key
        for kind in (Head, named.head_class, named.margin)
        if kind is not None
        for key, parameter in inspect.signature(kind).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY or (kind is named.margin and key != "margin")
    ]
    if named.margin is not None and "margin" not in inspect.signature(named.margin).parameters:
        keywords = [key for key in keywords if key != "margin"]  # LDAM makes its own
    return list(dict.fromkeys([*keywords, *EXTRA_PARAMETERS, *temperature_parameters()]))


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
    if name in NAMED_HEADS or name in ALIASES:
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
    return NAMED_HEADS.get(ALIASES.get(name, name))


def temperature_name(parameters: Mapping[str, Any] | None) -> str:
    """The name of the temperature that parameters ask for; empty where there is none."""
    found = (parameters or {}).get("temperature")
    return found if isinstance(found, str) else ""


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
