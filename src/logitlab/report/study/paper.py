"""The paper's own table, as far as it can be read: its columns, its numbers as it prints them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from logitlab.config.errors import LogitLabError
from logitlab.config.names import nearest_name
from logitlab.records.papers import PaperCell, PaperTable, read_paper_table
from logitlab.records.study import StudyResults, StudyRow

from .plain_text import one_line


@dataclass(frozen=True)
class PaperReading:
    """The paper's table with what could not be read of it.

    Attributes:
        table: None where there is none, or it cannot be read.
        title: what the report calls it.
        columns: those that are shown, in order.
        notes: what is wrong, in sentences.
    """

    table: PaperTable | None
    title: str = "the paper"
    columns: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def source(self, column: str) -> str:
        """Return which of the paper's tables a column stands in."""
        cells = {} if self.table is None else self.table.cells
        return next((cell.table for (_, name), cell in cells.items() if name == column and cell.table), self.title)

    def number(self, row: StudyRow, column: str) -> PaperCell | None:
        """Return what the paper prints for a row; None where it prints nothing."""
        return None if self.table is None else self.table.cells.get((paper_row(row), column))

    def numbers(self, rows: Sequence[StudyRow], column: str) -> list[float | None]:
        """Return the paper's value for each row; None where it prints nothing."""
        found = [self.number(row, column) for row in rows]
        return [None if each is None else float(each.value) for each in found]


def paper_row(row: StudyRow) -> str:
    """Return what the paper calls a row."""
    return row.label if row.plan.paper_row is None else row.plan.paper_row


def read_paper(results: StudyResults, paper: PaperTable | None = None) -> PaperReading:
    """Read the paper's table of a study; what is wrong becomes a sentence, for the report shows all that there is.

    Args:
        results: of the study.
        paper: its table; None for the one that the definition names.
    """
    config = results.definition.paper
    if paper is None and config is None:
        return PaperReading(None)
    if paper is None:
        assert config is not None
        try:
            paper = read_paper_table(config.table)
        except LogitLabError as fault:
            return PaperReading(
                None, config.title, notes=(f"The paper's table cannot be shown: {one_line(str(fault))}.",)
            )
    asked = config.columns if config is not None and config.columns else tuple(paper.columns)
    notes = []
    beside = tuple(column.paper for column in results.definition.columns if column.paper is not None)
    for column in dict.fromkeys((*asked, *beside)):
        if column not in paper.columns:
            suggestion = nearest_name(column, paper.columns)
            notes.append(
                f"The paper's table has no column '{column}'"
                + (f"; did you mean '{suggestion}'?" if suggestion else ".")
            )
    known = set(paper.rows)
    lost = [row for row in results.rows if row.plan.paper_row is not None and row.plan.paper_row not in known]
    notes += [f"The paper's table has no row '{row.plan.paper_row}', named for {row.label}." for row in lost]
    shown = tuple(dict.fromkeys(column for column in (*asked, *beside) if column in paper.columns))
    return PaperReading(paper, config.title if config is not None else paper.name, shown, tuple(notes))


def written(cell: PaperCell) -> tuple[str, str]:
    """Return a number and its error as the paper prints them, digit for digit; the second is empty without one.

    >>> written(PaperCell(77.0, 0.06, printed="77.0 ± 0.06")), written(PaperCell(0.5))
    (('77.0', '0.06'), ('0.5', ''))
    """
    mean, _, error = cell.printed.partition(" ± ")
    return mean or f"{cell.value:g}", error or ("" if cell.error is None else f"{cell.error:g}")
