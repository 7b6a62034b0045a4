"""The specialise–generalise card: what a model's features give up and gain, over κ where models differ in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from logitlab.report.columns import Column

from .canvas import GRID, MARKERS, MUTED, new_axes, plain, series_colour, to_svg
from .panel import Panel
from .seed_dots import seed_dots

_WIDTH, _HEIGHT, _LEFT = 340.0, 220.0, 52.0


@dataclass(frozen=True)
class Dot:
    """One model in a card.

    Attributes:
        index: its place, which gives it its colour and marker.
        label: what it is called.
        family: models of one family are joined by a line over κ.
        kappa: its κ; None for a head without one.
        value: the measure; None where it is undefined.
    """

    index: int
    label: str
    family: str
    kappa: float | None
    value: float | None


def card(name: str, column: Column, dots: Sequence[Dot]) -> Panel:
    """Draw one measure of all models: over κ where they differ in it, else a row a model.

    Args:
        name: of the picture, unique in the page.
        column: the measure.
        dots: one a model.
    """
    if len({dot.kappa for dot in dots if dot.kappa is not None}) < 2:
        return seed_dots(
            column, [dot.index for dot in dots], [dot.label for dot in dots], [[dot.value] for dot in dots]
        )
    shown = [(dot, column.scale * dot.value) for dot in dots if dot.value is not None and numpy.isfinite(dot.value)]
    if not shown:
        return Panel(column.title, words="Not measured, or not defined for any of these models.")
    figure, axes = new_axes(_WIDTH, _HEIGHT, left=_LEFT, right=10)
    kappas = sorted({dot.kappa for dot in dots if dot.kappa is not None and dot.kappa > 0})
    aside = [(dot, value) for dot, value in shown if dot.kappa is None]
    # Heads without κ stand beside the axis, on a strip of their own.
    low, high = numpy.log10(kappas[0]), numpy.log10(kappas[-1])
    margin = 0.08 * (high - low)
    strip = 0.24 * (high - low) if any(dot.kappa is None for dot in dots) else 0.0
    for line in _families(shown):
        axes.plot(numpy.log10(list(line)), list(line.values()), color=MUTED, linewidth=1.2, zorder=1.5)
    for dot, value in shown:
        if dot.kappa is not None and dot.kappa > 0:
            _mark(axes, dot, float(numpy.log10(dot.kappa)), value)
    middle = high + margin + strip / 2
    for place, (dot, value) in enumerate(aside):
        shift = 0.28 * strip * (2 * place / (len(aside) - 1) - 1) if len(aside) > 1 else 0.0
        _mark(axes, dot, middle + shift, value)
    if strip:
        axes.axvline(high + margin, color=GRID, linewidth=0.8)
        axes.axvspan(high + margin, high + margin + strip, color=GRID, alpha=0.3, linewidth=0, zorder=0.2)
    axes.set_xlim(low - margin, high + margin + strip)
    ticks = _ticks(kappas, 16 / (_WIDTH - _LEFT) * (high - low))
    axes.set_xticks(
        [*(float(numpy.log10(each)) for each in ticks), *([middle] if strip else [])],
        [*(f"{each:.3g}" for each in ticks), *(["no κ"] if strip else [])],
    )
    axes.set_xlabel("κ (logarithmic)")
    axes.locator_params(axis="y", nbins=6)
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.grid(visible=False, axis="x")
    said = "; ".join(
        f"{plain(dot.label)}{f' at κ {dot.kappa:g}' if dot.kappa is not None else ''}: {value:.{column.decimals}f}"
        for dot, value in shown
    )
    return Panel(column.title, to_svg(figure, name, f"{column.heading} over κ. {said}"))


def _mark(axes: Any, dot: Dot, place: float, value: float) -> None:
    axes.plot(
        [place],
        [value],
        linestyle="none",
        marker=MARKERS[dot.index % len(MARKERS)],
        markersize=7,
        color=series_colour(dot.index),
        alpha=0.9,
        gid=f"series-{dot.index}",
    )


def _families(shown: Sequence[tuple[Dot, float]]) -> list[Mapping[float, float]]:
    """Return the mean at every κ of each family that has more than one."""
    found: dict[str, dict[float, list[float]]] = {}
    for dot, value in shown:
        if dot.kappa is not None and dot.kappa > 0:
            found.setdefault(dot.family, {}).setdefault(dot.kappa, []).append(value)
    return [
        {kappa: sum(group) / len(group) for kappa, group in sorted(family.items())}
        for family in found.values()
        if len(family) > 1
    ]


def _ticks(kappas: Sequence[float], gap: float) -> list[float]:
    """Leave out a label that would touch the one before it; the last one stays.

    >>> _ticks([1.0, 10.0, 11.0], 0.2)
    [1.0, 11.0]
    """
    kept: list[float] = []
    for kappa in reversed(kappas):
        if not kept or numpy.log10(kept[-1]) - numpy.log10(kappa) >= gap:
            kept.append(kappa)
    return kept[::-1]
