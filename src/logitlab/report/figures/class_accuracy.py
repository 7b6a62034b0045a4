"""Accuracy class by class: a line a class, a mark a head, the worst classes first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy
from numpy.typing import NDArray

from .canvas import GRID, MARKERS, new_axes, series_colour, shorten, to_svg
from .panel import Panel

MOST_CLASSES = 20
_ROW = 20.0
_LABEL = 18


def class_accuracy(
    accuracies: Mapping[int, NDArray[numpy.float64] | None], class_names: Sequence[str], order: Sequence[int]
) -> Panel:
    """Draw the worst classes.

    Args:
        accuracies: a head's place → the accuracy of every class, over all its seeds; None where it has none.
        class_names: one a class.
        order: classes from the worst to the best.
    """
    shown = list(order[:MOST_CLASSES])
    names = [shorten(class_names[place], _LABEL) for place in shown]
    title = (
        f"accuracy of the {len(shown)} worst of {len(order)} classes, %"
        if len(shown) < len(order)
        else ("accuracy of each class, %")
    )
    left = 14 + 6.4 * max(len(name) for name in names)
    figure, axes = new_axes(400, 44 + _ROW * len(shown), left=left, right=16, top=8, bottom=34)
    grid = numpy.array([values[shown] for values in accuracies.values() if values is not None]) * 100
    for row in range(len(shown)):
        axes.plot([grid[:, row].min(), grid[:, row].max()], [row, row], color=GRID, linewidth=4, zorder=1)
    for index, values in accuracies.items():
        if values is None:
            continue
        axes.plot(
            values[shown] * 100,
            range(len(shown)),
            linestyle="none",
            marker=MARKERS[index % len(MARKERS)],
            markersize=5.5,
            color=series_colour(index),
            alpha=0.85,
            gid=f"series-{index}",
        )
    axes.set_yticks(range(len(shown)), names)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.03)
    return Panel(title, to_svg(figure, "class-accuracy", f"{title}, from the worst to the best."))
