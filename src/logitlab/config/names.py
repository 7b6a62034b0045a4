"""Names: suggestions for mistyped ones, and a form of any that can be printed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_SURROGATE = re.compile("[\ud800-\udfff]")


def printable(text: str) -> str:
    r"""Write as ``\xe9`` what is no UTF-8 in the name of a file.

    Python keeps such bytes as lone surrogates, which neither a terminal nor JSON nor safetensors takes.

    >>> print(printable("caf\udce9"), printable("café"))
    caf\xe9 café
    """

    def escape(found: re.Match[str]) -> str:
        # os.fsdecode maps the byte 0xE9 to U+DCE9; other surrogates come from Windows.
        code = ord(found[0])
        return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"

    return _SURROGATE.sub(escape, text)


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
