"""Histograms of scores: the cosine to the own class, and known images against strange ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy
from numpy.typing import NDArray

from .canvas import DASHES, INK, KNOWN, STRANGE, new_axes, plain, series_colour, to_svg
from .panel import Panel

Values = NDArray[numpy.floating[Any]]
_BINS = 30


def own_cosine(index: int, label: str, right: Values, wrong: Values) -> Panel:
    """Draw the cosine between each feature and the weight of its own class, right and wrong answers apart.

    Args:
        index: the head's place, which gives it its colour.
        label: the head.
        right: cosines of the images whose answer was right.
        wrong: cosines of the others.
    """
    groups = {"right": right[numpy.isfinite(right)], "wrong": wrong[numpy.isfinite(wrong)]}
    edges = _edges(list(groups.values()))
    if edges is None:
        return Panel(label, words="No cosine was measured.", series=index)
    figure, axes = new_axes(300, 210)
    _draw(axes, groups["right"], edges, color=series_colour(index), filled=True)
    # A colour of its own would be that of another head.
    _draw(axes, groups["wrong"], edges, color=INK, dashes=DASHES[1])
    axes.set_xlabel("cosine to the own class")
    axes.set_ylabel("% of the group")
    axes.set_ylim(bottom=0)
    words = " · ".join(
        f"{name}: median {numpy.median(values):.2f} of {len(values):,}"
        for name, values in groups.items()
        if len(values)
    )
    svg = to_svg(figure, f"cosine-{index}", f"Cosine to the own class, {label}. {words}")
    return Panel(label, svg, words, index)


def ood_scores(
    index: int, label: str, score: str, known: Values, strange: Mapping[str, Values], names: Sequence[str]
) -> Panel:
    """Draw one score of the rightly answered test images against that of each set of strange images.

    Args:
        index: the head's place.
        label: the head.
        score: ``"max_logit"`` or ``"feature_norm"``.
        known: scores of the test images that were answered right, as the measures take them.
        strange: name of an OOD set → its scores.
        names: all OOD sets of the page, so that each keeps its line in every picture.
    """
    heading = score.replace("_", " ")
    groups = [known[numpy.isfinite(known)], *(strange[name][numpy.isfinite(strange[name])] for name in strange)]
    edges = _edges(groups)
    if edges is None:
        return Panel(label, words=f"No {heading} was measured.", series=index)
    figure, axes = new_axes(300, 210)
    _draw(axes, groups[0], edges, color=KNOWN, filled=True)
    for name, values in zip(strange, groups[1:]):
        place = list(names).index(name)
        _draw(axes, values, edges, color=STRANGE[place % len(STRANGE)], dashes=DASHES[(place + 1) % len(DASHES)])
    axes.set_xlabel(heading)
    axes.set_ylabel("% of the set")
    axes.set_ylim(bottom=0)
    said = f"{heading} of {label}: test images answered right against {', '.join(plain(name) for name in strange)}."
    return Panel(label, to_svg(figure, f"ood-{score.replace('_', '-')}-{index}", said), series=index)


def _edges(groups: Sequence[Values]) -> Values | None:
    """Choose bins that one far outlier does not squeeze; None where there is nothing to show."""
    filled = [values.astype(numpy.float64) for values in groups if len(values)]
    if not filled:
        return None
    low = min(float(numpy.quantile(values, 0.002)) for values in filled)
    high = max(float(numpy.quantile(values, 0.998)) for values in filled)
    if high - low < 1e-6 * max(1.0, abs(high)):
        low, high = low - 0.5, high + 0.5
    return numpy.linspace(low, high, _BINS + 1)


def _draw(
    axes: Any, values: Values, edges: Values, *, color: str, filled: bool = False, dashes: Any = DASHES[0]
) -> None:
    if not len(values):
        return
    # What lies beyond the ends is counted in the last bins: nothing is hidden.
    share = numpy.histogram(numpy.clip(values, edges[0], edges[-1]), edges)[0] / len(values) * 100
    if filled:
        axes.stairs(share, edges, fill=True, color=color, alpha=0.3, linewidth=0)
    axes.stairs(share, edges, color=color, linewidth=1.6, linestyle=dashes)
