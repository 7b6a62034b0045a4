"""A dot a seed for each measure, so that nobody takes a difference of means for more than it is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy

from logitlab.report.columns import Column
from logitlab.statistics import present

from .canvas import INK, MARKERS, MUTED, new_axes, plain, series_colour, shorten, to_svg
from .panel import Panel

_ROW = 24.0
_LABEL = 17
# A seed further than this many quartile ranges from the middle half would squeeze all others together.
_FAR = 4.0


def seed_dots(
    column: Column, indices: Sequence[int], labels: Sequence[str], values: Sequence[Sequence[float | None]]
) -> Panel:
    """Draw one measure: a line a head, a dot a seed, a bar at the mean.

    Args:
        column: the measure.
        indices: place of each head, which gives it its colour and marker.
        labels: the heads.
        values: for each head one value a seed; None where it is undefined.
    """
    found = [[column.scale * value for value in present(group)] for group in values]
    if not any(found):
        return Panel(column.title, words="Not measured, or not defined for any of these heads.")
    low, high = _range([value for group in found for value in group])
    names = [shorten(label, _LABEL) for label in labels]
    left = 14 + 6.3 * max(len(name) for name in names)
    figure, axes = new_axes(340, 44 + _ROW * len(labels), left=left, right=16, top=8, bottom=34)
    cut = False
    for row, (index, group) in enumerate(zip(indices, found)):
        if not group:
            axes.text(0.02, row, "–", transform=axes.get_yaxis_transform(), va="center", color=MUTED)
            continue
        spread = [
            row + 0.24 * (2 * seed / (len(group) - 1) - 1) if len(group) > 1 else row for seed in range(len(group))
        ]
        mean = sum(group) / len(group)
        inside = [(value, place) for value, place in zip(group, spread) if low <= value <= high]
        if low <= mean <= high:
            axes.plot([mean, mean], [row - 0.4, row + 0.4], color=INK, linewidth=1.4, solid_capstyle="butt")
        axes.plot(
            [value for value, _ in inside],
            [place for _, place in inside],
            linestyle="none",
            marker=MARKERS[index % len(MARKERS)],
            color=series_colour(index),
            alpha=0.9,
            gid=f"series-{index}",
        )
        for below, beyond in ((True, [v for v in group if v < low]), (False, [v for v in group if v > high])):
            if beyond:
                cut = True
                written = ", ".join(f"{value:.{column.decimals}f}" for value in sorted(beyond))
                side = 0.01 if below else 0.99
                axes.text(
                    side,
                    # Below the dots of the same head, where it has some on the axis.
                    row + (0.32 if inside else 0),
                    f"◂ {written}" if below else f"{written} ▸",
                    transform=axes.get_yaxis_transform(),
                    ha="left" if below else "right",
                    va="center_baseline",
                    fontsize=8.5 if inside else 9.5,
                )
    margin = 0.06 * (high - low) or max(abs(high) * 0.05, 1e-3)
    axes.set_xlim(low - margin, high + margin)
    axes.set_yticks(range(len(labels)), names)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.ticklabel_format(axis="x", useOffset=False)
    axes.locator_params(axis="x", nbins=5)
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False, axis="y")
    said = "; ".join(
        f"{plain(label)}: {', '.join(f'{value:.{column.decimals}f}' for value in group) or 'not measured'}"
        for label, group in zip(labels, found)
    )
    svg = to_svg(figure, f"dots-{column.key.replace('_', '-')}", f"{column.heading}, a dot a seed. {said}")
    return Panel(column.title, svg, "◂ ▸ seeds beyond the axis, as numbers." if cut else "")


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of the axis: all values but those far outside the middle half."""
    first, third = numpy.quantile(values, (0.25, 0.75))
    reach = _FAR * (third - first)
    # Where half of the seeds agree exactly, nothing says what is far.
    kept = [value for value in values if first - reach <= value <= third + reach] if reach > 0 else list(values)
    return min(kept), max(kept)
