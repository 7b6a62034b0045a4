"""A number a class as a stem, in the order of the classes, with rings around those that matter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy
from numpy.typing import NDArray

from .canvas import INK, MUTED, new_axes, series_colour, shorten, to_svg
from .panel import Panel

# With more classes than these, their numbers stand below the axis instead of their names.
_MOST_NAMES, _NAME = 12, 9
_WIDTH, _HEIGHT = 340.0, 210.0


def class_stems(
    name: str,
    index: int,
    title: str,
    values: NDArray[numpy.float64],
    ringed: Sequence[int],
    class_names: Sequence[str],
    *,
    label: str,
    said: str,
    words: str = "",
) -> Panel:
    """Draw a stem a class.

    Args:
        name: of the picture, unique in the page.
        index: the model's place, which gives the stems their colour.
        title: what stands above it.
        values: one a class, ``[C]``.
        ringed: the classes that get a ring.
        class_names: one a class.
        label: of the vertical axis.
        said: what a screen reader says after the title.
        words: below the picture.
    """
    count = len(values)
    named = count <= _MOST_NAMES and len(class_names) == count
    names = [shorten(each, _NAME) for each in class_names] if named else []
    upright = sum(len(each) + 2 for each in names) > 44
    bottom = 38.0 if not upright else 14 + 6.2 * max(len(each) for each in names)
    figure, axes = new_axes(_WIDTH, _HEIGHT - 38 + bottom, left=50, bottom=bottom)
    places = numpy.arange(count)
    gap = numpy.full(count, numpy.nan)
    axes.plot(
        numpy.stack([places, places, gap], axis=1).ravel(),
        numpy.stack([numpy.zeros(count), values, gap], axis=1).ravel(),
        color=series_colour(index),
        linewidth=max(0.8, min(5.0, 180 / count)),
        solid_capstyle="butt",
    )
    axes.axhline(0, color=MUTED, linewidth=0.8)
    axes.plot(
        list(ringed),
        values[list(ringed)],
        linestyle="none",
        marker="o",
        markersize=8,
        markerfacecolor="none",
        markeredgecolor=INK,
        markeredgewidth=1.2,
    )
    axes.set_xlim(-0.6 - 0.01 * count, count - 0.4 + 0.01 * count)
    axes.margins(y=0.1)
    axes.grid(visible=False, axis="x")
    axes.set_ylabel(label)
    axes.locator_params(axis="y", nbins=5)
    if names:
        axes.set_xticks(places, names, rotation=90 if upright else 0, fontsize=10)
    else:
        axes.set_xlabel("class")
        axes.locator_params(axis="x", integer=True, nbins=6)
    return Panel(title, to_svg(figure, name, f"{title}. {said}"), words)
