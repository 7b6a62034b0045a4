"""A line a model in one chart: what curves, spectra, densities and measures by layer have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy
from numpy.typing import NDArray

from .canvas import DASHES, MARKERS, MUTED, new_axes, plain, series_colour, shorten, to_svg
from .panel import Panel

Values = NDArray[numpy.float64]

#: More points than this in a line cost bytes and show nothing.
MOST_POINTS = 120
_LAYER_LABEL = 16
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Line:
    """What is drawn of one model.

    Attributes:
        index: the model's place, which gives it its colour, dash and marker.
        label: the model.
        x: horizontal places, float64 ``[P]``.
        y: heights, float64 ``[P]``; NaN leaves a gap.
    """

    index: int
    label: str
    x: Values
    y: Values


@dataclass(frozen=True)
class Axis:
    """One axis of the chart.

    Attributes:
        label: what stands beside it.
        log: logarithmic; what is not positive is left out.
        limits: its ends; None where the data give them.
    """

    label: str
    log: bool = False
    limits: tuple[float | None, float | None] = (None, None)


def model_lines(
    name: str,
    title: str,
    lines: Sequence[Line],
    x_axis: Axis,
    y_axis: Axis,
    *,
    layers: Sequence[str] = (),
    baseline: tuple[float, str] | None = None,
    marked: bool = False,
    words: str = "",
    said: str = "",
) -> Panel:
    """Draw a line a model.

    Args:
        name: of the picture, unique in the page.
        title: what stands above it.
        lines: one a model; of lines with too many points some are left out, never the first and the last.
        x_axis: the horizontal axis.
        y_axis: the vertical axis.
        layers: names at the places 0, 1, … of the horizontal axis.
        baseline: a dashed height and what it is.
        marked: whether every point has a mark, instead of six of them.
        words: below the picture.
        said: what a screen reader says after the title.
    """
    shown = [kept for line in lines if len((kept := _kept(line, x_axis, y_axis)).x)]
    if not shown:
        return Panel(title, words="Nothing that could be drawn was measured.")
    names = [shorten(each, _LAYER_LABEL) for each in layers]
    upright = sum(len(each) + 2 for each in names) > 62
    bottom = 38 if not upright else 34 + 6.0 * max(len(each) for each in names)
    figure, axes = new_axes(440, 222 + bottom, left=56, bottom=bottom)
    if baseline is not None:
        axes.axhline(baseline[0], color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)))
        # Above the line and at its end, where lines of layers have risen above it.
        axes.annotate(
            baseline[1],
            (1, baseline[0]),
            xycoords=axes.get_yaxis_transform(),
            xytext=(-2, 3),
            textcoords="offset points",
            ha="right",
            fontsize=9.5,
            color=MUTED,
            parse_math=False,
        )
    for line in shown:
        often = max(1, len(line.x) // 6)
        axes.plot(
            line.x,
            line.y,
            color=series_colour(line.index),
            linestyle=DASHES[line.index % len(DASHES)],
            marker=MARKERS[line.index % len(MARKERS)],
            # Models with their marks at the same places would hide each other.
            markevery=1 if marked else (line.index * often // 7 % often, often),
            gid=f"series-{line.index}",
        )
    for which, axis in (("x", x_axis), ("y", y_axis)):
        if axis.log:
            logarithmic(axes, which)
        low, high = axis.limits
        getattr(axes, f"set_{which}lim")(low, high)
        getattr(axes, f"set_{which}label")(axis.label)
    if names:
        axes.set_xticks(range(len(names)), names, rotation=90 if upright else 0, fontsize=10)
        axes.set_xlim(-0.3, len(names) - 0.7)
    description = f"{title}. {said or '; '.join(plain(line.label) for line in shown)}"
    return Panel(title, to_svg(figure, name, description), words)


def logarithmic(axes: Any, which: str) -> None:
    """Make an axis logarithmic, with labels such as 0.5 or 20 where they are short, else 10⁻⁶.

    Args:
        axes: of the figure.
        which: ``"x"`` or ``"y"``.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = (abs(value) for value in getattr(axes, f"get_{which}lim")())
    getattr(axes, f"set_{which}scale")("log")
    low, high = getattr(axes, f"get_{which}lim")()
    axis = getattr(axes, f"{which}axis")
    narrow = high / low < 30
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 3.0, 5.0) if narrow else (1.0,), numticks=9))
    axis.set_major_formatter(FuncFormatter(lambda value, _: power(value, short=high / low < 1e4)))
    axis.set_minor_formatter(NullFormatter())


def power(value: float, *, short: bool = True) -> str:
    """Write a tick of a logarithmic axis.

    Args:
        value: where the tick stands.
        short: whether the axis spans so little that plain numbers can be read.

    >>> power(0.05), power(1.0), power(200.0), power(1e-6)
    ('0.05', '1', '200', '10⁻⁶')
    >>> power(0.1, short=False), power(1.0, short=False)
    ('10⁻¹', '1')
    """
    exponent = round(float(numpy.log10(value)))
    if exponent and (abs(exponent) > 3 or not short) and numpy.isclose(value, 10.0**exponent):
        return "10" + str(exponent).translate(_SUPERSCRIPTS)
    return f"{value:g}"


def thinned(points: int, most: int = MOST_POINTS) -> NDArray[numpy.int64]:
    """Return which of many points are drawn: at most ``most``, evenly, the first and the last among them.

    >>> thinned(5, 3).tolist(), thinned(2, 3).tolist()
    ([0, 2, 4], [0, 1])
    """
    if points <= most:
        return numpy.arange(points)
    return numpy.unique(numpy.rint(numpy.linspace(0, points - 1, most)).astype(numpy.int64))


def _kept(line: Line, x_axis: Axis, y_axis: Axis) -> Line:
    """Leave out what a logarithmic axis has no place for, and points that nobody could tell apart."""
    sound = numpy.isfinite(line.x)
    if x_axis.log:
        sound &= line.x > 0
    if y_axis.log:
        sound &= line.y > 0
    if not (sound & numpy.isfinite(line.y)).any():
        sound[:] = False
    x, y = line.x[sound], line.y[sound]
    chosen = thinned(len(x))
    return Line(line.index, line.label, x[chosen], y[chosen])
