"""The grammar ``name:key=value,key=value`` that names a head or a backbone with its parameters."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import Any

from .errors import ConfigurationError

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WORDS = {"true": True, "false": False, "none": None, "null": None}
_INTEGER = re.compile(r"[+-]?\d+")
_NUMBER = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan|inf|infinity)", re.IGNORECASE)
_PLAIN = re.compile(r"[^\s,\[{\"][^,]*(?<!\s)|[^\s,\[{\"]")


@dataclass(frozen=True)
class Specification:
    """A name and its parameters, as written on the command line or in Python.

    Attributes:
        name: what a registry calls it, for instance ``"cosine"``.
        parameters: keyword arguments, for instance ``{"kappa": 20}``.
    """

    name: str
    parameters: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """Write the specification back in the grammar; parameters keep their order."""
        if not self.parameters:
            return self.name
        return f"{self.name}:" + ",".join(f"{key}={_write(value)}" for key, value in self.parameters.items())


def parse_specification(text: str, kind: str = "head") -> Specification:
    """Read ``name`` or ``name:key=value,key=value``.

    Values are numbers, ``true``, ``false``, ``none``, plain words, or JSON: lists in brackets, mappings in braces,
    text in double quotes.

    Args:
        text: the specification.
        kind: what is named ("head", "backbone"); used in the error.

    Raises:
        ConfigurationError: the text does not follow the grammar.

    >>> parse_specification("cosine:kappa=20,bias=true")
    Specification(name='cosine', parameters={'kappa': 20, 'bias': True})
    >>> str(parse_specification("label_smoothing:alpha=5e-2"))
    'label_smoothing:alpha=0.05'
    """
    name, colon, rest = text.strip().partition(":")
    example = f"Write a {kind} as 'name' or 'name:key=value,key=value'."
    if not name.strip():
        raise ConfigurationError(f"The {kind} '{text}' has no name. {example}")
    if colon and not rest.strip():
        raise ConfigurationError(f"Nothing follows the colon in the {kind} '{text}'. {example}")
    parameters: dict[str, Any] = {}
    while colon:
        key, equals, rest = rest.partition("=")
        key = key.strip()
        if not equals or not _KEY.fullmatch(key):
            wrong = f"{key}{equals}{rest}".split(",")[0]
            plain = f" timm's models go by their plain name: '{wrong}'." if (kind, name) == ("backbone", "timm") else ""
            raise ConfigurationError(f"Cannot read '{wrong}' in the {kind} '{text}'.{plain} {example}")
        if key in parameters:
            raise ConfigurationError(f"The {kind} '{text}' sets '{key}' twice. Set it once.")
        try:
            parameters[key], rest = _read(rest.lstrip())
        except ValueError as fault:
            raise ConfigurationError(f"Cannot read '{key}' of the {kind} '{text}': {fault}.") from None
        colon, rest = rest[:1], rest[1:]
    return Specification(name.strip(), parameters)


def _read(text: str) -> tuple[Any, str]:
    """Read one value; return it with what follows it, which is empty or begins with a comma."""
    if text[:1] in ("[", "{", '"'):
        try:
            value, end = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite).raw_decode(text)
        except json.JSONDecodeError as fault:
            raise ValueError(f"'{text}' is not JSON ({fault.msg}); write a list as [1, 2.5, 10]") from None
        rest = text[end:].lstrip()
        if rest and not rest.startswith(","):
            raise ValueError(f"a comma must follow '{text[:end]}'")
        return value, rest
    word, comma, rest = text.partition(",")
    word = word.strip()
    if not word:
        raise ValueError("it has no value")
    return _word(word), comma + rest


def _word(word: str) -> Any:
    """Turn an unquoted value into what it says."""
    if word.lower() in _WORDS:
        return _WORDS[word.lower()]
    if _INTEGER.fullmatch(word):
        return int(word)
    return _finite(word) if _NUMBER.fullmatch(word) else word


def _finite(word: str) -> float:
    number = float(word)
    return number if math.isfinite(number) else _refuse(word)


def _refuse(word: str) -> Any:
    raise ValueError(f"'{word}' is not a finite number")


def _write(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value):
        # Quotes keep the text "20" apart from the number.
        return json.dumps(value) if value.lower() in _WORDS or _NUMBER.fullmatch(value) else value
    if value is None:
        return "none"
    return json.dumps(value, allow_nan=False)
