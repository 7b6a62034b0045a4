"""Reliability from counted bins, before and after temperature scaling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

from .canvas import DASHES, GRID, INK, MUTED, new_axes, series_colour, to_svg
from .panel import Panel

Values = NDArray[numpy.float64]


@dataclass(frozen=True)
class Bins:
    """Images by their confidence.

    Attributes:
        edges: of the bins ``[B + 1]``.
        counts: images in each ``[B]``.
        confidence: their mean confidence ``[B]``; NaN where there is none.
        accuracy: the share that is right ``[B]``; NaN where there is none.
    """

    edges: Values
    counts: Values
    confidence: Values
    accuracy: Values


def scaled_reliability(name: str, index: int, label: str, before: Bins, after: Bins | None, words: str) -> Panel:
    """Draw one model against the diagonal: thick as it is, dashed after scaling; below how many images lie where.

    Args:
        name: of the picture, unique in the page.
        index: the model's place.
        label: the model.
        before: bins of its own probabilities.
        after: bins of the scaled ones; None where they were not measured.
        words: below the picture.
    """
    figure, axes = new_axes(300, 270)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    colour = series_colour(index)
    filled = before.counts > 0
    share = before.counts / max(float(before.counts.sum()), 1.0)
    # At most a quarter of the height: the shares are the ground, not the subject.
    height = 0.25 * share / max(float(share.max()), 1e-12)
    axes.bar(
        (before.edges[:-1] + before.edges[1:]) / 2,
        height,
        width=0.85 * numpy.diff(before.edges),
        color=GRID,
        zorder=0.5,
    )
    axes.plot(before.confidence[filled], before.accuracy[filled], color=colour)
    # A bin of three images must not look like one of three thousand.
    area = 6 + 60 * numpy.sqrt(share[filled])
    axes.scatter(before.confidence[filled], before.accuracy[filled], s=area, color=colour, linewidth=0, zorder=3)
    if after is not None:
        there = after.counts > 0
        axes.plot(after.confidence[there], after.accuracy[there], color=INK, linestyle=DASHES[1], zorder=4)
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("confidence")
    axes.set_ylabel("share that is right")
    return Panel(label, to_svg(figure, name, f"Reliability of {label}. {words}"), words, index)
