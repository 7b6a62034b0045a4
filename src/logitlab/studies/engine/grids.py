"""The arithmetic of a coarse-to-fine search (W A.1): grids, their edges, and grids of double density around a point."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ...config.study import SearchAxisConfig

#: A point of a search: axis → value.
Point = Mapping[str, float]

# Digits that a value keeps, so that a point that two grids share is one point, and one trial.
_DIGITS = 6


@dataclass(frozen=True)
class Line:
    """The values of one axis, evenly spaced: ``start + step · i`` on its scale.

    Attributes:
        places: the numbers i, in order.
        start: the place of i = 0, on the scale (log10 of the value, or the value).
        step: between two places.
        logarithmic: the scale.
        low: the smallest value there is; None for no end.
        high: the largest; None for no end.
        given: values as the user wrote them, for the numbers i that he gave.
        whole: whether only whole numbers are taken; others are rounded, and a point that two places share is one.
    """

    places: tuple[int, ...]
    start: float
    step: float
    logarithmic: bool
    low: float | None = None
    high: float | None = None
    given: Mapping[int, float] | None = None
    whole: bool = False

    def value(self, place: int) -> float:
        """Return the value at a number i."""
        if self.given is not None and place in self.given:
            return self.given[place]
        where = self.start + self.step * place
        found = 10**where if self.logarithmic else where
        return round(found) if self.whole else float(f"{found:.{_DIGITS}g}")

    @property
    def values(self) -> list[float]:
        """All values, increasing."""
        return list(dict.fromkeys(self.value(place) for place in self.places))

    def place_of(self, value: float) -> int:
        """Return the number i of a value of the line."""
        return min(self.places, key=lambda place: abs(self.value(place) - value))

    def expanded(self, value: float) -> Line:
        """Add a value beyond the end on which ``value`` stands; nothing where it is no end, or the range is over."""
        place = self.place_of(value)
        further = place - 1 if place == min(self.places) else place + 1 if place == max(self.places) else None
        if further is None or not self._within(self.value(further)):
            return self
        return replace(self, places=tuple(sorted({*self.places, further})))

    def finer(self, value: float) -> Line:
        """Return the line around ``value`` with half the step, as wide as one old step to each side.

        For 10^-1 on a line of half decades these are 10^-1.5, 10^-1.25, 10^-1, 10^-0.75 and 10^-0.5 (W A.1).
        """
        place = self.place_of(value)
        given = {2 * number: known for number, known in (self.given or {}).items()}
        line = replace(self, places=(), step=self.step / 2, given=given)
        around = [2 * place + offset for offset in (-2, -1, 0, 1, 2)]
        return replace(line, places=tuple(number for number in around if line._within(line.value(number))))

    def _within(self, value: float) -> bool:
        if self.logarithmic and value <= 0:  # a whole number that was rounded to none
            return False
        rounding = 1e-9 * abs(value)
        return (self.low is None or value >= self.low - rounding) and (
            self.high is None or value <= self.high + rounding
        )


def line_of(axis: SearchAxisConfig, *, whole: bool = False) -> Line:
    """Return the coarse grid of an axis.

    Args:
        axis: with its values.
        whole: whether it takes whole numbers alone.

    >>> line_of(SearchAxisConfig(values=(0.01, 0.1, 1.0))).finer(0.1).values
    [0.01, 0.0316228, 0.1, 0.316228, 1.0]
    """
    logarithmic = axis.scale == "log"
    positions = [math.log10(value) if logarithmic else value for value in axis.values]
    step = (positions[-1] - positions[0]) / (len(positions) - 1)
    return Line(
        tuple(range(len(positions))),
        positions[0],
        step,
        logarithmic,
        axis.low,
        axis.high,
        {place: round(value) if whole else value for place, value in enumerate(axis.values)},
        whole,
    )


def points(lines: Mapping[str, Line]) -> list[dict[str, float]]:
    """Return every combination of the values of the lines, the last axis fastest."""
    return [dict(zip(lines, values)) for values in itertools.product(*(line.values for line in lines.values()))]


def on_edge(lines: Mapping[str, Line], point: Point) -> list[str]:
    """Return the axes at whose ends a point stands."""
    return [axis for axis, line in lines.items() if line.place_of(point[axis]) in (min(line.places), max(line.places))]


def best_point(
    found: Sequence[tuple[Point, Iterable[float | None]]], *, higher_is_better: bool
) -> tuple[Point, float] | None:
    """Return the point with the best mean, the first of equal ones; None where no point has a value for every seed.

    A point of which a trial failed, or whose measure is undefined, is as bad as can be: a search shall not end where
    training diverges for some seeds.

    >>> best_point([({"a": 1}, [0.5, None]), ({"a": 2}, [0.4, 0.3])], higher_is_better=True)
    ({'a': 2}, 0.35)
    """
    means = []
    for point, values in found:
        known = list(values)
        if known and all(value is not None for value in known):
            means.append((point, math.fsum(value for value in known if value is not None) / len(known)))
    if not means:
        return None
    sign = 1 if higher_is_better else -1
    return max(means, key=lambda each: sign * each[1])
