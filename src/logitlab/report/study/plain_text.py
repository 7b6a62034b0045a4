"""Texts of a user as the report writes them: whoever looks at a table shall see what stands there."""

from __future__ import annotations

import re

from logitlab.config.names import printable

# They turn the order of letters, of what stands behind a name as well.
_BIDI = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
# Lines and tabs are what a page is made of; the other control characters command terminals, and XML has none.
_CONTROL = re.compile(f"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f{_BIDI}]")


def visible(text: str) -> str:
    r"""Write control characters, and those that turn the direction of a text, by their numbers; lines stay lines.

    >>> print(visible("soft\u202exam\x1b[31m"))
    soft\u202exam\x1b[31m
    """

    def escape(found: re.Match[str]) -> str:
        code = ord(found[0])
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"

    return _CONTROL.sub(escape, printable(text))


def plain(text: str) -> str:
    r"""A text on one line: white space of any kind and length is one blank, and nothing in it is invisible.

    >>> print(plain(" a\n\tname\u202e "))
    a name\u202e
    """
    return visible(" ".join(text.split()))


def one_line(text: str) -> str:
    """A sentence within another one: on one line, without its full stop."""
    return plain(text).rstrip(".")
