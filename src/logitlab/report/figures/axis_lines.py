"""A measure along an axis such as κ or τ: lines for means, a dot a seed, level lines for what has no place there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from logitlab.config.study import ColumnConfig
from logitlab.statistics import mean_and_error, present

from .canvas import DASHES, INK, MARKERS, MUTED, new_axes, plain, series_colour, shorten, to_svg
from .model_lines import logarithmic as make_logarithmic
from .panel import Panel

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 540.0, 300.0, 56.0, 40.0
# Labels at the right end of the lines, one below the other.
_RIGHT, _LABEL, _LINE = 136.0, 20, 14.0
# More places than this on the axis get round numbers instead; width of a digit, in pixels.
_MOST_TICKS, _LETTER = 14, 7.0


@dataclass(frozen=True)
class AxisPoint:
    """The seeds of one row.

    Attributes:
        place: where it stands on the axis; None for a level line.
        values: one a seed; None where the measure is undefined.
    """

    place: float | None
    values: Sequence[float | None]

    @property
    def known(self) -> list[float]:
        """The values that are defined."""
        return present(self.values)


@dataclass(frozen=True)
class AxisLine:
    """Rows that belong together.

    Attributes:
        index: place of the first of them, which gives the line its colour, dash and mark.
        label: what the line is called.
        points: its rows; one without a place makes a level line.
        chosen: the place on the axis was chosen in the study itself: a mark, never joined by a line.
    """

    index: int
    label: str
    points: Sequence[AxisPoint] = field(default_factory=tuple)
    chosen: bool = False

    @property
    def level(self) -> bool:
        """Whether it has no place on the axis."""
        return all(point.place is None for point in self.points)


def axis_lines(
    name: str, column: ColumnConfig, lines: Sequence[AxisLine], axis: str, *, logarithmic: bool = False
) -> Panel:
    """Draw one measure along an axis.

    Args:
        name: of the picture, unique in the page.
        column: how the measure is written.
        lines: what is drawn.
        axis: what the axis is called.
        logarithmic: whether the axis is; places that are not positive are then left out.
    """
    shown = [kept for line in lines if (kept := _kept(line, column.factor, logarithmic)).points]
    if all(line.level for line in shown):
        return Panel(column.title, words=f"No finished row has this measure and a number for {axis}.")
    figure, axes = new_axes(_WIDTH, _HEIGHT, left=_LEFT, right=_RIGHT, bottom=_BOTTOM)
    axes.margins(x=0.05, y=0.08)
    ends = [_level(axes, line) if line.level else _rising(axes, line) for line in shown]
    if logarithmic:
        make_logarithmic(axes, "x")
    axes.ticklabel_format(axis="y", useOffset=False)
    _ticks(
        axes,
        sorted({point.place for line in shown if not line.chosen for point in line.points if point.place is not None}),
    )
    axes.set_xlabel(axis)
    _name_ends(axes, ends)
    said = "; ".join(f"{plain(line.label)}: {_said(line, column)}" for line in shown)
    words = "Every dot is a seed, lines join the means."
    if any(line.level for line in shown):
        words += " Dashed: rows without a place on the axis."
    if any(line.chosen for line in shown):
        words += " Ringed: the place was chosen within the study."
    return Panel(column.title, to_svg(figure, name, f"{column.title} along {axis}. {said}"), words)


def _kept(line: AxisLine, factor: float, logarithmic: bool) -> AxisLine:
    points = [
        AxisPoint(point.place, [factor * value for value in point.known])
        for point in line.points
        if point.known and (point.place is None or point.place > 0 or not logarithmic)
    ]
    points.sort(key=lambda point: (point.place is None, point.place or 0.0))
    return AxisLine(line.index, line.label, points, line.chosen)


def _rising(axes: Any, line: AxisLine) -> tuple[float, float | None, AxisLine]:
    """Draw what stands on the axis; return the height and the place of its end."""
    colour, mark = series_colour(line.index), MARKERS[line.index % len(MARKERS)]
    placed = [(point.place, point.known) for point in line.points if point.place is not None]
    means = [mean_and_error(known).mean for _, known in placed]
    for place, known in placed:
        axes.plot(
            [place] * len(known),
            known,
            linestyle="none",
            marker=".",
            markersize=4.5,
            color=colour,
            alpha=0.55,
            gid=f"series-{line.index}",
        )
    places = [place for place, _ in placed]
    axes.plot(
        places,
        means,
        linestyle="none" if line.chosen else DASHES[line.index % len(DASHES)],
        marker=mark,
        markersize=6,
        color=colour,
        gid=f"series-{line.index}",
    )
    if line.chosen:
        axes.plot(
            places,
            means,
            linestyle="none",
            marker="o",
            markersize=13,
            markerfacecolor="none",
            markeredgecolor=INK,
            markeredgewidth=1.2,
        )
    return means[-1], places[-1], line


def _level(axes: Any, line: AxisLine) -> tuple[float, float | None, AxisLine]:
    """Draw what has no place on the axis: a level line at the mean, with its standard error as a band."""
    known = [value for point in line.points for value in point.known]
    estimate = mean_and_error(known)
    axes.axhline(
        estimate.mean,
        color=series_colour(line.index),
        linestyle=(0, (4, 3)),
        linewidth=1.3,
        gid=f"series-{line.index}",
    )
    if estimate.error:
        low, high = estimate.mean - estimate.error, estimate.mean + estimate.error
        axes.axhspan(low, high, color=series_colour(line.index), alpha=0.12, linewidth=0)
    return estimate.mean, None, line


def _ticks(axes: Any, places: Sequence[float]) -> None:
    """Mark the places themselves, where they are few; a label that would touch the one before it is left out."""
    if not 0 < len(places) <= _MOST_TICKS:
        return
    across = [axes.transAxes.inverted().transform(axes.transData.transform((place, 0.0)))[0] for place in places]
    kept: list[int] = []
    for number in range(len(places)):
        room = _LETTER * max(len(f"{places[number]:.3g}"), 2) / (_WIDTH - _LEFT - _RIGHT)
        if not kept or across[number] - across[kept[-1]] > room + 0.01:
            kept.append(number)
    axes.set_xticks([places[number] for number in kept], [f"{places[number]:.3g}" for number in kept])
    axes.minorticks_off()


def _name_ends(axes: Any, ends: Sequence[tuple[float, float | None, AxisLine]]) -> None:
    """Write the name of every line beside its end, none over another; a thin line leads from the one to the other."""
    low, high = axes.get_ylim()
    left, right = axes.get_xlim()
    tall = _HEIGHT - 10 - _BOTTOM
    per_pixel = (high - low) / tall
    ordered = sorted(ends, key=lambda end: -end[0])
    heights = spread([(high - end[0]) / per_pixel for end in ordered], _LINE, tall)
    for (height, place, line), pixels in zip(ordered, heights):
        written = high - pixels * per_pixel
        transform = axes.get_yaxis_transform()
        if place is not None:
            # From the last point to the edge of the axes.
            axes.plot([place, right], [height, height], color=MUTED, linewidth=0.6, alpha=0.6, zorder=0.5)
        axes.plot([1.0, 1.03], [height, written], transform=transform, color=MUTED, linewidth=0.6, clip_on=False)
        where = f" ({place:.3g})" if line.chosen else ""
        axes.text(
            1.04,
            written,
            shorten(line.label, _LABEL - len(where)) + where,
            transform=transform,
            va="center_baseline",
            fontsize=9.5,
            color=series_colour(line.index),
            parse_math=False,
        )
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)


def spread(wanted: Sequence[float], room: float, length: float) -> list[float]:
    """Move places apart so that each has room, as little as it takes, between 0 and a length where that is enough.

    Args:
        wanted: places, increasing.
        room: between two of them.
        length: of the side that they stand along.

    >>> spread([10, 12, 40], 14, 100)
    [10, 24, 40]
    >>> spread([90, 95], 14, 100)
    [86, 100]
    """
    found: list[float] = []
    for place in wanted:
        found.append(max(place, found[-1] + room) if found else max(place, 0))
    last = length
    for number in range(len(found) - 1, -1, -1):
        if found[number] <= last:
            break
        found[number] = last
        last -= room
    return found


def _said(line: AxisLine, column: ColumnConfig) -> str:
    parts = []
    for point in line.points:
        at = "" if point.place is None else f" at {point.place:g}"
        parts.append(f"{mean_and_error(point.known).mean:.{column.decimals}f}{at}")
    return ", ".join(parts)
