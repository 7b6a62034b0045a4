"""What a predictor says of an image, and from which confidence it is believed."""

from __future__ import annotations

from dataclasses import dataclass

from logitlab.statistics import Rejection

# A share of fewer answers than these says little.
_FEW = 30


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
        score: what the confidence is: ``"confidence"`` (the largest probability) or ``"max logit"``.
    """

    value: float | None = None
    wanted: float | None = None
    chosen: Rejection | None = None
    score: str = "confidence"

    def __str__(self) -> str:
        if self.value is None:
            return ""
        if self.chosen is None:
            return f" Accepted from a {self.score} of {self.value!r}."
        found, (low, high) = self.chosen, self.chosen.interval
        few = (
            f" Warning: {found.count} images are too few to choose a threshold well; take {_FEW} or more."
            if found.count < _FEW
            else ""
        )
        return (
            f" Threshold {self.value:.9g} on the {self.score}, chosen for a precision of {self.wanted:g} on "
            f"{found.count} validation images: it accepts {found.accepted} of them (coverage {found.coverage:.1%}) "
            f"with a precision of {found.precision:.2%} (95 % interval {low:.1%} to {high:.1%}; optimistic, since it "
            f"was chosen on them).{few}"
        )
