"""The little Markdown of a description as HTML: paragraphs, lists, pipe tables, headings, code, bold, italics."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markupsafe import Markup

_INLINE = (
    (re.compile(r"\*\*(?=\S)(.+?)(?<=\S)\*\*"), r"<b>\1</b>"),
    (re.compile(r"(?<![\w*])\*(?=[^\s*])(.+?)(?<=[^\s*])\*(?![\w*])"), r"<i>\1</i>"),
)
_ITEM = re.compile(r"\s*(?:[-*+]|\d+[.)])\s+")
_CODE = re.compile(r"(`[^`]+`)")
_RULE = re.compile(r"\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?")


_ESCAPED = re.compile(r"\\([*_`|\\])")


def to_html(text: str) -> Markup:
    r"""Write a description; all else than the few forms stands as it is, and every text is escaped.

    Links stay text: the page loads nothing and leads nowhere.

    Args:
        text: Markdown.

    >>> print(to_html("Is **this** `a<b`?"))
    <p>Is <b>this</b> <code>a&lt;b</code>?</p>
    >>> print(to_html(r"*an averaged κ\* across samples*"))
    <p><i>an averaged κ&#42; across samples</i></p>
    """
    from markupsafe import Markup

    blocks = re.split(r"\n\s*\n", text.strip("\n"))
    # What a user wrote is escaped in _inline, piece by piece.
    return Markup("\n".join(_block(block.splitlines()) for block in blocks if block.strip()))


def _block(lines: Sequence[str]) -> str:
    if len(lines) > 1 and "|" in lines[0] and _RULE.fullmatch(lines[1].strip()):
        return _table(lines)
    if all(_ITEM.match(line) or line.startswith(" ") for line in lines) and _ITEM.match(lines[0]):
        items: list[list[str]] = []
        for line in lines:
            if found := _ITEM.match(line):
                items.append([line[found.end() :]])
            else:
                items[-1].append(line.strip())
        return "<ul>" + "".join(f"<li>{_inline(' '.join(item))}</li>" for item in items) + "</ul>"
    if lines[0].startswith("#"):
        rest = _block(lines[1:]) if lines[1:] else ""
        return f"<h4>{_inline(lines[0].lstrip('#').strip())}</h4>{rest}"
    return f"<p>{_inline(' '.join(line.strip() for line in lines))}</p>"


def _table(lines: Sequence[str]) -> str:
    head, *body = [_cells(line) for line in (lines[0], *lines[2:])]
    rows = "".join("<tr>" + "".join(f'<td class="text">{_inline(cell)}</td>' for cell in row) + "</tr>" for row in body)
    titles = "".join(f'<th class="text" scope="col">{_inline(cell)}</th>' for cell in head)
    return f'<div class="scroll fit"><table><thead><tr>{titles}</tr></thead><tbody>{rows}</tbody></table></div>'


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]


def _inline(text: str) -> str:
    """Escape a text, then write its code, bold and italics; nothing inside code is looked at."""
    parts = []
    for part in _CODE.split(text):
        if _CODE.fullmatch(part):
            parts.append(f"<code>{escape(part[1:-1])}</code>")
            continue
        # A character after a backslash is no mark: κ\\* is a κ with a star.
        written = _ESCAPED.sub(lambda found: f"&#{ord(found.group(1))};", escape(part))
        for pattern, form in _INLINE:
            written = pattern.sub(form, written)
        parts.append(written)
    return "".join(parts)
