"""The records of a study as a table for other programs. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import IO

from ..config.errors import ConfigurationError
from ..config.names import unknown_name
from ..records.export import check_parquet, gather_records, rows_of, write_csv, write_parquet
from ..records.outgoing import check_output, whole_file
from ..report import comparison_table
from ..report.latex import to_latex

FORMATS = ("csv", "parquet", "latex")


def export_study(folder: Path | str, to: str, output: Path | str | None, screen: IO[str]) -> list[str]:
    """Write the records below a folder.

    Args:
        folder: of the study.
        to: ``"csv"`` or ``"parquet"`` (a row a trial, failed ones included), or ``"latex"`` (the table of heads).
        output: a file, which is replaced once the new one is whole; None for ``screen``.
        screen: where text goes without a file.

    Returns:
        a sentence for each record that is damaged and left out.

    Raises:
        ConfigurationError: another format, a file that cannot be written, or Parquet without pyarrow or a file.
        RecordError: the folder holds no records.
        InputError: LaTeX of more than one data set.
    """
    if to not in FORMATS:
        raise ConfigurationError(unknown_name("format", to, FORMATS))
    if to == "parquet":
        if output is None:
            raise ConfigurationError("Parquet is no text for the screen. Give --output FILE (output=…).")
        check_parquet()
    target = None if output is None else Path(output)
    if target is not None:
        check_output(target)
    records, damage = gather_records(Path(folder))
    if to == "parquet":
        assert target is not None
        with whole_file(target, binary=True) as stream:
            write_parquet(rows_of(records), stream)
        return damage
    text = to_latex(comparison_table(records)) if to == "latex" else None

    def write(stream: IO[str]) -> None:
        if text is None:
            write_csv(rows_of(records), stream)
        else:
            stream.write(text)

    if target is None:
        write(screen)
    else:
        with whole_file(target) as stream:
            write(stream)
    return damage
