"""The page's tables stand between two marks each, so that the script can put them there and a test compare them."""

from __future__ import annotations

import re

_MEASURED = re.compile(r"(<!-- measured -->\n).*?(\n<!-- end -->)", re.DOTALL)
_MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(\n<!-- end -->)", re.DOTALL)


def filled(page: str, tables: dict[str, str]) -> str:
    """The page with these tables in the place of its own.

    Raises:
        ValueError: the page has marks of other names than the tables.
    """
    marks = [name for _, name, _ in _MARKED.findall(page)]
    if sorted(marks) != sorted(tables):
        raise ValueError(f"Expected a pair of marks for each of {sorted(tables)} in the page. Got {sorted(marks)}.")
    return _MARKED.sub(lambda found: f"{found[1]}\n{tables[found[2]]}\n{found[3]}", page)


def with_measured(page: str, text: str) -> str:
    """The page with what was measured in the place of what it says."""
    return _MEASURED.sub(lambda found: f"{found[1]}\n{text}\n{found[2]}", page)
