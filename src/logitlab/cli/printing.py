"""Results on the screen: a table with what follows it, in colour on a terminal and as plain lines anywhere else."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from ..config.names import printable


class Table(Protocol):
    """Prints as plain text; rich knows how to print it too."""

    def to_text(self) -> str:
        """Return plain text, a row a line."""


def show_results(table: Table, closing: Sequence[str]) -> None:
    """Print a table, and lines below it.

    Args:
        table: of a comparison or a study.
        closing: lines.
    """
    from rich.console import Console
    from rich.text import Text

    console = Console()
    if console.is_terminal and not console.is_dumb_terminal:
        console.print()
        console.print(table)
        console.print()
        for line in closing:
            console.print(Text(line), soft_wrap=True)
    else:
        sys.stdout.write("\n".join([table.to_text(), "", *closing]) + "\n")
        sys.stdout.flush()


def resolved(path: Path) -> str:
    """Write a path in full, whatever bytes are in it."""
    return printable(str(path.resolve()))
