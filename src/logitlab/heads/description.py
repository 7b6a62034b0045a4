"""What a head of the registry is: its source, its parameters with ranges and defaults, its presets."""

from __future__ import annotations

import inspect
import math
import re
from dataclasses import dataclass, field
from typing import Any

from logitlab.config.parameters import Range
from logitlab.margins import (
    AdditiveAngularMargin,
    AdditiveCosineMargin,
    LabelDistributionMargin,
    MultiplicativeAngularMargin,
)
from logitlab.margins.label_distribution import MAX_MARGIN
from logitlab.temperature import TEMPERATURES, LeastSquares, MaximumLikelihood
from logitlab.temperature.least_squares import MULTIPLIER
from logitlab.temperature.running_mean import MOMENTUM

from . import registry
from .group_softmax_head import AT_REST, GROUPS, GroupSoftmaxHead
from .group_softmax_head import CHOICES as GROUP_CHOICES
from .head import Head
from .papers import Paper, papers_of
from .parameters import CHOICES, RANGES
from .presets import NAMED_HEADS, PRESET_CLASSES, NamedHead

# Where the weights lie is no property of a head, and nothing to write on a command line.
_PLACEMENT = ("device", "dtype")
_RANGES = {**RANGES, "multiplier": MULTIPLIER, "momentum": MOMENTUM, "groups": GROUPS, "max_margin": MAX_MARGIN}
_CHOICES = {
    "search": ("grid", "continuous"),
    "normalizer": ("bound", "exact"),
    **CHOICES,
    **GROUP_CHOICES,
    "preset": tuple(PRESET_CLASSES),
}
_WRITTEN = {
    "bool": "true or false",
    "bool | None": "true, false or none",
    "Fused": "true, false or auto",
}
_SPECIAL = {
    "class_weight": "a list of C positive numbers, or none",
    "class_counts": "a list of C positive numbers, or none",
    "candidates": "a list of increasing positive numbers, or none",
    "annealing": "a constant λ >= 0, or a schedule {start, gamma, power, minimum}, or none",
    "detach_margin": "true or false",
}
_PARTS = (
    LeastSquares,
    MaximumLikelihood,
    MultiplicativeAngularMargin,
    AdditiveCosineMargin,
    AdditiveAngularMargin,
    LabelDistributionMargin,
    GroupSoftmaxHead,
)
_PRESET = "the setting of W whose numbers hold: Tables A.1 (imagenet) and A.2."


