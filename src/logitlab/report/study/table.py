"""The table of a study: our columns, and the paper's in a group of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from logitlab.config.study import ColumnConfig
from logitlab.records.papers import PaperTable
from logitlab.records.study import StudyResults, StudyRow
from logitlab.statistics import Estimate, compare_to_best, mean_and_error, present

from . import rendering
from .correlations import Correlation, rank_correlations
from .paper import PaperReading, read_paper, written
from .plain_text import plain
from .reading import (
    RowGroup,
    columns_of,
    expected_seeds,
    finite_values,
    lacking,
    row_groups,
    seeds_text,
    setting_text,
    unknown_measure,
)

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table

_LEVEL = 0.05


@dataclass(frozen=True)
class StudyCell:
    """One number: mean and standard error as texts, the mean itself, whether it is bold.

    Attributes:
        mean: as it is written; ``"–"`` without one.
        error: as it is written; empty without one.
        value: the mean, in the unit of the column; None without one.
        marked: bold.
    """

    mean: str = "–"
    error: str = ""
    value: float | None = None
    marked: bool = False


@dataclass(frozen=True)
class StudyColumn:
    """One column of one group.

    Attributes:
        title: its heading, without an arrow.
        better: which end is best; None where neither is, or nobody says.
        cells: one a row.
        source: which of the paper's tables it stands in; empty for ours.
    """

    title: str
    better: Literal["higher", "lower"] | None
    cells: tuple[StudyCell, ...]
    source: str = ""

    @property
    def heading(self) -> str:
        """The heading with an arrow that points to the better end."""
        return self.title + {"higher": " ↑", "lower": " ↓", None: ""}[self.better]


@dataclass(frozen=True)
class ColumnGroup:
    """Columns that were measured on one setting.

    Attributes:
        title: whose they are: ``"LogitLab"``, or the paper's table.
        setting: what they were measured on.
        columns: from left to right.
    """

    title: str
    setting: str
    columns: tuple[StudyColumn, ...]

    @property
    def short(self) -> str:
        """The tables that its columns stand in, else its title."""
        return ", ".join(dict.fromkeys(column.source for column in self.columns if column.source)) or self.title

    @property
    def heading(self) -> str:
        """Title and setting in a line."""
        return f"{self.title}: {self.setting}" if self.setting else self.title


@dataclass(frozen=True)
class StudyTable:
    """Ours beside the paper's; ``str(table)`` is the plain text, notebooks show HTML, rich prints it in bold.

    Attributes:
        labels: of the rows, in order.
        seeds: how many trials of each row have finished, of how many.
        states: why a row is not whole, in a clause; None where it is.
        groups: ours, and the paper's where there is one.
        correlations: between the paper's columns and ours beside them.
        legend: what the numbers are, with ``{mark}`` where the marking is named.
        notes: sentences below the table.
    """

    labels: tuple[str, ...]
    seeds: tuple[str, ...]
    states: tuple[str | None, ...]
    groups: tuple[ColumnGroup, ...]
    correlations: tuple[Correlation, ...]
    legend: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def shows_seeds(self) -> bool:
        """A column of seeds is worth its room only where the rows differ in it."""
        return len(set(self.seeds)) > 1

    def sentences(self, mark: str) -> list[str]:
        """The legend with the name of the marking filled in, the rank correlations, and the notes."""
        return [
            plain(sentence)
            for sentence in (
                *(line.replace("{mark}", mark) for line in self.legend),
                *map(str, self.correlations),
                *self.notes,
            )
        ]

    def to_text(self) -> str:
        """Plain text, a row a line, never wrapped; ``*`` marks what is bold."""
        return rendering.to_text(self)

    def to_markdown(self) -> str:
        """A pipe table and the notes below it."""
        return rendering.to_markdown(self)

    def to_latex(self, label: str = "tab:study") -> str:
        r"""A ``table`` ruled by booktabs, a ``\cmidrule`` below each group; needs ``\usepackage{booktabs}``.

        Args:
            label: for ``\ref``.
        """
        return rendering.to_latex(self, label)

    def to_rich(self, width: int | None = None) -> Table:
        """A rich table without the notes.

        Args:
            width: columns of the terminal; where they do not hold the table, each standard error moves below its
                mean, then columns are left out, and a line says which. None never does either.
        """
        return rendering.to_rich(self, width)

    def __str__(self) -> str:
        return self.to_text()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        yield self.to_rich(options.max_width)
        for sentence in self.sentences("Bold"):
            yield Text(sentence, style="dim")


def study_table(results: StudyResults, paper: PaperTable | None = None) -> StudyTable:
    """Build the table of a study.

    Our numbers are means ± standard errors over seeds; bold is what is not significantly different from the best of
    its column (pooled t-test, p > 0.05), among rows that were measured on the same images. The paper's stand as it
    printed them, in columns of their own.

    Args:
        results: of the study.
        paper: the paper's table; None for the one that the definition names.
    """
    reading = read_paper(results, paper)
    columns = columns_of(results)
    groups = row_groups(results)
    ours = ColumnGroup(
        "LogitLab", plain(setting_text(results)), tuple(_our_column(each, results, groups) for each in columns)
    )
    shown = [ours]
    config = results.definition.paper
    if reading.columns:
        setting = config.setting if config is not None else ""
        shown.append(
            ColumnGroup(
                plain(reading.title),
                plain(setting),
                tuple(_paper_column(each, results, reading, columns) for each in reading.columns),
            )
        )
    counts = tuple(_seeds(row) for row in results.rows)
    return StudyTable(
        tuple(plain(row.label) for row in results.rows),
        counts,
        tuple(clause and plain(clause) for clause in map(lacking, results.rows)),
        tuple(shown),
        rank_correlations(results, reading),
        _legend(results, groups, with_paper=bool(reading.columns)),
        _notes(results, columns, reading),
    )


def _our_column(column: ColumnConfig, results: StudyResults, groups: Sequence[RowGroup]) -> StudyColumn:
    values = {row.label: finite_values(row, column.measure) for row in results.rows}
    marked: set[str] = set()
    if column.better is not None:
        for group in groups:
            marked |= compare_to_best(
                {row.label: values[row.label].values() for row in group.rows},
                higher_is_better=column.better == "higher",
                level=_LEVEL,
            ).not_worse
    cells = [
        write_cell(column, mean_and_error(kept), marked=label in marked)
        if (kept := present(found.values()))
        else StudyCell()
        for label, found in values.items()
    ]
    return StudyColumn(plain(column.title), column.better, tuple(cells))


def write_cell(column: ColumnConfig, estimate: Estimate, *, marked: bool = False) -> StudyCell:
    """Write a mean and its standard error in the column's unit and digits."""
    mean = column.factor * estimate.mean
    error = "" if estimate.error is None else f"{abs(column.factor) * estimate.error:.{column.decimals}f}"
    return StudyCell(f"{mean:.{column.decimals}f}", error, mean, marked)


