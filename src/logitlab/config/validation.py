"""From plain mappings to validated configuration: every fault at once, each with the nearest right name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from .errors import ConfigurationError
from .names import nearest_name


class Configuration(BaseModel):
    """Base of all configurations: immutable, strict types, unknown keys refused, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


Model = TypeVar("Model", bound=Configuration)


def validate(kind: type[Model], values: Mapping[str, Any], where: str = "", beside: Iterable[str] = ()) -> Model:
    """Build ``kind`` from ``values``.

    Args:
        kind: the configuration class.
        values: its fields.
        where: a prefix for the messages, for instance ``"training"``.
        beside: names of options that the caller takes beside those of ``kind``; an unknown name may have meant one.

    Raises:
        ConfigurationError: one sentence a fault, all of them.
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as fault:
        sentences = [_sentence(kind, error, where, beside) for error in fault.errors()]
        raise ConfigurationError(sentences) from None


def _sentence(kind: type[BaseModel], error: Any, where: str, beside: Iterable[str]) -> str:
    """Turn one pydantic error into: what was expected, what came, what to do."""
    path = [str(part) for part in error["loc"]]
    key = ".".join([where, *path] if where else path)
    if error["type"] == "extra_forbidden":
        suggestion = nearest_name(path[-1], [*_fields(kind, path[:-1]), *beside])
        hint = f"; did you mean '{suggestion}'?" if suggestion else "."
        return f"Unknown option '{key}'{hint}"
    if error["type"] == "missing":
        return f"'{key}' is missing; give it a value."
    message = error["msg"].removeprefix("Value error, ")
    if not path:  # a rule over several fields already says everything
        return str(message)
    expected = message.removeprefix("Input ").replace("should be", "must be", 1).rstrip(".")
    verb = "" if expected.startswith("must") else "is wrong: "
    return f"'{key}' {verb}{expected}. Got {error['input']!r}{_suggestion(error) or '.'}"


def _fields(kind: type[BaseModel], path: Sequence[str]) -> list[str]:
    """Return the names of the fields of ``kind``, or of the configuration inside it that ``path`` leads to."""
    for part in path:
        inner = kind.model_fields[part].annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        kind = inner
    return list(kind.model_fields)


def _suggestion(error: Any) -> str:
    """For a field that takes one of several words, return the one that was probably meant."""
    if error["type"] != "literal_error" or not isinstance(error["input"], str):
        return ""
    words = re.findall(r"'([^']*)'", error["ctx"]["expected"])
    nearest = nearest_name(error["input"], words)
    return f"; did you mean '{nearest}'?" if nearest else ""
