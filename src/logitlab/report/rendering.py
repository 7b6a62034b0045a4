"""The table of heads as plain text, Markdown, HTML and rich."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from .columns import decimals_for, write_estimate
from .content import TableContent

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

_BLANK = "–"

# What a narrow terminal does without, first to last.
_DISPENSABLE = ("seconds", "class_separation", "kappa", "kappa_star", "ood_ap", "miss_ap", "ece", "nll")


def to_text(table: TableContent) -> str:
    """Align every number at its point; ``*`` follows what is marked."""
    grid = _grid(table)
    labels = ["head", *(row.label for row in table.rows)]
    lines = [_pad(labels)]
    if _shows_seeds(table):
        lines.append(_pad(["seeds", *(str(row.seeds) for row in table.rows)], right=True))
    for index, column in enumerate(table.columns):
        cells = [row[index] for row in grid]
        mean_width = max((len(mean) for mean, _, _ in cells), default=0)
        error_width = max((len(error) for _, error, _ in cells), default=0)
        joined = []
        for mean, error, marked in cells:
            body = mean.rjust(mean_width)
            if error_width:
                body += f" ± {error.rjust(error_width)}" if error else " " * (error_width + 3)
            joined.append(body + ("*" if marked else " "))
        # The heading stands above the digits, not above the place of the star.
        lines.append(_pad([column.title + " ", *joined], right=True))
    rows = ["  ".join(parts).rstrip() for parts in zip(*lines)]
    rule = "-" * max(len(row) for row in rows)
    return "\n".join([rows[0], rule, *rows[1:], rule, *sentences(table, "*")])


def to_markdown(table: TableContent) -> str:
    """A pipe table; what is marked stands in bold."""

    def line(parts: list[str]) -> str:
        return "| " + " | ".join(parts) + " |"

    grid = _grid(table)
    shows_seeds = _shows_seeds(table)
    titles = ["head", *(["seeds"] if shows_seeds else []), *(column.title for column in table.columns)]
    rule = line(["---", *["---:"] * (len(titles) - 1)])
    lines = [line([escape_markdown(title) for title in titles]), rule]
    for row, cells in zip(table.rows, grid):
        parts = [escape_markdown(row.label), *([str(row.seeds)] if shows_seeds else [])]
        for mean, error, marked in cells:
            written = _join(mean, error)
            parts.append(f"**{written}**" if marked else written)
        lines.append(line(parts))
    notes = [f"- {escape_markdown(note)}" for note in sentences(table, "Bold")]
    return "\n".join([*lines, "", *notes])


def to_html(table: TableContent) -> str:
    """A ``<table>`` and a list of notes; every text is escaped."""
    grid = _grid(table)
    shows_seeds = _shows_seeds(table)
    titles = [*(["seeds"] if shows_seeds else []), *(column.title for column in table.columns)]
    number = '<td style="text-align: right; white-space: nowrap">'
    head = '<th style="text-align: left">head</th>' + "".join(
        f'<th style="text-align: right">{escape(title)}</th>' for title in titles
    )
    body = []
    for row, cells in zip(table.rows, grid):
        line = f'<th scope="row" style="text-align: left">{escape(row.label)}</th>'
        line += f"{number}{row.seeds}</td>" if shows_seeds else ""
        for mean, error, marked in cells:
            written = escape(_join(mean, error))
            line += f"{number}<b>{written}</b></td>" if marked else f"{number}{written}</td>"
        body.append(f"<tr>{line}</tr>")
    notes = "".join(f"<li>{escape(note)}</li>" for note in sentences(table, "Bold"))
    return "\n".join(
        [
            f"<table><thead><tr>{head}</tr></thead>",
            "<tbody>",
            *body,
            "</tbody></table>",
            f"<ul>{notes}</ul>",
        ]
    )


def to_rich(table: TableContent, width: int | None) -> Table:
    """Beside each other where ``width`` allows, else each standard error below its mean, else fewer columns."""
    if width is None:
        return _rich_table(table, stacked=False)
    if _fits(wide := _rich_table(table, stacked=False), width):
        return wide
    left_out: list[str] = []
    while not _fits(narrow := _rich_table(table, stacked=True, left_out=left_out), width):
        dispensable = [key for key in _DISPENSABLE if key not in left_out]
        if not dispensable:
            break
        left_out.append(dispensable[0])
    return narrow


def _fits(built: Table, width: int) -> bool:
    from rich.console import Console
    from rich.measure import Measurement

    console = Console(width=10_000)
    return Measurement.get(console, console.options, built).maximum <= width


def footer(table: TableContent, mark: str) -> list[Text]:
    """The sentences below a rich table."""
    from rich.text import Text

    return [Text(note, style="dim") for note in sentences(table, mark.capitalize())]


def sentences(table: TableContent, mark: str) -> list[str]:
    """The legend, with the name of the marking filled in, and the notes."""
    return [*(line.replace("{mark}", mark) for line in table.legend), *table.notes]


def _rich_table(table: TableContent, *, stacked: bool, left_out: Sequence[str] = ()) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    grid = _grid(table)
    shows_seeds = _shows_seeds(table)
    # Rich adds a blank between columns by itself: two in all, one where room is short.
    padding = (0, 0, 0, 0) if stacked else (0, 1, 0, 0)
    built = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=padding)
    kept = [column for column in table.columns if column.key not in left_out]
    if len(kept) < len(table.columns):
        names = ", ".join(column.heading for column in table.columns if column.key in left_out)
        built.caption = Text(f"No room for {names}: widen the terminal.")
        built.caption_justify = "left"
    built.add_column("head", overflow="fold")
    if shows_seeds:
        built.add_column("seeds", justify="right", no_wrap=True)
    for column in kept:
        title = column.title.replace(" ", "\n", 1) if stacked else column.title
        built.add_column(title, justify="right", no_wrap=True)
    for row, cells in zip(table.rows, grid):
        label = row.label.replace(":", ":\n", 1) if stacked else row.label
        parts = [Text(label), *([Text(str(row.seeds))] if shows_seeds else [])]
        for column, (mean, error, marked) in zip(table.columns, cells):
            if column.key in left_out:
                continue
            written = f"{mean}\n±{error}" if stacked and error else _join(mean, error)
            parts.append(Text(written, style="bold" if marked else ""))
        built.add_row(*parts)
    return built


def _grid(table: TableContent) -> list[list[tuple[str, str, bool]]]:
    """Write every cell: mean, standard error, marked; a column shares its number of decimals."""
    places = [
        decimals_for(column, [found for row in table.rows if (found := row.cells[index].estimate)])
        for index, column in enumerate(table.columns)
    ]
    grid = []
    for row in table.rows:
        line = []
        for column, cell, decimals in zip(table.columns, row.cells, places):
            written = write_estimate(column, cell.estimate, decimals) if cell.estimate else (_BLANK, "")
            line.append((*written, cell.marked))
        grid.append(line)
    return grid


def _shows_seeds(table: TableContent) -> bool:
    """A column of seeds is worth its room only where the heads differ in it."""
    return len({row.seeds for row in table.rows}) > 1


def _join(mean: str, error: str) -> str:
    return f"{mean} ± {error}" if error else mean


def _pad(parts: list[str], *, right: bool = False) -> list[str]:
    width = max(len(part) for part in parts)
    return [part.rjust(width) if right else part.ljust(width) for part in parts]


def escape_markdown(text: str) -> str:
    """Keep names such as ``label_smoothing`` and ``a|b`` as they are written."""
    for character in "\\|*_<[]":
        text = text.replace(character, f"\\{character}")
    return text
