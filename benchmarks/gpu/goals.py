"""What is asked of our step on an H200, and whether it was reached."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..step.problem import Shape
from .forms import FIXED, LEAST_SQUARES
from .table import Table

MILLION, NINETY_THOUSAND = Shape(512, 1_000_000, 512), Shape(512, 93_431, 512)


@dataclass(frozen=True)
class Goal:
    """One figure that is asked for.

    Attributes:
        what: in words, with the unit.
        asked: the bound.
        found: what was measured; None if it was not.
        least: whether the bound is a least value; else it is a largest one.
    """

    what: str
    asked: float
    found: float | None
    least: bool = False

    @property
    def verdict(self) -> str:
        if self.found is None:
            return "not measured"
        good = self.found >= self.asked if self.least else self.found <= self.asked
        return "reached" if good else "NOT reached"

    def __str__(self) -> str:
        found = "" if self.found is None else f"{self.found:.2f}"
        return (
            f"{self.what:72s} {'at least' if self.least else 'at most'} {self.asked:7.2f} {found:>9s}  {self.verdict}"
        )


def goals(tables: list[Table]) -> Iterator[Goal]:
    """Every figure that is asked for, in bfloat16; those that no table holds as not measured."""
    by_shape = {table.shape: table for table in tables if table.precision == "bfloat16"}
    for shape in (MILLION, NINETY_THOUSAND):
        found = by_shape.get(shape, Table(shape, "bfloat16"))
        yield Goal(f"{shape} least squares over fixed κ", 1.5, found.times.ratio(LEAST_SQUARES, FIXED))
        for form, asked in zip((LEAST_SQUARES, FIXED), (4.2, 2.9) if shape == MILLION else (0.42, 0.28)):
            seconds = found.times.median(form)
            yield Goal(f"{shape} {form}, ms", asked, None if seconds is None else 1e3 * seconds)
            yield Goal(f"{shape} {form}, TFLOP/s of the counted products", 600, found.rate(form), least=True)
    found = by_shape.get(MILLION, Table(MILLION, "bfloat16"))
    for form in (LEAST_SQUARES, FIXED):
        yield Goal(f"{MILLION} {form}, MB beyond the gradient of W", 256, found.workspace(form))
