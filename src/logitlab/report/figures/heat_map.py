"""A matrix as coloured cells: numbers in the cells of a small one, a picture for a large one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy
from numpy.typing import NDArray

from .canvas import INK, MUTED, new_axes, plain, series_colour, shorten, to_svg
from .panel import Panel

Values = NDArray[numpy.float64]
#: Above this many rows or columns no number could be read.
MOST_NUMBERS = 12
_MOST_LABELS = 34
_LABEL = 18
# Opacity of the largest value: with more of it numbers could not be read on a light and on a dark page alike.
_STRONGEST = 0.6
_IMAGE = (0x1F, 0x84, 0xD1)


def heat_map(
    name: str,
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    values: Values,
    *,
    low: float,
    high: float,
    write: Callable[[float], str],
    row_label: str = "",
    column_label: str = "",
    words: str = "",
    outlined: bool = False,
) -> Panel:
    """Draw a matrix; the larger the value, the stronger the colour.

    Args:
        name: of the picture, unique in the page.
        title: what stands above it.
        rows: their names ``[R]``.
        columns: their names ``[S]``.
        values: ``[R, S]``; NaN has no colour and a dash for a number.
        low: the value without colour.
        high: the value with the strongest colour.
        write: makes a number of a value, three letters at best.
        row_label: what the rows are.
        column_label: what the columns are.
        words: below the picture.
        outlined: whether the diagonal stands out.
    """
    large = max(len(rows), len(columns))
    numbers = large <= MOST_NUMBERS
    labelled = large <= _MOST_LABELS
    row_names = [shorten(each, _LABEL) for each in rows]
    column_names = [shorten(each, _LABEL) for each in columns]
    cell = 34.0 if numbers else max(6.0, min(16.0, 300 / large))
    upright = any(len(each) > 4 for each in column_names)
    size = 10 if cell > 12 else 8
    per_letter = 0.58 * size
    left = 12 + (18 if row_label else 0) + (per_letter * max(map(len, row_names)) if labelled else 0)
    bottom = 12.0 + (20 if column_label else 0)
    bottom += (per_letter * max(map(len, column_names)) if upright else 12) if labelled else 0
    figure, axes = new_axes(
        left + cell * len(columns) + 8, 8 + cell * len(rows) + bottom, left=left, right=8, top=8, bottom=bottom
    )
    share = numpy.clip((values - low) / ((high - low) or 1.0), 0, 1)
    if numbers:
        _cells(axes, values, share, write)
    else:
        _picture(axes, share)
    if outlined:
        _outline(axes, min(len(rows), len(columns)))
    axes.grid(visible=False)
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    for edge in ("top", "right"):
        axes.spines[edge].set_visible(True)
    if labelled:
        axes.set_xticks(range(len(columns)), column_names, rotation=90 if upright else 0, fontsize=size)
        axes.set_yticks(range(len(rows)), row_names, fontsize=size)
    else:
        axes.set_xticks([])
        axes.set_yticks([])
    axes.tick_params(length=0)
    axes.set_xlabel(shorten(column_label, 40))
    axes.set_ylabel(shorten(row_label, max(12, int(cell * len(rows) / 6))))
    said = f"{plain(title)}. {_summary(rows, columns, values, write)} {words}".strip()
    return Panel(title, to_svg(figure, name, said), words)


def _cells(axes: Any, values: Values, share: Values, write: Callable[[float], str]) -> None:
    from matplotlib.patches import Rectangle

    for row, column in numpy.ndindex(values.shape):
        known = numpy.isfinite(values[row, column])
        if known and share[row, column] > 0:
            axes.add_patch(
                Rectangle(
                    (column - 0.5, row - 0.5),
                    1,
                    1,
                    facecolor=series_colour(0),
                    alpha=_STRONGEST * float(share[row, column]),
                    linewidth=0,
                )
            )
        said = write(float(values[row, column])) if known else "–"
        axes.text(column, row, said, ha="center", va="center_baseline", fontsize=10, color=INK, parse_math=False)
    axes.spines[:].set_edgecolor(MUTED)


def _picture(axes: Any, share: Values) -> None:
    """Draw one image whose opacity is the value, so that it stands on a light and on a dark page."""
    image = numpy.zeros((*share.shape, 4), dtype=numpy.uint8)
    image[..., :3] = _IMAGE
    image[..., 3] = numpy.rint(255 * numpy.nan_to_num(share))
    rows, columns = share.shape
    axes.imshow(image, interpolation="none", extent=(-0.5, columns - 0.5, rows - 0.5, -0.5), aspect="auto")


def _outline(axes: Any, length: int) -> None:
    from matplotlib.patches import Rectangle

    for place in range(length):
        axes.add_patch(
            Rectangle((place - 0.46, place - 0.46), 0.92, 0.92, fill=False, edgecolor=INK, linewidth=1.2, zorder=3)
        )


def _summary(rows: Sequence[str], columns: Sequence[str], values: Values, write: Callable[[float], str]) -> str:
    """Say the numbers of a small matrix, and the ends of a large one."""
    if values.size <= 16:
        said = [
            f"{plain(rows[row])} and {plain(columns[column])}: {write(float(values[row, column]))}"
            for row, column in numpy.ndindex(values.shape)
            if numpy.isfinite(values[row, column])
        ]
        return "; ".join(said) + "."
    known = values[numpy.isfinite(values)]
    if not len(known):
        return "No value."
    return f"{len(rows)} × {len(columns)} values from {write(float(known.min()))} to {write(float(known.max()))}."
