"""Suggestions for mistyped names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest_name(name: str, choices: Iterable[str]) -> str | None:
    """Return the choice that looks most like ``name``, or None when nothing does.

    >>> nearest_name("arcfase", ["softmax", "arcface", "cosface"])
    'arcface'
    >>> nearest_name("zzz", ["softmax"]) is None
    True
    """
    # Case is folded for the comparison only: the choice is returned as it is spelt.
    folded = {choice.casefold(): choice for choice in sorted(choices)}
    found = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.5)
    return folded[found[0]] if found else None


def unknown_name(kind: str, name: str, choices: Iterable[str]) -> str:
    """Say that ``name`` is not a known ``kind`` and what it may have meant.

    >>> unknown_name("head", "sofmax", ["softmax", "cosine"])
    "Unknown head 'sofmax'; did you mean 'softmax'? Known: cosine, softmax."
    """
    known = sorted(choices)
    suggestion = nearest_name(name, known)
    question = f"; did you mean '{suggestion}'?" if suggestion else "."
    return f"Unknown {kind} '{name}'{question} Known: {', '.join(known)}."
