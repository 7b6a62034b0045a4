"""Command-line options made from a configuration class, so that names, defaults, ranges and help have one home."""

from __future__ import annotations

import functools
import inspect
import re
import types
from collections.abc import Callable
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo
from rich.markup import escape

from ..config.validation import Configuration

_COMPARISONS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def with_options_of(kind: type[Configuration], panel: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command an option for each field of ``kind``.

    The decorated function's parameter ``training``, a mapping, receives the fields that the user set; the
    configuration itself checks their ranges, so that all faults are told at once.

    Args:
        kind: the configuration class; its docstring's ``Attributes`` become the help.
        panel: the heading of these options in the help.
    """
    helps = attribute_help(kind)

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(command, eval_str=True)
        own = [parameter for parameter in signature.parameters.values() if parameter.name != "training"]
        made = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=_annotation(name, field, helps.get(name, ""), panel),
            )
            for name, field in kind.model_fields.items()
        ]

        @functools.wraps(command)
        def wrapper(**values: Any) -> Any:
            given = {name: values.pop(name) for name in kind.model_fields}
            training = {
                # A flag says only that it is there: it turns the default round.
                name: not kind.model_fields[name].default if value is True else value
                for name, value in given.items()
                # An option that may be repeated and is not there is None or empty, as the version has it.
                if value is not None and value != []
            }
            return command(**values, training=training)

        parameters = [*own, *made]
        wrapper.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return wrapper

    return decorate


def attribute_help(kind: type) -> dict[str, str]:
    """Read the ``Attributes`` section of a class's docstring: a name and its text each.

    >>> class Example:
    ...     '''An example.
    ...
    ...     Attributes:
    ...         size: how large, in ``pixels``;
    ...             at least 1.
    ...     '''
    >>> attribute_help(Example)
    {'size': 'how large, in pixels; at least 1.'}
    """
    section = re.split(r"^Attributes:\n", inspect.getdoc(kind) or "", maxsplit=1, flags=re.MULTILINE)[-1]
    found = re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", section, flags=re.MULTILINE)
    return {name: " ".join(text.replace("``", "").split()) for name, text in found}


def _annotation(name: str, field: FieldInfo, text: str, panel: str) -> Any:
    plain = _without_none(field.annotation)
    repeated = _items(plain)
    plain = repeated or plain
    chosen = get_origin(plain) is Literal
    limits = ", ".join(
        f"{sign} {getattr(limit, attribute):g}"
        for limit in field.metadata
        for attribute, sign in _COMPARISONS.items()
        if hasattr(limit, attribute)
    )
    kind = "NAME" if chosen else "" if plain is bool else plain.__name__.upper()
    return Annotated[
        (list[repeated] if repeated else str if chosen else plain) | None,  # type: ignore[valid-type]
        typer.Option(
            f"--{'no-' if field.default is True else ''}{name.replace('_', '-')}",
            help=escape(_help(text, field.default)),
            metavar=f"{kind} {limits}".strip(),
            show_default=False,
            rich_help_panel=panel,
        ),
    ]


def _help(text: str, default: Any) -> str:
    """Write an attribute's text as the help of its option."""
    if isinstance(default, bool):
        return f"Turn off: {text}" if default else sentence(text)
    return sentence(text) + ("" if default is None else f" [default: {default}]")


def sentence(text: str) -> str:
    """Begin with a capital letter, unless a symbol or a quoted word comes first.

    >>> sentence("images a step."), sentence("α of Mixup.")
    ('Images a step.', 'α of Mixup.')
    """
    return text[:1].upper() + text[1:] if text[:1].isascii() else text


def _items(annotation: Any) -> type | None:
    """``tuple[int, ...]`` → ``int``, within ``Annotated`` or not; None for what is no tuple."""
    plain = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    if get_origin(plain) is not tuple:
        return None
    item = get_args(plain)[0]
    kind: type = get_args(item)[0] if get_origin(item) is Annotated else item
    return kind


def _without_none(annotation: Any) -> Any:
    """``X | None`` → ``X``."""
    if get_origin(annotation) in (Union, types.UnionType):
        (annotation,) = (part for part in get_args(annotation) if part is not type(None))
    return annotation
