"""One table: what was measured at one shape, in one precision."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..step.problem import Shape
from .clock import Times
from .forms import EAGER, PRODUCTS

MEGABYTE = 1e6


@dataclass
class Table:
    """What was measured.

    Attributes:
        shape: B, C, D.
        precision: ``"bfloat16"`` or ``"float32"``.
        times: seconds in rounds.
        once: seconds of the warm-up of forms that joined no round.
        peaks: bytes above the inputs.
        differences: the largest relative difference of loss and gradients from the formula.
        regrets: of κ*.
        absent: why a form was not measured.
    """

    shape: Shape
    precision: str
    times: Times = field(default_factory=Times)
    once: dict[str, float] = field(default_factory=dict)
    peaks: dict[str, int] = field(default_factory=dict)
    differences: dict[str, float] = field(default_factory=dict)
    regrets: dict[str, float] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    @property
    def gradient_bytes(self) -> int:
        """Of the gradient of W."""
        return self.shape.classes * self.shape.features * (2 if self.precision == "bfloat16" else 4)

    def rate(self, form: str) -> float | None:
        """TFLOP/s of the products that the step cannot do without."""
        seconds = self.times.median(form)
        if seconds is None or form not in PRODUCTS:
            return None
        batch, classes, size = self.shape
        return PRODUCTS[form] * 2.0 * batch * classes * size / seconds / 1e12

    def workspace(self, form: str) -> float | None:
        """MB of the peak beyond the gradient of W."""
        return None if form not in self.peaks else (self.peaks[form] - self.gradient_bytes) / MEGABYTE

    def __str__(self) -> str:
        names = [*self.times.rounds, *self.once, *self.absent]
        width = max(map(len, names), default=0)
        rounds = max((len(seconds) for seconds in self.times.rounds.values()), default=0)
        lines = [
            f"(B, C, D) = {self.shape}, {self.precision}, {rounds} rounds; the gradient of W has "
            f"{self.gradient_bytes / MEGABYTE:.1f} MB",
            f"{'':{width}s} {'ms':>10s} {'±':>6s} {'ratio':>7s} {'TFLOP/s':>8s} {'MB':>9s} {'beyond dW':>10s} "
            f"{'differs by':>11s} {'regret':>8s}",
        ]
        lines += [
            self._row(form, width, self.times.median(form), self.times.ratio(form, EAGER)) for form in self.times.rounds
        ]
        lines += [self._row(form, width, seconds, None) + "  measured once" for form, seconds in self.once.items()]
        lines += [f"{form:{width}s} {reason}" for form, reason in self.absent.items()]
        return "\n".join(lines)

    def _row(self, form: str, width: int, seconds: float | None, ratio: float | None) -> str:
        spread = f"{self.times.spread(form):.1%}" if form in self.times.rounds else ""
        peak = self.peaks.get(form)
        numbers = (
            ("" if seconds is None else f"{1e3 * seconds:.3f}", 10),
            (spread, 6),
            (_number(ratio, ".2f"), 7),
            (_number(self.rate(form), ".0f"), 8),
            (_number(None if peak is None else peak / MEGABYTE, ".1f"), 9),
            (_number(self.workspace(form), ".1f"), 10),
            (_number(self.differences.get(form), ".0e"), 11),
            (_number(self.regrets.get(form), ".0e"), 8),
        )
        return f"{form:{width}s} " + " ".join(f"{text:>{size}s}" for text, size in numbers)


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
