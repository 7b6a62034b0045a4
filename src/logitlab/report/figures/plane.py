"""Features of two dimensions as they are: a dot an image, a colour a class, an arrow along the weight of each class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy
from numpy.typing import NDArray

from .canvas import GRID, INK, PAPER, class_colour, new_axes, shorten, to_svg
from .embedding import MOST_NAMES, MOST_POINTS, dots
from .model_lines import thinned
from .panel import Panel

_SIDE = 350
# How far arrows reach, as a share of the length that a tenth of the features exceed.
_REACH = 0.9
# How far names stand, as shares of the reach: of directions nearer than so many degrees each name takes the next place.
_PLACES, _NEAR = (1.1, 1.24, 1.38), 10.0


def plane(
    name: str,
    index: int,
    label: str,
    points: NDArray[numpy.float64],
    classes: NDArray[numpy.int64],
    weight: NDArray[numpy.float64],
    class_names: Sequence[str],
    *,
    most: int = MOST_POINTS,
    words: str = "",
) -> Panel:
    """Draw features around the origin with the directions of the classes.

    Args:
        name: of the picture, unique in the page.
        index: the model's place, for the swatch beside the heading.
        label: the model.
        points: ``[N, 2]``.
        classes: true class of each ``[N]``.
        weight: ``[C · centres, 2]``, the rows of a class one after another; their lengths are not drawn.
        class_names: one a class.
        most: dots at most; of more, every so manieth is drawn.
        words: below the picture.
    """
    chosen = thinned(len(points), most)
    points, classes = points[chosen], classes[chosen]
    figure, axes = new_axes(_SIDE, _SIDE, left=40, right=8, top=8, bottom=28)
    for edge in (axes.axhline, axes.axvline):
        edge(0, color=GRID, linewidth=1.2)
    for each in numpy.unique(classes):
        dots(axes, points[classes == each], int(each))
    reach = _REACH * float(numpy.quantile(numpy.hypot(*points.T), 0.9))
    centres = max(1, len(weight) // max(1, len(class_names)))
    lengths = numpy.hypot(*weight.T)
    tips = numpy.zeros((0, 2))
    if reach > 0 and (lengths > 0).any():
        rows = numpy.flatnonzero(lengths > 0)
        tips = reach * weight[rows] / lengths[rows, None]
        for row, tip in zip(rows, tips):
            _arrow(axes, tip, int(row) // centres)
        if len(weight) <= MOST_NAMES:
            for row, tip, place in zip(rows, tips, name_places(tips)):
                _write(axes, place * tip, class_names, int(row) // centres)
    # The origin belongs to the picture: directions are seen from it.
    inside = numpy.concatenate([points, numpy.zeros((1, 2)), name_places(tips)[:, None] * tips])
    low, high = inside.min(axis=0), inside.max(axis=0)
    middle, half = (low + high) / 2, max(float((high - low).max()) / 2 * 1.06, 1e-9)
    axes.set_xlim(middle[0] - half, middle[0] + half)
    axes.set_ylim(middle[1] - half, middle[1] + half)
    axes.grid(visible=False)
    axes.locator_params(nbins=5)
    present = len(numpy.unique(classes))
    said = (
        f"Features of {label} in their plane: {len(points):,} images of {present} classes, and the directions of "
        f"{len(tips)} class weights. {words}"
    )
    return Panel(label, to_svg(figure, name, said), words, index)


def name_places(tips: NDArray[numpy.float64]) -> NDArray[numpy.float64]:
    """Return how far each name stands, as a share of its arrow, so that names of near directions lie side by side.

    Args:
        tips: of the arrows, ``[A, 2]``.

    >>> name_places(numpy.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.01]])).tolist()
    [1.1, 1.1, 1.24]
    """
    angles = numpy.degrees(numpy.arctan2(tips[:, 1], tips[:, 0]))
    found = numpy.full(len(tips), _PLACES[0])
    step, last = 0, None
    for each in numpy.argsort(angles, kind="stable"):
        step = step + 1 if last is not None and angles[each] - last < _NEAR else 0
        found[each] = _PLACES[step % len(_PLACES)]
        last = angles[each]
    return found


def _arrow(axes: Any, tip: NDArray[numpy.float64], place: int) -> None:
    """Draw an arrow from the origin; a rim of paper keeps it apart from dots of its own colour."""
    for colour, width in ((PAPER, 4.5), (INK, 2.6), (class_colour(place), 1.5)):
        axes.annotate(
            "",
            xy=(float(tip[0]), float(tip[1])),
            xytext=(0, 0),
            arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": width, "shrinkA": 0, "shrinkB": 0},
            zorder=3,
        )


def _write(axes: Any, place: NDArray[numpy.float64], class_names: Sequence[str], each: int) -> None:
    written = class_names[each] if each < len(class_names) else str(each)
    # Beyond the tip, on the side that it points to.
    across = float(place[0]) / max(float(numpy.hypot(*place)), 1e-12)
    axes.text(
        float(place[0]),
        float(place[1]),
        shorten(written, 14),
        ha="left" if across > 0.5 else "right" if across < -0.5 else "center",
        va="center",
        fontsize=11,
        fontweight="bold",
        color=INK,
        parse_math=False,
        zorder=4,
        bbox={"boxstyle": "round,pad=0.15", "facecolor": PAPER, "alpha": 0.75, "linewidth": 0},
    )
