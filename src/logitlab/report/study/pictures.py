"""The pictures of a study: those that its definition asks for, ours against the paper's, and the curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from logitlab.config.study import ColumnConfig, FigureConfig
from logitlab.records.study import StudyResults, StudyRow
from logitlab.report.columns import Column
from logitlab.report.figures import Panel, learning_curves, seed_dots
from logitlab.report.figures.axis_lines import AxisLine, AxisPoint, axis_lines
from logitlab.report.figures.row_scatter import Mark, row_scatter
from logitlab.statistics import Estimate, mean_and_error, present
from logitlab.statistics.rank_correlation import double_ranks

from .correlations import Correlation
from .epochs import epoch_figures
from .paper import PaperReading
from .reading import (
    axis_value,
    column_of,
    columns_of,
    finite_values,
    is_chosen,
    places,
    resolve,
    row_groups,
    unknown_measure,
)


@dataclass(frozen=True)
class Figure:
    """One figure of the definition.

    Attributes:
        title: what stands above it.
        panels: a picture a measure.
        kind: how wide its pictures are: ``"wide"`` or ``"middle"``.
        faults: what it asks for that is not there, in sentences.
    """

    title: str
    panels: tuple[Panel, ...]
    kind: str = "middle"
    faults: tuple[str, ...] = field(default_factory=tuple)

    @property
    def size(self) -> int:
        """Roughly how many bytes of the page it takes."""
        return sum(panel.size for panel in self.panels)


def draw_figures(results: StudyResults) -> list[Figure]:
    """Draw the figures of the definition; without any, every seed of every column of the table.

    Args:
        results: of the study.
    """
    asked: Sequence[FigureConfig] = results.definition.figures
    if not asked:
        measures = tuple(column.measure for column in columns_of(results))
        asked = (FigureConfig(title="Every seed", kind="dots", measures=measures),)
    return [_figure(results, config, number) for number, config in enumerate(asked)]


def against_paper(results: StudyResults, reading: PaperReading, correlations: Sequence[Correlation]) -> list[Panel]:
    """Draw each of our columns that names one of the paper's against it, with the ranks of every row.

    Args:
        results: of the study.
        reading: the paper's table.
        correlations: of these columns, in the order of the table.
    """
    panels = []
    groups = {group.name: group.rows for group in row_groups(results)}
    columns = {column.measure: column for column in columns_of(results)}
    place = places(results)
    for number, each in enumerate(correlations):
        column = columns[each.measure]
        assert column.paper is not None
        cells = [(row, reading.number(row, column.paper), _estimate(row, column)) for row in groups[each.group]]
        both = [(row, cell, ours) for row, cell, ours in cells if cell is not None and ours is not None]
        sign = -1.0 if column.better != "lower" else 1.0
        theirs = _ranks([sign * cell.value for _, cell, _ in both])
        ranks = _ranks([sign * ours.mean for _, _, ours in both])
        marks = [
            Mark(place[row.label], f"{row.label} ({there}→{here})", Estimate(cell.value, cell.error), ours)
            for (row, cell, ours), there, here in zip(both, theirs, ranks)
        ]
        title = column.title + (f", {each.group}" if each.group else "")
        words = f"In brackets: rank in the paper → rank here, 1 is best. {str(each.found).rstrip('.')}. {each.caution}"
        panels.append(
            row_scatter(f"paper-{number}", title, marks, each.paper, f"ours: {column.title}", words=words.rstrip())
        )
    return panels


def curves(results: StudyResults) -> list[Panel]:
    """Draw accuracy, loss and κ* through the epochs of the final trials."""
    place = places(results)
    histories: dict[int, list[Sequence[Mapping[str, Any]]]] = {}
    for planned in results.plan.trials:
        record = results.records.get(planned.identity)
        if planned.role == "final" and record is not None and planned.row in place:
            histories.setdefault(place[planned.row], []).append(record["result"].get("history") or [])
    panels = learning_curves(dict(sorted(histories.items())))
    return [panel for panel in panels if panel.svg is not None]


def _figure(results: StudyResults, config: FigureConfig, number: int) -> Figure:
    rows, faults = resolve(results, config.rows)
    rows = rows if config.rows else list(results.rows)
    if config.kind != "epochs":
        faults += [fault for measure in config.measures if (fault := unknown_measure(results, measure)) is not None]
    if config.kind == "scatter":
        panels = [_scatter(results, config, rows, f"figure-{number}")]
    else:
        draw = {"dots": _dots, "lines": _lines, "epochs": epoch_figures}[config.kind]
        panels = [
            panel
            for each, measure in enumerate(config.measures)
            for panel in draw(results, config, measure, rows, f"figure-{number}-{each}")
        ]
    kind = "middle" if config.kind == "dots" else "wide"
    return Figure(config.title, tuple(panels), kind, tuple(f"{fault[:1].upper()}{fault[1:]}." for fault in faults))


def _dots(results: StudyResults, _: FigureConfig, measure: str, rows: Sequence[StudyRow], name: str) -> list[Panel]:
    config, place = column_of(results, measure), places(results)
    higher = None if config.better is None else config.better == "higher"
    column = Column(name, config.title, higher, config.decimals, scale=config.factor)
    values = [list(finite_values(row, measure).values()) for row in rows]
    return [seed_dots(column, [place[row.label] for row in rows], [row.label for row in rows], values)]


def _lines(
    results: StudyResults, config: FigureConfig, measure: str, rows: Sequence[StudyRow], name: str
) -> list[Panel]:
    column = column_of(results, measure)
    panels = []
    # Rows of other images have another axis of heights.
    groups = [(group.name, [row for row in group.rows if row in rows]) for group in row_groups(results)]
    for number, (group, members) in enumerate(groups):
        if members:
            lines = _axis_lines(results, members, measure, config.along or "")
            panel = axis_lines(f"{name}-{number}", column, lines, config.along or "", logarithmic=config.logarithmic)
            title = f"{panel.title}, {group}" if group else panel.title
            panels.append(Panel(title, panel.svg, panel.words))
    return panels


def _axis_lines(results: StudyResults, rows: Sequence[StudyRow], measure: str, axis: str) -> list[AxisLine]:
    """Join the rows of one entry; what was chosen stands alone, and so does what has no place on the axis."""
    place = places(results)
    lines: dict[str, list[tuple[StudyRow, AxisPoint]]] = {}
    alone = []
    for row in rows:
        where = axis_value(results, row, axis)
        point = AxisPoint(where, list(finite_values(row, measure).values()))
        if where is None or is_chosen(row, axis):
            alone.append(AxisLine(place[row.label], row.label, (point,), chosen=where is not None))
        else:
            lines.setdefault(row.plan.entry, []).append((row, point))
    found = []
    for entry, members in lines.items():
        label = members[0][0].label if len(members) == 1 else _entry_label(entry)
        found.append(AxisLine(place[members[0][0].label], label, tuple(point for _, point in members)))
    return [*found, *alone]


def _entry_label(entry: str) -> str:
    """What an entry is called where a label with axes in braces stands for all of its rows.

    >>> _entry_label("κ = {head.kappa:g}"), _entry_label("cosine")
    ('κ', 'cosine')
    """
    return entry.split("{")[0].rstrip(" =(:,") or entry


def _scatter(results: StudyResults, config: FigureConfig, rows: Sequence[StudyRow], name: str) -> Panel:
    across, upwards = (column_of(results, measure) for measure in config.measures)
    place = places(results)
    marks = [
        Mark(place[row.label], row.label, first, second)
        for row in rows
        if (first := _estimate(row, across)) is not None and (second := _estimate(row, upwards)) is not None
    ]
    title = f"{upwards.title} against {across.title}"
    words = "Means over seeds, with their standard errors." if marks else ""
    return row_scatter(name, title, marks, across.title, upwards.title, words=words)


def _estimate(row: StudyRow, column: ColumnConfig) -> Estimate | None:
    """Mean and standard error in the unit of the column."""
    kept = present(finite_values(row, column.measure).values())
    if not kept:
        return None
    found = mean_and_error(kept)
    error = None if found.error is None else abs(column.factor) * found.error
    return Estimate(column.factor * found.mean, error)


def _ranks(values: Sequence[float]) -> list[str]:
    """Ranks from 1, as texts; ties share the mean of theirs."""
    return [f"{rank / 2:g}" for rank in double_ranks(values)]
