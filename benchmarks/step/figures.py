"""From the rounds of one or several runs to medians, ratios and peaks."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from .measuring import SECTIONS, Measured


@dataclass(frozen=True)
class Ratio:
    """A median over runs, and the least and the largest of them."""

    middle: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.middle:.2f}" + (f" ({self.low:.2f} to {self.high:.2f})" if self.low < self.high else "")


class Figures:
    """One table: what several runs found at one shape."""

    def __init__(self, runs: list[Measured]) -> None:
        self.runs = runs
        self.first = runs[0]
        self.base = SECTIONS[self.first.section][0].name

    def milliseconds(self, form: str) -> tuple[float, float]:
        """Median (of the runs' medians) and least."""
        times = [[time for time in run.times[form] if time is not None] for run in self.runs]
        return 1e3 * median(median(run) for run in times), 1e3 * min(min(run) for run in times)

    def ratio(self, form: str, base: str | None = None) -> Ratio | None:
        """The median, over runs, of the median ratio to ``base`` in the same round; None if one was not measured."""
        base = base or self.base
        medians = []
        for run in self.runs:
            if form not in run.times or base not in run.times:
                return None
            pairs = zip(run.times[form], run.times[base])
            medians.append(median(one / other for one, other in pairs if one is not None and other is not None))
        return Ratio(median(medians), min(medians), max(medians))

    def peak(self, form: str) -> float | None:
        """The larger of the two counts of memory, in MB."""
        counts = [value for value in self.first.memory.get(form, {}).values() if value is not None]
        return max(counts, default=None)

    def quickest(self, begin: str) -> str | None:
        """Of the forms whose names begin so, the one with the least median."""
        names = [name for name in self.first.times if name.startswith(begin)]
        return min(names, key=lambda name: self.milliseconds(name)[0], default=None)
