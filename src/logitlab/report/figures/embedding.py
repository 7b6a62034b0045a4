"""A map of the features: a dot an image, a colour a class, the class's name in its midst."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy
from numpy.typing import NDArray

from .canvas import CLASS_COLOURS, INK, PAPER, class_colour, new_axes, shorten, to_svg
from .model_lines import thinned
from .panel import Panel

#: More dots would hide each other, and fill the page.
MOST_POINTS = 2000
#: Above this many classes names would hide the dots.
MOST_NAMES = 20
_SIDE = 330


def embedding(
    name: str,
    index: int,
    label: str,
    points: NDArray[numpy.float64],
    classes: NDArray[numpy.int64],
    class_names: Sequence[str],
    *,
    most: int = MOST_POINTS,
    words: str = "",
) -> Panel:
    """Draw a map such as that of t-SNE.

    Args:
        name: of the picture, unique in the page.
        index: the model's place, for the swatch beside the heading.
        label: the model.
        points: ``[N, 2]``.
        classes: true class of each ``[N]``.
        class_names: one a class.
        most: dots at most; of more, every so manieth is drawn.
        words: below the picture.
    """
    chosen = thinned(len(points), most)
    points, classes = points[chosen], classes[chosen]
    figure, axes = new_axes(_SIDE, _SIDE, left=6, right=6, top=6, bottom=6)
    present = numpy.unique(classes)
    for each in present:
        dots(axes, points[classes == each], int(each))
    if len(present) <= MOST_NAMES:
        for each in present:
            # The median lies inside a class that has strays; the mean may not.
            middle = numpy.median(points[classes == each], axis=0)
            written = class_names[each] if each < len(class_names) else str(each)
            axes.text(
                float(middle[0]),
                float(middle[1]),
                shorten(written, 14),
                ha="center",
                va="center",
                fontsize=11,
                fontweight="bold",
                color=INK,
                parse_math=False,
                zorder=4,
                bbox={"boxstyle": "round,pad=0.15", "facecolor": PAPER, "alpha": 0.75, "linewidth": 0},
            )
    low, high = points.min(axis=0), points.max(axis=0)
    middle, half = (low + high) / 2, max(float((high - low).max()) / 2 * 1.04, 1e-9)
    axes.set_xlim(middle[0] - half, middle[0] + half)
    axes.set_ylim(middle[1] - half, middle[1] + half)
    axes.grid(visible=False)
    # Neither the places nor the distances between groups mean anything.
    axes.set_xticks([])
    axes.set_yticks([])
    for edge in ("top", "right"):
        axes.spines[edge].set_visible(True)
    said = f"Map of the features of {label}: {len(points):,} images of {len(present)} classes. {words}"
    return Panel(label, to_svg(figure, name, said), words, index)


def dots(axes: Any, points: NDArray[numpy.float64], place: int) -> None:
    """Draw dots as lines of no length: a tenth of the bytes of as many circles, and they follow dark mode.

    Args:
        axes: of the figure.
        points: ``[N, 2]``.
        place: of the class, which gives them their colour.
    """
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    codes = numpy.tile([Path.MOVETO, Path.LINETO], len(points))
    path = Path(numpy.repeat(points, 2, axis=0), codes)
    # matplotlib would take lines of no length out of a long path.
    path.should_simplify = False
    # Where the colours come round again, squares tell the second ten classes from the first.
    shape = "projecting" if place // CLASS_COLOURS % 2 else "round"
    axes.add_patch(
        PathPatch(
            path,
            fill=False,
            edgecolor=class_colour(place),
            linewidth=3.6,
            capstyle=shape,
            snap=False,
            alpha=0.8,
        )
    )