def _paper_column(
    column: str, results: StudyResults, reading: PaperReading, columns: Sequence[ColumnConfig]
) -> StudyColumn:
    cells = []
    for row in results.rows:
        cell = reading.number(row, column)
        if cell is None:
            cells.append(StudyCell())
            continue
        mean, error = written(cell)
        cells.append(StudyCell(mean, error, cell.value, cell.bold))
    better = next((each.better for each in columns if each.paper == column), None)
    return StudyColumn(plain(column), better, tuple(cells), plain(reading.source(column)))


def _seeds(row: StudyRow) -> str:
    expected = expected_seeds(row)
    return str(expected) if len(row.seeds) == expected else f"{len(row.seeds)} of {expected}"


def _legend(results: StudyResults, groups: Sequence[RowGroup], *, with_paper: bool) -> tuple[str, ...]:
    counts = {len(row.seeds) for row in results.rows if row.seeds}
    if not counts:
        first = "No trial has finished."
    elif counts == {1}:
        first = "One seed a row: no standard error and no test, nothing of ours is marked. Run at least 3 seeds."
    else:
        over = f"{counts.pop()} seeds" if len(counts) == 1 else "the seeds of each row"
        among = " on the same setting" if len(groups) > 1 else ""
        first = (
            f"Ours: mean ± standard error over {over}. {{mark}}: not significantly different from the best of the "
            f"column{among} (p > {_LEVEL:g}, pooled t-test, uncorrected)."
        )
    lines = [first]
    paper = results.definition.paper
    if with_paper:
        rule = f". {{mark}} as printed there: {paper.bold}" if paper is not None and paper.bold else ""
        name = paper.title if paper is not None else "The paper"
        lines.append(f"{name}: the paper's own numbers, on another setting than ours{rule}.")
    lines.append("–: not measured, not printed, or not defined for the row.")
    return tuple(lines)


def _notes(results: StudyResults, columns: Sequence[ColumnConfig], reading: PaperReading) -> tuple[str, ...]:
    unknown = [
        f"{column.title}: {clause}." for column in columns if (clause := unknown_measure(results, column.measure))
    ]
    partial = [
        f"{column.title} of {row.label}: over {defined} of {len(row.seeds)} seeds, else undefined."
        for row in results.rows
        for column in columns
        if 0 < (defined := len(present(finite_values(row, column.measure).values()))) < len(row.seeds)
    ]
    states = [f"{row.label}: {clause}." for row in results.rows if (clause := lacking(row)) is not None]
    fewer = _fewer(results)
    return (*reading.notes, *unknown, *states, *fewer, *partial)


def _fewer(results: StudyResults) -> list[str]:
    """Name rows that were planned with fewer seeds than others."""
    most = max((expected_seeds(row) for row in results.rows), default=0)
    return [
        f"{row.label}: {seeds_text(row.seeds)} alone; other rows have {most}."
        for row in results.rows
        if row.seeds and lacking(row) is None and len(row.seeds) < most
    ]
