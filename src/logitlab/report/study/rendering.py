"""The table of a study as plain text, Markdown, LaTeX and rich: each group of columns under a heading of its own."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from logitlab.report.latex import escape_latex
from logitlab.report.rendering import escape_markdown

if TYPE_CHECKING:
    from rich.table import Table

    from .table import ColumnGroup, StudyCell, StudyColumn, StudyTable

_ROW = "row"
_SEEDS = "seeds"
_GAP = "  "
# Between two groups: nobody shall read across without noticing.
_BORDER = "  |  "
# A heading is broken into lines no shorter than this.
_NARROWEST = 24


def to_text(table: StudyTable) -> str:
    """Align every number at its point; ``*`` follows what is marked."""
    left = [_padded([_ROW, *table.labels])]
    if table.shows_seeds:
        left.append(_padded([_SEEDS, *table.seeds], right=True))
    bodies = [_joined(left, _GAP), *(_body(group) for group in _filled(table))]
    headings = [[], *(_wrapped(group.heading, body) for group, body in zip(_filled(table), bodies[1:]))]
    tall = max(len(heading) for heading in headings)
    blocks = [_padded([*[""] * (tall - len(heading)), *heading, *body]) for heading, body in zip(headings, bodies)]
    lines = [line.rstrip() for line in _joined(blocks, _BORDER)]
    rule = "-" * max(len(line) for line in lines)
    return "\n".join([*lines[: tall + 1], rule, *lines[tall + 1 :], rule, *table.sentences("*")])


def to_markdown(table: StudyTable) -> str:
    """A pipe table; a pipe table has one heading, so each column of the paper is named with the paper's table."""

    def line(parts: Sequence[str]) -> str:
        return "| " + " | ".join(parts) + " |"

    titles = [_ROW, *([_SEEDS] if table.shows_seeds else [])]
    for place, group in enumerate(table.groups):
        titles += [
            f"{column.source or group.title}: {column.heading}" if place else column.heading for column in group.columns
        ]
    lines = [line([escape_markdown(title) for title in titles]), line(["---", *["---:"] * (len(titles) - 1)])]
    for place, label in enumerate(table.labels):
        parts = [escape_markdown(label), *([table.seeds[place]] if table.shows_seeds else [])]
        for column in _columns(table):
            written = _join(column.cells[place])
            parts.append(f"**{written}**" if column.cells[place].marked else written)
        lines.append(line(parts))
    settings = [f"{group.heading}." for group in table.groups]
    notes = [f"- {escape_markdown(note)}" for note in (*settings, *table.sentences("Bold"))]
    return "\n".join([*lines, "", *notes])


def to_latex(table: StudyTable, label: str = "tab:study") -> str:
    r"""A ``table`` ruled by booktabs; a ``\cmidrule`` below the heading of each group."""
    first = 2 if table.shows_seeds else 1
    heads, rules, place = [""] * first, [], first + 1
    for group in table.groups:
        count = len(group.columns)
        if not count:
            continue
        heads.append(rf"\multicolumn{{{count}}}{{c}}{{{_latex(group.short)}}}")
        rules.append(rf"\cmidrule(lr){{{place}-{place + count - 1}}}")
        place += count
    titles = [_ROW, *([_SEEDS] if table.shows_seeds else []), *(column.heading for column in _columns(table))]
    body = []
    for row, name in enumerate(table.labels):
        cells = [_latex_cell(column.cells[row]) for column in _columns(table)]
        body.append([escape_latex(name), *([table.seeds[row]] if table.shows_seeds else []), *cells])
    caption = " ".join([*(f"{group.heading}." for group in table.groups), *table.sentences("Bold")])
    return "\n".join(
        [
            r"% \usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_latex(caption)}}}",
            rf"\label{{{label}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(titles) - 1)}}}",
            r"\toprule",
            " & ".join(heads) + r" \\",
            " ".join(rules),
            " & ".join(map(_latex, titles)) + r" \\",
            r"\midrule",
            *(" & ".join(line) + r" \\" for line in body),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def to_rich(table: StudyTable, width: int | None) -> Table:
    """Beside each other where ``width`` allows, else each error below its mean, else fewer columns."""
    if width is None or _fits(wide := _rich(table, stacked=False), width):
        return _rich(table, stacked=False) if width is None else wide
    left_out: list[StudyColumn] = []
    while not _fits(narrow := _rich(table, stacked=True, left_out=left_out), width):
        kept = [column for column in _columns(table) if column not in left_out]
        if len(kept) <= 1:
            break
        # From the right: the paper's first, what the study asks for last.
        left_out.append(kept[-1])
    return narrow


def _rich(table: StudyTable, *, stacked: bool, left_out: Sequence[StudyColumn] = ()) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    built = Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 0, 0, 0) if stacked else (0, 1, 0, 0)
    )
    if left_out:
        built.caption = Text(f"No room for {', '.join(column.title for column in left_out)}: widen the terminal.")
        built.caption_justify = "left"
    built.add_column(_ROW, overflow="fold")
    if table.shows_seeds:
        built.add_column(_SEEDS, justify="right", no_wrap=True)
    for group in table.groups:
        for column in group.columns:
            if column not in left_out:
                title = column.heading.replace(" ", "\n") if stacked else column.heading
                built.add_column(f"{column.source or group.title}\n{title}", justify="right", no_wrap=not stacked)
    for place, label in enumerate(table.labels):
        parts = [Text(label), *([Text(table.seeds[place])] if table.shows_seeds else [])]
        for column in _columns(table):
            if column in left_out:
                continue
            cell = column.cells[place]
            written = f"{cell.mean}\n±{cell.error}" if stacked and cell.error else _join(cell)
            parts.append(Text(written, style="bold" if cell.marked else ""))
        built.add_row(*parts)
    return built