@dataclass(frozen=True)
class HeadParameter:
    """One keyword of a head.

    Attributes:
        name: as it is written.
        expected: what it may be, in words; empty where a registered head does not say.
        default: what it is when nothing is said.
        meaning: one sentence from the documentation; empty where there is none.
        own: whether it makes this head what it is.
        choices: the words that it may be; None for others.
        range: the interval of a number; None for others.
    """

    name: str
    expected: str
    default: Any
    meaning: str = ""
    own: bool = False
    choices: tuple[str, ...] | None = None
    range: Range | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values; an open end of the range is None."""
        found = {key: getattr(self, key) for key in ("name", "expected", "meaning", "own")}
        default = self.default
        found["default"] = default if isinstance(default, (bool, int, float, str, type(None))) else repr(default)
        found["choices"] = None if self.choices is None else list(self.choices)
        found["range"] = None
        if self.range is not None:
            found["range"] = {
                key: None if isinstance(value, float) and math.isinf(value) else value
                for key, value in vars(self.range).items()
            }
        return found


@dataclass(frozen=True)
class HeadDescription:
    """What one name of the registry stands for.

    Attributes:
        name: in the registry.
        source: paper and equation; for a registered head the module that registers it.
        papers: what the letters of the source stand for.
        fixed: keywords that make it what it is.
        usual: keywords that hold unless something else is asked for.
        presets: keywords that each setting of W adds.
        default_preset: the setting that holds when none is named; None for none.
        parameters: its own first.
        takes_any: a registered head whose factory takes any keyword beyond these.
    """

    name: str
    source: str
    papers: dict[str, Paper]
    fixed: dict[str, Any]
    presets: dict[str, dict[str, Any]]
    default_preset: str | None
    parameters: tuple[HeadParameter, ...]
    takes_any: bool = False
    usual: dict[str, Any] = field(default_factory=dict)

    @property
    def keywords(self) -> dict[str, Any]:
        """The keywords that the name alone stands for, those of the default preset included."""
        return {**self.usual, **self.fixed, **self.presets.get(self.default_preset or "", {})}

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "name": self.name,
            "source": self.source,
            "papers": {letter: vars(paper) for letter, paper in self.papers.items()},
            "fixed": self.fixed,
            "usual": self.usual,
            "presets": self.presets,
            "default_preset": self.default_preset,
            "parameters": [parameter.to_json() for parameter in self.parameters],
            "takes_any": self.takes_any,
        }


def describe_head(name: str) -> HeadDescription:
    """Describe a built-in or registered head.

    Args:
        name: one of ``list_heads()``.

    Raises:
        ParameterError: an unknown name, with the nearest right one.

    >>> described = describe_head("label_smoothing")
    >>> described.keywords, described.parameters[0].expected
    ({'alpha': 0.1}, 'a float in the range [0, 1)')
    """
    name = registry.head_name(name)
    if name not in NAMED_HEADS:
        return _describe_registered(name)
    named = NAMED_HEADS[name]
    own = {**named.usual, **named.fixed, **{key: None for keywords in named.presets.values() for key in keywords}}
    defaults = {**named.usual, **named.fixed, **named.presets.get(named.default or "", {})}
    if named.presets:
        own["preset"] = None
        defaults["preset"] = named.default
    known = [key for key in registry.known_parameters(name) if key not in _PLACEMENT and key not in _foreign(named)]
    meanings = _meanings()
    signature = inspect.signature(Head).parameters
    parameters = [
        HeadParameter(
            name=key,
            expected=_expected(key) if key != "margin" or named.margin is None else named.margin.margin_expected,
            default=defaults.get(key, _default(key, signature)),
            meaning=meanings.get(key, ""),
            own=key in own,
            choices=_choices().get(key),
            range=_RANGES.get(key),
        )
        for key in sorted(known, key=lambda key: list(own).index(key) if key in own else len(own))
    ]
    return HeadDescription(
        name,
        named.source,
        papers_of(named.source),
        named.fixed,
        named.presets,
        named.default,
        tuple(parameters),
        usual=named.usual,
    )


def _foreign(named: NamedHead) -> set[str]:
    """Parameters that are taken only to be refused in words, or that no command line can write."""
    grouped = issubclass(named.head_class, GroupSoftmaxHead)
    foreign = {*AT_REST, *registry.temperature_parameters(), "inference_kappa"} if grouped else set()
    return foreign if named.margin is not None else foreign | {"margin"}


def _describe_registered(name: str) -> HeadDescription:
    factory = registry._REGISTERED[name]
    signature = inspect.signature(factory).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.values())
    parameters = tuple(
        HeadParameter(
            name=key,
            expected="",
            default=None if parameter.default is parameter.empty else parameter.default,
            own=True,
        )
        for key, parameter in signature.items()
        if key not in ("in_features", "num_classes")
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    )
    lines = (inspect.getdoc(factory) or "").splitlines()
    source = f"registered by {factory.__module__}" + (f": {lines[0]}" if lines else "")
    return HeadDescription(name, source, {}, {}, {}, None, parameters, takes_any)


def _choices() -> dict[str, tuple[str, ...]]:
    # Users register temperatures of their own.
    return {**_CHOICES, "temperature": tuple(TEMPERATURES)}


def _expected(key: str) -> str:
    if key in _SPECIAL:
        return _SPECIAL[key]
    if key in _choices():
        return " or ".join(_choices()[key])
    if key in _RANGES:
        return str(_RANGES[key])
    known = inspect.signature(Head).parameters
    # A temperature that a user registered says no more than the names of its parameters.
    annotation = str(known[key].annotation) if key in known else ""
    return _WRITTEN.get(annotation, annotation)


def _default(key: str, signature: Any) -> Any:
    if key in signature:
        return signature[key].default
    found = None
    for kind in _PARTS:
        found = found or inspect.signature(kind).parameters.get(key)
    # The default candidates are a table of twenty numbers; "none" asks for them.
    return found.default if found is not None and isinstance(found.default, (int, float)) else None


def _meanings() -> dict[str, str]:
    """Read the ``Args`` sections of the classes that take the keywords."""
    found = {"preset": _PRESET}
    for kind in (*_PARTS, Head):
        section = re.split(r"^Args:\n", inspect.getdoc(kind) or "", maxsplit=1, flags=re.MULTILINE)[-1]
        section = re.split(r"^\S", section, maxsplit=1, flags=re.MULTILINE)[0]
        for key, text in re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", section, flags=re.MULTILINE):
            found[key] = " ".join(text.replace("``", "").split())
    return found
