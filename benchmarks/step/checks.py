"""What is asked of our step, and whether it was reached."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .figures import Figures, Ratio
from .ours import FIXED, FUSED, LEAST_SQUARES, SEARCH
from .peers import CHUNKED, EAGER, NAIVE
from .problem import SHAPES, Shape

#: What a ratio of times may exceed its limit by, as noise. Memory is counted, not timed, and has none.
NOISE = 0.10

THOUSAND, EIGHT_THOUSAND, NINETY_THOUSAND = SHAPES[3:]

#: (line of the list, shape, form, base, largest ratio of times).
TIMES: tuple[tuple[int, Shape, str, str, float], ...] = (
    *(
        (1, shape, LEAST_SQUARES, EAGER, limit)
        for shape, limit in ((THOUSAND, 1.10), (EIGHT_THOUSAND, 0.76), (NINETY_THOUSAND, 0.60))
    ),
    *(
        (1, shape, LEAST_SQUARES, FUSED, limit)
        for shape, limit in ((THOUSAND, 1.45), (EIGHT_THOUSAND, 1.40), (NINETY_THOUSAND, 1.50))
    ),
    *((1, shape, LEAST_SQUARES, NAIVE, 1 / 5) for shape in (THOUSAND, EIGHT_THOUSAND)),
    *(
        (2, shape, FUSED, EAGER, limit)
        for shape, limit in ((THOUSAND, 0.75), (EIGHT_THOUSAND, 0.55), (NINETY_THOUSAND, 0.41))
    ),
    *((2, shape, FIXED, EAGER, 1.0) for shape in SHAPES[:3]),
    *((2, shape, FIXED, CHUNKED, 1.0) for shape in SHAPES),
    *((3, shape, SEARCH, EAGER, limit) for shape, limit in zip(SHAPES[:3], (0.4, 1.2, 0.5))),
)

#: At the largest shape, of the bytes of the gradient of W and of the cosines; and of eager's peak.
MEMORY = (1.05, 0.25)


@dataclass(frozen=True)
class Check:
    """One figure that is asked for.

    Attributes:
        line: of the list of what is asked.
        what: in words.
        asked: the largest value.
        found: what was measured; None if it was not.
        noise: relative excess that counts as noise.
    """

    line: int
    what: str
    asked: float
    found: Ratio | None
    noise: float = NOISE

    @property
    def verdict(self) -> str:
        if self.found is None:
            return "NOT measured"
        if self.found.middle <= self.asked:
            return "reached"
        if self.found.middle <= self.asked * (1 + self.noise):
            return f"within {self.noise:.0%} of noise"
        return "NOT reached"

    @property
    def passed(self) -> bool:
        return not self.verdict.startswith("NOT")

    def __str__(self) -> str:
        found = "" if self.found is None else str(self.found)
        return f"{self.line}  {self.what:86s} {self.asked:5.2f}  {found:22s} {self.verdict}"


def checks(tables: list[Figures]) -> Iterator[Check]:
    """Every figure that is asked for at the shapes that were measured."""
    by_shape = {figures.first.shape: figures for figures in tables if figures.first.section == "cosine"}
    for line, shape, form, base, asked in TIMES:
        figures = by_shape.get(shape)
        if figures is not None:
            other = figures.quickest(base) if base == CHUNKED else base
            found = None if other is None else figures.ratio(form, other)
            yield Check(line, f"{shape} {form} / {other or base}", asked, found)
    figures = by_shape.get(NINETY_THOUSAND)
    if figures is not None:
        batch, classes, size = NINETY_THOUSAND
        needed = 4 * classes * (size + batch) / 2**20
        for form in (FUSED, LEAST_SQUARES):
            for base, megabytes, asked in zip(
                ("(gradient of W + cosines)", EAGER), (needed, figures.peak(EAGER)), MEMORY
            ):
                peak = figures.peak(form)
                ratio = None if peak is None or megabytes is None else peak / megabytes
                found = None if ratio is None else Ratio(ratio, ratio, ratio)
                yield Check(4, f"{NINETY_THOUSAND} memory of {form} / {base}", asked, found, noise=0)
