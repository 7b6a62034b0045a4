"""The seeds of a row, and what a rule says of rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from ..summary import mean_and_error, present

Verdict = Literal["holds", "does not", "not decided at this scale"]
HOLDS: Final = "holds"
DOES_NOT: Final = "does not"
NOT_DECIDED: Final = "not decided at this scale"


@dataclass(frozen=True)
class Group:
    """The seeds of one row.

    Attributes:
        label: what the row is called.
        values: seed → value; None and NaN where it is undefined.
        lacking: why it is not whole (a trial failed, or has not run), in a clause; None where it is. What is not whole
            decides nothing: which seeds are there may depend on what they measured, and the next may turn the verdict.
            Nor does what is undefined for some of its seeds alone.
    """

    label: str
    values: Mapping[int, float | None]
    lacking: str | None = None

    @property
    def not_whole(self) -> str | None:
        """Why it is not whole, in a clause: seeds that lack, or that the measure is undefined for; None where it is."""
        if self.lacking is not None:
            return f"{self.label}: {self.lacking}"
        without = sorted(seed for seed, value in self.values.items() if not present((value,)))
        if without and len(without) < len(self.values):
            seeds = f"seed{'s' if len(without) > 1 else ''} {', '.join(map(str, without))}"
            return f"{self.label}: the measure is undefined for {seeds}"
        return None

    @property
    def reason(self) -> str | None:
        """Why it decides nothing, in a clause; None where it does."""
        if self.not_whole is not None:
            return self.not_whole
        count = len(present(self.values.values()))
        if count == 0:
            return f"{self.label}: the measure is undefined"
        if count == 1:
            return f"{self.label}: one seed, and one seed decides nothing"
        return None

    @property
    def mean(self) -> float:
        """Mean over the seeds that have a value; NaN without any."""
        kept = present(self.values.values())
        return mean_and_error(kept).mean if kept else math.nan


@dataclass(frozen=True)
class Decision:
    """What a rule says.

    Attributes:
        verdict: ``"holds"``, ``"does not"`` or ``"not decided at this scale"``.
        evidence: the numbers behind it, in sentences.
        numbers: the same for a program: name → value; None where it is undefined.
        p: the p that decided, two-sided: the largest of several where all must be significant, the smallest where one
            is enough; None without a test.
    """

    verdict: Verdict
    evidence: str
    numbers: Mapping[str, float | None] = field(default_factory=dict)
    p: float | None = None
