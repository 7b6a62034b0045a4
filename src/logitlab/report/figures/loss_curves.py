"""Loss by the cosine to the own class: T's curve of each model, and dots for what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

from .canvas import DASHES, GRID, MARKERS, new_axes, plain, series_colour, to_svg
from .panel import Panel

Values = NDArray[numpy.float64]

# Bins with less than this share of the images neither widen the picture nor heighten it.
_FEW = 0.005


@dataclass(frozen=True)
class LossCurve:
    """What is drawn of one model.

    Attributes:
        index: its place, which gives it its colour, dash and mark.
        label: the model.
        kappa: its κ.
        grid: cosines of the curve, ``[P]``.
        curve: the curve there, ``[P]``.
        edges: of the bins, ``[B + 1]``.
        counts: images a bin, ``[B]``.
        loss: mean loss a bin, ``[B]``; NaN where there is none.
    """

    index: int
    label: str
    kappa: float
    grid: Values
    curve: Values
    edges: Values
    counts: Values
    loss: Values


def loss_curves(name: str, title: str, curves: Sequence[LossCurve], *, words: str = "") -> Panel:
    """Draw the curve of every model as a line, and the mean loss of each bin as a dot, larger for more images.

    Args:
        name: of the picture, unique in the page.
        title: what stands above it.
        curves: one a model.
        words: below the picture; how many images lie outside it is added.
    """
    if not curves:
        return Panel(title, words="Nothing that could be drawn was measured.")
    left, top = 0.0, 0.0
    for each in curves:
        full = each.counts >= min(_FEW * each.counts.sum(), each.counts.max())
        left = min(left, float(each.edges[:-1][full].min()))
        # All curves meet at zero, in log C; what lies far above is the few images that nobody got right.
        top = max(top, float(numpy.interp(0.0, each.grid, each.curve)), float(each.loss[full].max()))
    figure, axes = new_axes(520, 300, left=50)
    axes.axvline(0, color=GRID, linewidth=1.2)
    beyond = 0
    for each in curves:
        colour = series_colour(each.index)
        axes.plot(
            each.grid,
            each.curve,
            color=colour,
            linestyle=DASHES[each.index % len(DASHES)],
            gid=f"series-{each.index}",
        )
        centres = (each.edges[1:] + each.edges[:-1]) / 2
        shown = (each.counts > 0) & (centres > left) & (each.loss <= 1.05 * top)
        beyond += int(each.counts[~shown].sum())
        share = numpy.sqrt(each.counts / each.counts.max())
        for place in numpy.flatnonzero(shown):
            axes.plot(
                [centres[place]],
                [each.loss[place]],
                linestyle="none",
                marker=MARKERS[each.index % len(MARKERS)],
                markersize=2.5 + 5 * share[place],
                color=colour,
                alpha=0.85,
                gid=f"series-{each.index}",
            )
    axes.set_xlim(left - 0.02, 1.02)
    axes.set_ylim(0, 1.08 * top)
    axes.set_xlabel("cosine to the own class")
    axes.set_ylabel("loss, nats")
    if beyond:
        total = int(sum(each.counts.sum() for each in curves))
        words = f"{words} Beyond the picture: {beyond:,} of {total:,} images.".strip()
    said = "; ".join(f"{plain(each.label)} at κ {each.kappa:.4g}: {_said(each)}" for each in curves)
    return Panel(title, to_svg(figure, name, f"{title}. {said}"), words)


def _said(each: LossCurve) -> str:
    """Say where most images lie, and what they lose there."""
    place = int(each.counts.argmax())
    return f"most images between {each.edges[place]:.2g} and {each.edges[place + 1]:.2g}, loss {each.loss[place]:.3g}"
