"""Two distributions of one model over each other: within and between classes, own and nearest other class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

from .canvas import DASHES, INK, new_axes, series_colour, to_svg
from .model_lines import thinned
from .panel import Panel

Values = NDArray[numpy.float64]


@dataclass(frozen=True)
class Pair:
    """Two distributions over one axis.

    Attributes:
        grid: places ``[P]``, or the edges of bins ``[P + 1]``.
        first: the filled one ``[P]``.
        second: the dashed one ``[P]``.
    """

    grid: Values
    first: Values
    second: Values


def pair_of_densities(
    name: str,
    index: int,
    label: str,
    pair: Pair,
    *,
    x_label: str,
    y_label: str,
    said: str,
    words: str = "",
    limits: tuple[float, float] | None = None,
) -> Panel:
    """Draw one model: the first distribution filled in its colour, the second as a dashed outline.

    Args:
        name: of the picture, unique in the page.
        index: the model's place.
        label: the model.
        pair: curves, or bars where ``grid`` has one more than they have.
        x_label: beside the horizontal axis.
        y_label: beside the vertical axis.
        said: what a screen reader says after the model's name.
        words: below the picture.
        limits: ends of the horizontal axis, the same for all models; None for those of the data.
    """
    figure, axes = new_axes(300, 210)
    colour = series_colour(index)
    if len(pair.grid) == len(pair.first) + 1:
        axes.stairs(pair.first, pair.grid, fill=True, color=colour, alpha=0.3, linewidth=0)
        axes.stairs(pair.first, pair.grid, color=colour, linewidth=1.6)
        axes.stairs(pair.second, pair.grid, color=INK, linewidth=1.6, linestyle=DASHES[1])
    else:
        chosen = thinned(len(pair.grid), 200)
        grid, first, second = (values[chosen] for values in (pair.grid, pair.first, pair.second))
        axes.fill_between(grid, first, color=colour, alpha=0.3, linewidth=0)
        axes.plot(grid, first, color=colour)
        # A colour of its own would be that of another model.
        axes.plot(grid, second, color=INK, linestyle=DASHES[1])
    if limits is not None:
        axes.set_xlim(*limits)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    return Panel(label, to_svg(figure, name, f"{label}. {said}"), words, index)


def reach(pairs: list[Pair], *, share: float = 0.001) -> tuple[float, float] | None:
    """Return the ends between which all but a thousandth of every distribution lies, for one axis for all models.

    Args:
        pairs: of all models.
        share: of a distribution that may lie beyond each end.
    """
    ends: list[tuple[float, float]] = []
    for pair in pairs:
        binned = len(pair.grid) == len(pair.first) + 1
        for heights in (pair.first, pair.second):
            total = numpy.cumsum(numpy.nan_to_num(heights))
            if total[-1] > 0:
                first = int(numpy.searchsorted(total, share * total[-1]))
                last = int(numpy.searchsorted(total, (1 - share) * total[-1]))
                ends.append((float(pair.grid[first]), float(pair.grid[min(last + binned, len(pair.grid) - 1)])))
    if not ends:
        return None
    low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    return (low, high) if high > low else None
