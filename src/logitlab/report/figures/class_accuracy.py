"""Accuracy class by class: a line a class, a mark a head, the worst classes first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy
from numpy.typing import NDArray

from .canvas import GRID, MARKERS, new_axes, series_colour, shorten, to_svg
from .panel import Panel

MOST_CLASSES = 20
_ROW = 22.0
_TALLEST_ROW = 34.0
_LEAST_SPAN = 10.0
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
    left = 20 + 6.4 * max(len(name) for name in names)
    measured = [index for index, values in accuracies.items() if values is not None]
    height = min(max(_ROW, 12 + 3 * len(measured)), _TALLEST_ROW)
    figure, axes = new_axes(400, 44 + height * len(shown), left=left, right=16, top=8, bottom=34)
    grid = numpy.array([values[shown] for values in accuracies.values() if values is not None]) * 100
    for row in range(len(shown)):
        axes.plot([grid[:, row].min(), grid[:, row].max()], [row, row], color=GRID, linewidth=4, zorder=1)
    for place, index in enumerate(measured):
        values = accuracies[index]
        assert values is not None
        # Beside each other in their row: heads that agree would hide all but the last.
        shift = 0.3 * (2 * place / (len(measured) - 1) - 1) if len(measured) > 1 else 0.0
        axes.plot(
            values[shown] * 100,
            [row + shift for row in range(len(shown))],
            # A class at 0 or 100 % shows its whole mark.
            clip_on=False,
            linestyle="none",
            marker=MARKERS[index % len(MARKERS)],
            markersize=5.5,
            color=series_colour(index),
            alpha=0.85,
            gid=f"series-{index}",
        )
    axes.set_yticks(range(len(shown)), names)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0, pad=9)
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False, axis="y")
    axes.set_xlim(*_limits(float(grid.min()), float(grid.max())))
    return Panel(title, to_svg(figure, "class-accuracy", f"{title}, from the worst to the best."))


def _limits(low: float, high: float) -> tuple[float, float]:
    """Return the ends of the axis: within 0 and 100 %, and never closer than a tenth of that.

    >>> _limits(0, 0), _limits(99.5, 100), _limits(40, 80)
    ((0.0, 10.0), (90.0, 100.0), (38.8, 81.2))
    """
    margin = max(0.03 * (high - low), (_LEAST_SPAN - (high - low)) / 2)
    left = min(max(low - margin, 0.0), 100 - _LEAST_SPAN)
    return left, max(min(high + margin, 100.0), left + _LEAST_SPAN)
