"""Do our columns put the rows in the order in which the paper's does?"""

from __future__ import annotations

from dataclasses import dataclass

from logitlab.records.study import StudyResults
from logitlab.statistics import mean_and_error, present
from logitlab.statistics.rank_correlation import RankCorrelation, rank_correlation

from .paper import PaperReading
from .reading import columns_of, finite_values, group_of, row_groups


@dataclass(frozen=True)
class Correlation:
    """One column of ours against the paper's beside it.

    Attributes:
        column: title of ours.
        measure: its key.
        paper: the paper's column, as the report calls it.
        group: which rows; empty for all.
        found: the correlation.
        partial: rows in it that are not whole, each with why.
    """

    column: str
    measure: str
    paper: str
    group: str
    found: RankCorrelation
    partial: tuple[str, ...] = ()

    def __str__(self) -> str:
        rows = f" ({self.group})" if self.group else ""
        sentence = f"Rank correlation of our {self.column} with {self.paper}{rows}: {self.found}".rstrip(".") + "."
        return f"{sentence} {self.caution}" if self.caution else sentence

    @property
    def caution(self) -> str:
        """What to know of the rows behind the number, in a sentence; empty where all of them are whole."""
        return f"In it are rows that are not whole: {'; '.join(self.partial)}." if self.partial else ""


def rank_correlations(results: StudyResults, reading: PaperReading) -> tuple[Correlation, ...]:
    """Correlate each column that names one of the paper's with it, over the rows that both have a number for.

    Args:
        results: of the study.
        reading: the paper's table.
    """
    if reading.table is None:
        return ()
    found = []
    for column in columns_of(results):
        if column.paper is None or column.paper not in reading.columns:
            continue
        for group in row_groups(results):
            ours = [
                mean_and_error(kept).mean if (kept := present(finite_values(row, column.measure).values())) else None
                for row in group.rows
            ]
            theirs = reading.numbers(group.rows, column.paper)
            partial = [
                reason
                for row, mean, number in zip(group.rows, ours, theirs)
                if mean is not None and number is not None and (reason := group_of(row, column.measure).not_whole)
            ]
            found.append(
                Correlation(
                    column.title,
                    column.measure,
                    f"{reading.source(column.paper)}, {column.paper}",
                    group.name,
                    rank_correlation(ours, theirs),
                    tuple(partial),
                )
            )
    return tuple(found)
