"""One number of each row against another: a mark a row with its name, error bars where they are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from logitlab.statistics import Estimate

from .canvas import MARKERS, MUTED, new_axes, plain, series_colour, shorten, to_svg
from .panel import Panel

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 460.0, 340.0, 60.0, 14.0, 12.0, 42.0
_LABEL = 24
# Width of a letter and height of a line of a label, in pixels.
_LETTER, _LINE = 5.4, 12.0
# Where a label may stand: how far from the mark, in pixels; in which direction, with the share of the label's length
# that lies left of that place and the share of its height that lies below.
_AWAY = (8.0, 20.0, 34.0, 50.0)
_SIDES = (
    (1.0, 0.0, 0.0, 0.5),
    (-1.0, 0.0, 1.0, 0.5),
    (0.0, 1.0, 0.5, 0.0),
    (0.0, -1.0, 0.5, 1.0),
    (0.7, 0.7, 0.0, 0.0),
    (0.7, -0.7, 0.0, 1.0),
    (-0.7, 0.7, 1.0, 0.0),
    (-0.7, -0.7, 1.0, 1.0),
)


@dataclass(frozen=True)
class Mark:
    """One row.

    Attributes:
        index: its place, which gives it its colour and mark.
        label: what stands beside it.
        across: what it is drawn at from left to right.
        upwards: what it is drawn at from below.
    """

    index: int
    label: str
    across: Estimate
    upwards: Estimate


def row_scatter(name: str, title: str, marks: Sequence[Mark], across: str, upwards: str, *, words: str = "") -> Panel:
    """Draw a mark a row.

    Args:
        name: of the picture, unique in the page.
        title: what stands above it.
        marks: the rows that have both numbers.
        across: label of the horizontal axis.
        upwards: label of the vertical axis.
        words: below the picture.
    """
    if not marks:
        return Panel(title, words="No finished row has both numbers.")
    figure, axes = new_axes(_WIDTH, _HEIGHT, left=_LEFT, right=_RIGHT, top=_TOP, bottom=_BOTTOM)
    for mark in marks:
        axes.errorbar(
            [mark.across.mean],
            [mark.upwards.mean],
            xerr=mark.across.error or None,
            yerr=mark.upwards.error or None,
            ecolor=MUTED,
            elinewidth=0.9,
            marker="none",
            linestyle="none",
            zorder=1.8,
        )
        axes.plot(
            [mark.across.mean],
            [mark.upwards.mean],
            linestyle="none",
            marker=MARKERS[mark.index % len(MARKERS)],
            markersize=7.5,
            color=series_colour(mark.index),
            gid=f"series-{mark.index}",
            zorder=2.2,
        )
    axes.margins(x=0.14, y=0.1)
    axes.ticklabel_format(axis="both", useOffset=False)
    axes.locator_params(axis="x", nbins=6)
    axes.set_xlabel(across)
    axes.set_ylabel(upwards)
    _name(axes, marks)
    said = "; ".join(f"{plain(mark.label)}: {mark.across.mean:.4g}, {mark.upwards.mean:.4g}" for mark in marks)
    return Panel(title, to_svg(figure, name, f"{upwards} against {across}. {said}"), words)


def _name(axes: Any, marks: Sequence[Mark]) -> None:
    """Write every name beside its mark, on the side where it covers least."""
    (left, right_end), (low, high) = axes.get_xlim(), axes.get_ylim()
    wide, tall = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    places = [
        ((mark.across.mean - left) / (right_end - left) * wide, (mark.upwards.mean - low) / (high - low) * tall)
        for mark in marks
    ]

    def place(x: float, y: float) -> tuple[float, float]:
        return left + x / wide * (right_end - left), low + y / tall * (high - low)

    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in places]
    for mark, (x, y) in zip(marks, places):
        wider = (mark.across.error or 0.0) / (right_end - left) * wide
        taller = (mark.upwards.error or 0.0) / (high - low) * tall
        taken += [(x - wider, y - 1, x + wider, y + 1), (x - 1, y - taller, x + 1, y + taller)]
    # From the top down, so that the same rows give the same picture whatever their order in the table.
    for number in sorted(range(len(marks)), key=lambda each: (-places[each][1], places[each][0])):
        text = shorten(marks[number].label, _LABEL)
        x, y = places[number]
        length = _LETTER * len(text)
        boxes = [
            (x + away * right - length * left_share, y + away * up - _LINE * below, away)
            for away in _AWAY
            for right, up, left_share, below in _SIDES
        ]
        box_x, box_y, away = min(boxes, key=lambda box: _covered((box[0], box[1], length), taken, wide, tall) + box[2])
        taken.append((box_x, box_y, box_x + length, box_y + _LINE))
        middle_x, middle_y = box_x + length / 2, box_y + _LINE / 2
        if away > _AWAY[0]:
            # From the mark to the nearest point of the label.
            end = (min(max(x, box_x), box_x + length), min(max(y, box_y), box_y + _LINE))
            axes.plot(*zip(place(x, y), place(*end)), color=MUTED, linewidth=0.7, zorder=1.6)
        at_x, at_y = place(middle_x, middle_y)
        axes.text(at_x, at_y, text, ha="center", va="center_baseline", fontsize=9.5, parse_math=False)
    axes.set_xlim(left, right_end)
    axes.set_ylim(low, high)


def _covered(
    box: tuple[float, float, float], taken: Sequence[tuple[float, float, float, float]], wide: float, tall: float
) -> float:
    """Area of what a label would cover, and of what would lie outside the axes, which is worse."""
    x, y, length = box
    right, top = x + length, y + _LINE
    over = sum(
        max(0.0, min(right, other[2]) - max(x, other[0])) * max(0.0, min(top, other[3]) - max(y, other[1]))
        for other in taken
    )
    outside = max(0.0, -x) + max(0.0, right - wide) + max(0.0, -y) + max(0.0, top - tall)
    return over + 10 * _LINE * outside
