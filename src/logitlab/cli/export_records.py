"""``logitlab export-records``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def export_records(
    folder: Annotated[Path, typer.Argument(help="The folder of a study (--out of compare and train).", metavar="DIR")],
    to: Annotated[
        str,
        typer.Option(
            help="csv or parquet: a row a trial, failed ones included; latex: the table of heads (booktabs).",
            metavar="NAME",
        ),
    ] = "csv",
    output: Annotated[
        Path | None,
        typer.Option(
            help="Write here instead of to the screen; what stands there is replaced when all is written.",
            metavar="FILE",
        ),
    ] = None,
) -> None:
    """Write the records of a study as a table for other programs.

    Values are written as they are: a spreadsheet may take a name that begins with =, +, - or @ for a formula, so
    import columns of names as text.

    Exit code: 0; 2 for faults of the input.
    """
    from ..studies.export import export_study

    for sentence in export_study(folder, to, output, sys.stdout):
        sys.stderr.write(f"Note: {sentence}\n")
