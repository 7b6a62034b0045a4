"""Confusion matrices: numbers for a few classes, a picture without labels for many."""

from __future__ import annotations

from collections.abc import Sequence

import numpy
from numpy.typing import NDArray

from .canvas import INK, MUTED, new_axes, series_colour, shorten, to_svg
from .panel import Panel

#: Above this many classes no label could be read.
MOST_LABELS = 30
_MOST_NUMBERS = 12
_MOST_CELLS = 200
# Opacity of a share of one: with more of it the numbers could not be read on a light and on a dark page alike.
_STRONGEST = 0.6
_IMAGE = (0x1F, 0x84, 0xD1)


def confusion(index: int, label: str, counts: NDArray[numpy.integer], class_names: Sequence[str], remark: str) -> Panel:
    """Draw a confusion matrix: a row a true class, a column a predicted one; the larger the share, the stronger.

    Args:
        index: the head's place.
        label: the head.
        counts: images by true and predicted class ``[C, C]``.
        class_names: one a class.
        remark: which images were counted.
    """
    classes = len(counts)
    few = classes <= MOST_LABELS
    name = max(len(shorten(each, 12)) for each in class_names) if few else 0
    margin = 26 + 6.2 * name
    side = 250 if classes <= _MOST_NUMBERS else 330
    figure, axes = new_axes(side + margin + 8, side + margin + 8, left=margin, right=8, top=8, bottom=margin)
    share = counts / numpy.maximum(counts.sum(axis=1, keepdims=True), 1)
    if classes <= _MOST_NUMBERS:
        _cells(axes, counts, share, index)
    else:
        remark += _picture(axes, share)
    axes.grid(visible=False)
    axes.set_xlim(-0.5, classes - 0.5)
    axes.set_ylim(classes - 0.5, -0.5)
    axes.set_aspect("equal")
    for edge in ("top", "right"):
        axes.spines[edge].set_visible(True)
    if few:
        written = [shorten(each, 12) for each in class_names]
        size = 10 if classes <= 16 else 8
        axes.set_xticks(range(classes), written, rotation=90 if name > 2 else 0, fontsize=size)
        axes.set_yticks(range(classes), written, fontsize=size)
    else:
        axes.set_xticks([])
        axes.set_yticks([])
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    return Panel(label, to_svg(figure, f"confusion-{index}", f"Confusion matrix of {label}. {remark}"), remark, index)


def _cells(axes: object, counts: NDArray[numpy.integer], share: NDArray[numpy.float64], index: int) -> None:
    from matplotlib.axes import Axes
    from matplotlib.patches import Rectangle

    assert isinstance(axes, Axes)
    size = 10 if len(counts) <= 10 and counts.max() < 1000 else 7
    for true, predicted in zip(*numpy.nonzero(counts)):
        # The root lifts the few mistakes beside a full diagonal; one in a thousand must still be seen as a cell.
        shade = max(_STRONGEST * float(share[true, predicted]) ** 0.5, 0.06)
        axes.add_patch(
            Rectangle(
                (predicted - 0.5, true - 0.5), 1, 1, facecolor=series_colour(0), alpha=shade, linewidth=0, zorder=1
            )
        )
        axes.text(
            predicted,
            true,
            f"{counts[true, predicted]}",
            ha="center",
            va="center_baseline",
            fontsize=size,
            color=INK,
        )
    axes.spines[:].set_edgecolor(MUTED)


def _picture(axes: object, share: NDArray[numpy.float64]) -> str:
    """Draw shares as one image whose opacity is the share, so that it stands on a light and on a dark page."""
    from matplotlib.axes import Axes

    assert isinstance(axes, Axes)
    classes = len(share)
    block = -(-classes // _MOST_CELLS)
    said = ""
    if block > 1:
        cells = -(-classes // block)
        padded = numpy.zeros((cells * block, cells * block))
        padded[:classes, :classes] = share
        share = padded.reshape(cells, block, cells, block).max(axis=(1, 3))
        said = f" One cell is {block} × {block} classes in their order and shows the largest share."
    image = numpy.zeros((*share.shape, 4), dtype=numpy.uint8)
    image[..., :3] = _IMAGE
    # The root lifts the few mistakes beside a full diagonal.
    image[..., 3] = numpy.rint(255 * numpy.sqrt(share))
    axes.imshow(
        image,
        interpolation="none",
        extent=(-0.5, len(share) * block - 0.5, len(share) * block - 0.5, -0.5),
        aspect="equal",
    )
    return said
