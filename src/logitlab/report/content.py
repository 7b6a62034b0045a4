"""What a table of heads holds: columns, a row a head, sentences; no word of how it is written."""

from __future__ import annotations

from dataclasses import dataclass

from logitlab.statistics import Estimate

from .columns import Column


@dataclass(frozen=True)
class Cell:
    """One measure of one head.

    Attributes:
        estimate: mean and standard error over the seeds; None where the measure is undefined.
        marked: not significantly different from the best of the column.
    """

    estimate: Estimate | None
    marked: bool = False


@dataclass(frozen=True)
class Row:
    """One head.

    Attributes:
        label: the head as written on the command line.
        seeds: how many of its trials finished.
        cells: one a column.
    """

    label: str
    seeds: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class TableContent:
    """Columns, rows and sentences.

    Attributes:
        columns: the measures, from left to right.
        rows: the heads, in the order of the records.
        legend: what the numbers are, with ``{mark}`` where the marking is named.
        notes: sentences below the table: measures that lack seeds, failed trials.
    """

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    legend: tuple[str, ...]
    notes: tuple[str, ...]
