"""What a predictor says of an image, and from which confidence it is believed."""

from __future__ import annotations

from dataclasses import dataclass

from logitlab.statistics import Rejection


@dataclass(frozen=True)
class Prediction:
    """The answer about one image.

    Attributes:
        path: its file; None for an array.
        label: the class's index; None where the image could not be read.
        name: the class's name; empty where the image could not be read.
        confidence: largest probability, or largest logit of a head without probabilities; NaN where the image
            could not be read.
        accepted: whether the confidence reaches the threshold; true without a threshold.
        error: why the image could not be read, in one line; None for one that could.
    """

    path: str | None
    label: int | None
    name: str
    confidence: float
    accepted: bool
    error: str | None = None


@dataclass(frozen=True)
class Threshold:
    """From which confidence answers are accepted, and where it comes from.

    Attributes:
        value: None accepts every answer.
        wanted: the precision that it was chosen for; None for a threshold that was given.
        chosen: what it does to the validation images that it was chosen on.
    """

    value: float | None = None
    wanted: float | None = None
    chosen: Rejection | None = None

    def __str__(self) -> str:
        if self.value is None:
            return ""
        if self.chosen is None:
            return f" Accepted from a confidence of {self.value:g}."
        found, (low, high) = self.chosen, self.chosen.interval
        return (
            f" Threshold {self.value:.7g}, chosen for a precision of {self.wanted:g} on {found.count} validation "
            f"images: it accepts {found.accepted} of them (coverage {found.coverage:.1%}) with a precision of "
            f"{found.precision:.2%} (95 % interval {low:.1%} to {high:.1%}; optimistic, since it was chosen on them)."
        )
