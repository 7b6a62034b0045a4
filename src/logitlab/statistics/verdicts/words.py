"""How evidence is written."""

from __future__ import annotations

from collections.abc import Sequence

from ..summary import present
from .decision import Group


def seeds_text(groups: Sequence[Group]) -> str:
    """How many seeds stand behind each mean.

    >>> seeds_text([Group("a", {0: 1.0, 1: 2.0}), Group("b", {0: 1.0, 1: None}), Group("c", {})])
    '1 to 2 seeds a row'
    """
    counts = sorted({count for group in groups if (count := len(present(group.values.values())))})
    if len(counts) == 1:
        return f"{counts[0]} seed{'' if counts == [1] else 's'} a row"
    return f"{counts[0]} to {counts[-1]} seeds a row" if counts else "no seed"


def because(reasons: Sequence[str]) -> str:
    """A few reasons in a sentence, with how many more there are."""
    shown = list(dict.fromkeys(reason.rstrip(".") for reason in reasons))
    rest = f"; and {len(shown) - 4} more" if len(shown) > 4 else ""
    return sentence(f"Not decided, because {'; '.join(shown[:4])}{rest}")


def written(value: float, factor: float, decimals: int, *, signed: bool = False) -> str:
    """Write a number of the evidence."""
    return f"{factor * value:{'+' if signed else ''}.{decimals}f}"


def sentence(text: str) -> str:
    """End a text with a full stop; nothing stays nothing."""
    return f"{text}." if text and not text.endswith(".") else text


def joined(*sentences: str) -> str:
    """Join sentences that are there."""
    return " ".join(each for each in sentences if each)
