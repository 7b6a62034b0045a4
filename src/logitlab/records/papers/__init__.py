"""Tables of the papers as they are printed, for the reports of studies to stand beside. No torch."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from logitlab.config.errors import ConfigurationError
from logitlab.config.names import unknown_name

#: The columns of a file, in this order.
HEADER: Final = ("table", "row", "column", "value", "error", "bold")

_FOLDER = Path(__file__).parent
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True)
class PaperCell:
    """One number of a paper's table.

    Attributes:
        value: the number.
        error: its standard error; None where none is printed.
        bold: whether it is printed bold.
        printed: the number with its error, digit for digit: ``"77.0 ± 0.06"``.
        table: the table that it stands in, such as ``"W Table 1"``.
    """

    value: float
    error: float | None = None
    bold: bool = False
    printed: str = ""
    table: str = ""


@dataclass(frozen=True)
class PaperTable:
    """A paper's table, or several tables with the same rows side by side.

    Attributes:
        name: of the file, without its ending.
        rows: in the paper's order.
        columns: in the paper's order.
        cells: (row, column) → the number; a place without one is missing.
    """

    name: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: Mapping[tuple[str, str], PaperCell]


def list_paper_tables() -> list[str]:
    """Return the names of the tables that LogitLab brings, sorted.

    >>> "w-table-1" in list_paper_tables()
    True
    """
    return sorted(path.stem for path in _FOLDER.glob("*.csv"))


def read_paper_table(name: str | Path) -> PaperTable:
    """Read a table of LogitLab's, or a user's own.

    Args:
        name: one of ``list_paper_tables()``, or the path of a CSV file (UTF-8) that begins with the line
            ``table,row,column,value,error,bold`` and has a line a number: ``error`` may be empty, ``bold`` is ``true``,
            ``false`` or empty.

    Raises:
        ConfigurationError: an unknown name, a file that cannot be read, or every line that is wrong.

    >>> table = read_paper_table("w-table-1")
    >>> table.rows[0], table.columns[0], table.cells["Softmax", "ImageNet top-1"].printed
    ('Softmax', 'ImageNet top-1', '77.0 ± 0.06')
    """
    path = _find(name)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = list(csv.reader(file, strict=True))
    except OSError as fault:
        raise ConfigurationError(f"Cannot read '{path}': {fault.strerror or fault}.") from None
    except (UnicodeDecodeError, csv.Error) as fault:
        raise ConfigurationError(f"Cannot read '{path}': it is no CSV in UTF-8 ({fault}).") from None
    if not lines or tuple(lines[0]) != HEADER:
        found = ",".join(lines[0]) if lines else "an empty file"
        raise ConfigurationError(f"'{path}' must begin with the line '{','.join(HEADER)}'. Got '{found}'.")
    faults: list[str] = []
    cells: dict[tuple[str, str], PaperCell] = {}
    for number, line in enumerate(lines[1:], start=2):
        if not line:
            continue
        reasons = list(_faults_of(line))
        faults += [f"{path.name}:{number}: {reason}" for reason in reasons]
        if reasons:
            continue
        table, row, column, value, error, bold = line
        if (row, column) in cells:
            faults.append(f"{path.name}:{number}: '{row}', '{column}' is given twice. Give it once.")
        printed = f"{value} ± {error}" if error else value
        cells[row, column] = PaperCell(float(value), float(error) if error else None, bold == "true", printed, table)
    if not cells and not faults:
        faults.append(f"'{path}' holds no numbers. Give a line a number below the first.")
    if faults:
        raise ConfigurationError(faults)
    rows, columns = (tuple(dict.fromkeys(place[side] for place in cells)) for side in (0, 1))
    return PaperTable(path.stem, rows, columns, cells)


def _find(name: str | Path) -> Path:
    if str(name) in list_paper_tables():
        return _FOLDER / f"{name}.csv"
    path = Path(name)
    if path.suffix.lower() == ".csv" or path.is_file():
        return path
    raise ConfigurationError(unknown_name("table", str(name), list_paper_tables()) + " Or give the path of a CSV file.")


def _faults_of(line: list[str]) -> Iterable[str]:
    """What is wrong with a line, a sentence each."""
    if len(line) != len(HEADER):
        yield f"Expected {len(HEADER)} values ({', '.join(HEADER)}). Got {len(line)}."
        return
    _, row, column, value, error, bold = line
    for what, text in (("row", row), ("column", column)):
        if not text.strip():
            yield f"'{what}' is empty; say which it is."
    for what, text in (("value", value), ("error", error)):
        if what == "error" and not text:
            continue
        if not _NUMBER.fullmatch(text) or not math.isfinite(float(text)):
            yield f"'{what}' must be a number. Got '{text}'."
    if error.startswith("-"):
        yield f"'error' must be at least 0. Got '{error}'."
    if bold not in ("true", "false", ""):
        yield f"'bold' must be true, false or empty. Got '{bold}'."
