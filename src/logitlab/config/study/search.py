"""How the hyperparameters of an entry are found: on the validation images, before any test image is looked at."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ..validation import Configuration


class SearchAxisConfig(Configuration):
    """One hyperparameter that is searched.

    Attributes:
        values: the coarse grid, increasing and evenly spaced on ``scale``; for Optuna its ends are the range.
        scale: ``"log"`` or ``"linear"``.
        low: a value below which no expansion goes; None for none.
        high: a value above which no expansion goes; None for none.
    """

    values: Annotated[tuple[float, ...], Field(strict=False, min_length=2)]
    scale: Literal["log", "linear"] = "log"
    low: float | None = None
    high: float | None = None

    @model_validator(mode="after")
    def _check(self) -> SearchAxisConfig:
        if any(second <= first for first, second in zip(self.values, self.values[1:])):
            raise ValueError(f"the values of a search must increase. Got {list(self.values)}.")
        if self.scale == "log" and self.values[0] <= 0:
            raise ValueError(f"a logarithmic scale needs values above 0. Got {self.values[0]}.")
        place = math.log if self.scale == "log" else float
        steps = [place(second) - place(first) for first, second in zip(self.values, self.values[1:])]
        # Grids are often written with two digits: 0.03 for 10^-1.5.
        if max(steps) > 1.15 * min(steps):
            raise ValueError(
                f"the values of a search must be evenly spaced on their {self.scale} scale. Got {list(self.values)}."
            )
        for name, wrong in (
            ("low", self.low is not None and self.low > self.values[0]),
            ("high", self.high is not None and self.high < self.values[-1]),
        ):
            if wrong:
                raise ValueError(f"'{name}' excludes values of the grid. Got {getattr(self, name)}.")
        return self


class SearchConfig(Configuration):
    """A search over hyperparameters (W A.1).

    Attributes:
        method: ``"coarse_to_fine"``: a coarse grid, expanded while the best point lies on its edge, then grids around
            the best with double the density; ``"optuna"``: Optuna's TPE sampler (extra ``optuna``).
        parameters: axis (``head.…`` or ``training.…``) → its values.
        seeds: initialisations a point (W: five).
        measure: what is averaged over them: of the validation images.
        better: which end of it is best.
        refinements: of ``coarse_to_fine``: how often the density is doubled.
        expansions: of ``coarse_to_fine``: how often a grid may grow at its edges, at most.
        trials: of ``optuna``: points, in all.
        together: of ``optuna``: points that are asked for at a time.
    """

    method: Literal["coarse_to_fine", "optuna"] = "coarse_to_fine"
    parameters: dict[Annotated[str, Field(pattern=r"^(head|training)\.[A-Za-z_]\w*$")], SearchAxisConfig] = Field(
        min_length=1
    )
    seeds: int = Field(5, ge=1)
    measure: str = Field("validation.accuracy", pattern=r"^validation\.\w+$")
    better: Literal["higher", "lower"] = "higher"
    refinements: int = Field(1, ge=0)
    expansions: int = Field(3, ge=0)
    trials: int = Field(30, ge=1)
    together: int = Field(2, ge=1)