def _fits(built: Table, width: int) -> bool:
    from rich.console import Console
    from rich.measure import Measurement

    console = Console(width=10_000)
    return Measurement.get(console, console.options, built).maximum <= width


def _columns(table: StudyTable) -> list[StudyColumn]:
    return [column for group in table.groups for column in group.columns]


def _filled(table: StudyTable) -> list[ColumnGroup]:
    return [group for group in table.groups if group.columns]


def _wrapped(heading: str, body: Sequence[str]) -> list[str]:
    """The heading of a group in lines as long as its columns are wide, or a little longer."""
    return textwrap.wrap(heading, max(_NARROWEST, *map(len, body)))


def _body(group: ColumnGroup) -> list[str]:
    """The headings of the columns of one group, and its rows."""
    lines = []
    for column in group.columns:
        means = _at_point([cell.mean for cell in column.cells])
        error_width = max((len(cell.error) for cell in column.cells), default=0)
        written = []
        for cell, body in zip(column.cells, means):
            if error_width:
                body += f" ± {cell.error.rjust(error_width)}" if cell.error else " " * (error_width + 3)
            written.append(body + ("*" if cell.marked else " "))
        # The heading stands above the digits, not above the place of the star.
        lines.append(_padded([column.heading + " ", *written], right=True))
    return _joined(lines, _GAP)


def _at_point(numbers: Sequence[str]) -> list[str]:
    """Bring the points of numbers below each other: a paper prints 77.0 above 76.92.

    >>> _at_point(["77.0", "6.92", "–"])
    ['77.0 ', ' 6.92', '    –']
    """
    most = max((len(number.partition(".")[2]) for number in numbers), default=0)
    filled = [number + " " * (most - len(number.partition(".")[2])) if "." in number else number for number in numbers]
    return _padded(filled, right=True) if filled else []


def _joined(columns: Sequence[Sequence[str]], gap: str) -> list[str]:
    return [gap.join(parts) for parts in zip(*columns)]


def _padded(parts: Sequence[str], *, right: bool = False) -> list[str]:
    width = max(len(part) for part in parts)
    return [part.rjust(width) if right else part.ljust(width) for part in parts]


def _join(cell: StudyCell) -> str:
    return f"{cell.mean} ± {cell.error}" if cell.error else cell.mean


def _latex_cell(cell: StudyCell) -> str:
    if cell.value is None:
        return "--"
    body = rf"{cell.mean} \pm {cell.error}" if cell.error else cell.mean
    return rf"$\mathbf{{{body}}}$" if cell.marked else f"${body}$"


def _latex(text: str) -> str:
    r"""As :func:`escape_latex`, with the letter ρ, which pdfLaTeX's standard fonts lack as well."""
    return escape_latex(text).replace("ρ", r"$\rho$")
