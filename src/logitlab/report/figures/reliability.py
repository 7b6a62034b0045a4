"""Reliability diagrams: how often the head is right where it says that it is sure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy
from numpy.typing import NDArray

from .canvas import GRID, MUTED, new_axes, series_colour, to_svg
from .panel import Panel

#: The bins of the expected calibration error.
BINS = 15


def calibration_bins(confidence: NDArray[numpy.floating], correct: NDArray[numpy.bool_]) -> NDArray[numpy.float64]:
    """Return for each of the equal-width bins: images, mean confidence, accuracy (NaN where it is empty).

    Bins are open below and closed above, as in ``logitlab.analysis.calibration``.

    Args:
        confidence: largest probability of each image.
        correct: whether its answer was right.
    """
    # A float32 is compared in float64, as the measurement does.
    edges = numpy.linspace(0, 1, BINS + 1)
    place = numpy.clip(numpy.searchsorted(edges, confidence.astype(numpy.float64), side="left") - 1, 0, BINS - 1)
    count = numpy.bincount(place, minlength=BINS).astype(numpy.float64)
    with numpy.errstate(invalid="ignore"):
        mean = numpy.bincount(place, weights=confidence, minlength=BINS) / count
        accuracy = numpy.bincount(place, weights=correct, minlength=BINS) / count
    return numpy.stack([count, mean, accuracy], axis=1)


def reliability(
    index: int,
    label: str,
    seeds: Sequence[tuple[NDArray[numpy.floating], NDArray[numpy.bool_]]],
    remark: str,
) -> Panel:
    """Draw one head against the diagonal, its seeds as thin lines, and below how many images lie in each bin.

    Args:
        index: the head's place, which gives it its colour.
        label: the head.
        seeds: confidence and correctness, one pair a seed; all of one head.
        remark: the number that belongs to the picture.
    """
    figure, axes = new_axes(300, 270)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    colour = series_colour(index)
    for confidence, correct in seeds if len(seeds) > 1 else ():
        bins = calibration_bins(confidence, correct)
        filled = bins[:, 0] > 0
        axes.plot(bins[filled, 1], bins[filled, 2], linewidth=0.8, color=colour, alpha=0.35)
    pooled = calibration_bins(*(numpy.concatenate(each) for each in zip(*seeds)))
    share, filled = pooled[:, 0] / pooled[:, 0].sum(), pooled[:, 0] > 0
    axes.plot(pooled[filled, 1], pooled[filled, 2], color=colour)
    # A bin of three images must not look like one of three thousand.
    area = 6 + 60 * numpy.sqrt(share[filled])
    axes.scatter(pooled[filled, 1], pooled[filled, 2], s=area, color=colour, linewidth=0, zorder=3)
    # At most a quarter of the height: the shares are the ground, not the subject.
    axes.bar((numpy.arange(BINS) + 0.5) / BINS, 0.25 * share / share.max(), width=0.85 / BINS, color=GRID, zorder=0.5)
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("confidence")
    axes.set_ylabel("share that is right")
    return Panel(label, to_svg(figure, f"reliability-{index}", f"Reliability of {label}. {remark}"), remark, index)
