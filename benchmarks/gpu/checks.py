"""Checks on a device: one line each as soon as it is known, and an exit code."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .machine import first_line, say


class Checks:
    """What was found, line by line.

    Args:
        quiet: say nothing, as one of several processes that find the same.

    Attributes:
        wrong: names of what failed.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.count = 0
        self.wrong: list[str] = []

    def within(self, name: str, found: float, limit: float) -> None:
        """A number that must not exceed a limit; NaN does."""
        self._tell(name, found <= limit, f"{found:.1e} (at most {limit:.0e})")

    def holds(self, name: str, good: bool, remark: str = "") -> None:
        self._tell(name, good, remark)

    def attempt(self, name: str, check: Callable[[], None]) -> None:
        """Run a check that tells its own lines; an exception is a line too."""
        try:
            check()
        except Exception as fault:  # the next check may still run
            self._tell(name, False, first_line(fault))

    def verdict(self) -> int:
        """Say the end; the exit code."""
        if self.wrong:
            self.remark(f"{len(self.wrong)} of {self.count} checks FAILED: {'; '.join(self.wrong)}")
            return 1
        self.remark(f"All {self.count} checks hold.")
        return 0

    def remark(self, text: str) -> None:
        """Say something that is no check."""
        if not self.quiet:
            say(text)

    def _tell(self, name: str, good: bool, remark: str) -> None:
        self.count += 1
        if not good:
            self.wrong.append(name)
        self.remark(f"{'ok   ' if good else 'WRONG'} {name}{': ' if remark else ''}{remark}")


def apart(found: Tensor, expected: Tensor) -> float:
    """‖found - expected‖ / ‖expected‖ in float64; what vanishes in float32 may be zero."""
    found, expected = found.detach().double(), expected.detach().double().to(found.device)
    return float((found - expected).norm() / expected.norm().clamp_min(1e-30))


def farthest(found: Tensor, expected: Tensor) -> float:
    """The largest |found - expected| / (1 + |expected|): of sums beside a term of one. Equal infinities are equal."""
    found, expected = found.detach().double(), expected.detach().double().to(found.device)
    distance = torch.where(found == expected, 0.0, (found - expected).abs() / (1 + expected.abs()))
    return float(distance.max()) if distance.numel() else 0.0
