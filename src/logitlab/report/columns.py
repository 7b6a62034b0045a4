"""What a table of heads shows of each trial, and which end of each measure is better."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from logitlab.statistics import Estimate


@dataclass(frozen=True)
class Column:
    """One measure of a table.

    Attributes:
        key: its key in ``result["test"]`` of a record; ``"seconds"`` stands in ``provenance``, and ``"ood_ap"``
            is the mean of what ``"ood"`` holds.
        heading: what stands above it.
        higher_is_better: None where neither end is: such a column is never marked.
        decimals: digits after the point, at least.
        scale: factor between the record and the table (100 for per cent).
        unit: what follows the number in a sentence.
    """

    key: str
    heading: str
    higher_is_better: bool | None
    decimals: int
    scale: float = 1.0
    unit: str = ""

    @property
    def title(self) -> str:
        """The heading with an arrow that points to the better end."""
        arrow = {True: " ↑", False: " ↓", None: ""}[self.higher_is_better]
        return self.heading + arrow


#: Stands in a table only where sets out of the distribution were measured.
OOD_KEY: Final = "ood_ap"

COLUMNS: tuple[Column, ...] = (
    Column("accuracy", "accuracy %", True, 2, scale=100, unit=" %"),
    Column("nll", "NLL", False, 3),
    Column("ece", "ECE", False, 3),
    Column("class_separation", "R²", None, 3),
    Column("miss_ap", "MISS AP", True, 3),
    Column(OOD_KEY, "OOD AP", True, 3),
    Column("kappa", "κ", None, 2),
    Column("kappa_star", "κ*", None, 2),
    Column("seconds", "seconds", None, 1),
)


def decimals_for(column: Column, estimates: Iterable[Estimate]) -> int:
    """Return how many decimals show the median standard error as something else than zero, two more at most.

    >>> decimals_for(COLUMNS[1], [Estimate(0.062, 0.004)]), decimals_for(COLUMNS[1], [Estimate(0.062, 4e-5)])
    (3, 5)
    """
    # An error of exactly zero (a κ that is set, not found) asks for no decimals.
    errors = [column.scale * found.error for found in estimates if found.error]
    typical = statistics.median(errors) if errors else math.inf
    for decimals in (column.decimals, column.decimals + 1):
        if typical >= 0.5 * 10**-decimals:
            return decimals
    return column.decimals + 2


def write_estimate(column: Column, estimate: Estimate, decimals: int | None = None) -> tuple[str, str]:
    """Write a mean and its standard error in the column's unit; the second is empty when there is none.

    >>> write_estimate(COLUMNS[0], Estimate(0.97222, 0.0028))
    ('97.22', '0.28')
    """
    places = decimals_for(column, [estimate]) if decimals is None else decimals
    mean = f"{column.scale * estimate.mean:.{places}f}"
    return mean, "" if estimate.error is None else f"{column.scale * estimate.error:.{places}f}"
