"""What every analysis returns: a number with the convention it was computed by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from logitlab.config.errors import InputError


class UndefinedError(InputError):
    """Sound inputs for which the measure does not exist, such as 0/0."""


@dataclass(frozen=True)
class Measurement:
    """One number and what it means.

    Attributes:
        name: what was measured, for instance ``"accuracy"``.
        value: the number.
        convention: how it was computed where the literature differs, in words.
        n: samples that it rests on.
        split: the part of the data that it was measured on, if the caller said so.
        warnings: why the number may mislead, a sentence each.
        details: numbers that belong beside it, for instance the base rate of an average precision.

    >>> print(Measurement("accuracy", 0.9375, "top-1", 16, split="test"))
    accuracy 0.9375 (top-1; test, n = 16)
    """

    name: str
    value: float
    convention: str
    n: int
    split: str | None = None
    warnings: tuple[str, ...] = ()
    details: Mapping[str, float] = field(default_factory=dict)

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        where = f"{self.split}, " if self.split else ""
        details = "".join(f"; {name} {value:.4g}" for name, value in self.details.items())
        lines = [f"{self.name} {self.value:.4g} ({self.convention}; {where}n = {self.n}){details}"]
        return "\n".join([*lines, *(f"  warning: {warning}" for warning in self.warnings)])

    def to_json(self) -> dict[str, Any]:
        """Return plain values for ``json.dumps``; None for a number that JSON cannot hold (infinity).

        >>> Measurement("negative_log_likelihood", float("inf"), "nats", 2).to_json()["value"] is None
        True
        """
        return {
            "name": self.name,
            "value": _finite(self.value),
            "convention": self.convention,
            "n": self.n,
            "split": self.split,
            "warnings": list(self.warnings),
            "details": {name: _finite(value) for name, value in self.details.items()},
        }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
