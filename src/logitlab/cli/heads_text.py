"""Descriptions of heads as lines of at most 80 columns."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..heads.description import HeadDescription, HeadParameter

_WIDTH = 80


def heads_text(heads: Sequence[HeadDescription]) -> str:
    """List heads: a line of name and source each, and below it what the name stands for."""
    lines: list[str] = []
    papers: dict[str, Any] = {}
    width = max(len(head.name) for head in heads) + 2
    for head in heads:
        papers |= head.papers
        lines += _wrap(head.source, first=head.name.ljust(width), rest=" " * width)
        lines += _wrap(_summary(head), first=" " * width, rest=" " * width)
    lines.append("")
    for letter, paper in sorted(papers.items()):
        lines += _wrap(f"{letter} is {paper}.", rest="  ")
    lines += _wrap(
        "Numbers are defaults; --head NAME:KEY=VALUE,... sets them. 'logitlab heads NAME' shows every parameter with "
        "its range."
    )
    return "\n".join(lines) + "\n"


def head_text(head: HeadDescription) -> str:
    """Show one head: source, presets, and a parameter a paragraph."""
    lines = [head.name, ""]
    lines += _wrap(f"Source: {head.source}")
    for letter, paper in head.papers.items():
        lines += _wrap(f"{letter} is {paper}.", first="  ", rest="  ")
    if head.fixed:
        lines += _wrap(f"It stands for: {_keywords(head.fixed)}", rest="  ")
    if head.presets:
        lines += ["", "Presets (--head " + head.name + ":preset=NAME):"]
        for name, keywords in head.presets.items():
            default = "  (default)" if name == head.default_preset else ""
            lines += _wrap(f"{name}: {_keywords(keywords)}{default}", first="  ", rest="    ")
        if head.default_preset is None:
            lines += _wrap("No preset holds by default: name one, or give values.", first="  ")
    own = [parameter for parameter in head.parameters if parameter.own]
    others = [parameter for parameter in head.parameters if not parameter.own]
    for title, group in (("Its own parameters:", own), ("Every head also takes:" if own else "Parameters:", others)):
        if group:
            lines += ["", title, *_parameters(group)]
    if head.takes_any:
        lines += ["", *_wrap("Its factory takes any further keyword; as a rule those of the built-in heads.")]
    return "\n".join(lines) + "\n"


def _parameters(parameters: Iterable[HeadParameter]) -> list[str]:
    lines = []
    for parameter in parameters:
        expected = f": {parameter.expected}" if parameter.expected else ""
        first = f"{parameter.name}{expected} [default: {_value(parameter.default)}]"
        lines += _wrap(first, first="  ", rest="      ")
        if parameter.meaning:
            lines += _wrap(parameter.meaning, first="      ", rest="      ")
    return lines


def _summary(head: HeadDescription) -> str:
    """Its own parameters with defaults and ranges, and its presets."""
    own = [
        parameter.name + ("" if parameter.default is None else f"={_value(parameter.default)}") + _interval(parameter)
        for parameter in head.parameters
        if parameter.own and parameter.name != "preset"
    ]
    text = ", ".join(own) or "no parameters of its own"
    if head.presets:
        needed = " (name one, or give values)" if head.default_preset is None else f" (default {head.default_preset})"
        text += f"; preset={'|'.join(head.presets)}{needed}"
    return text


def _interval(parameter: HeadParameter) -> str:
    if parameter.range is None:
        return ""
    found = re.search(r"[\[(].*[\])]", str(parameter.range))
    return f" in {found[0]}" if found else ""


def _keywords(values: dict[str, Any]) -> str:
    return ", ".join(f"{key}={_value(value)}" for key, value in values.items())


def _value(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _wrap(text: str, *, first: str = "", rest: str = "") -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )
