"""Which answers to accept: the threshold on confidence at which the accepted ones reach a precision."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Context

from logitlab.config.errors import InputError

# Of the normal distribution: two-sided 95 %.
_QUANTILE = 1.959964
# Numbers of so many digits lie closer together than any two of float32.
_DIGITS = 9
# The next float32 below 1 is 0.99999994.
_BELOW_ONE = 0.99999999


@dataclass(frozen=True)
class Rejection:
    """What a threshold on confidence does to the answers that it was chosen on.

    Attributes:
        threshold: answers of at least this confidence are accepted.
        precision: share of right answers among the accepted ones.
        coverage: share of the answers that are accepted.
        accepted: how many are.
        count: of how many.
    """

    threshold: float
    precision: float
    coverage: float
    accepted: int
    count: int

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the precision, as if the threshold had been fixed before.

        It was not: of many thresholds one was taken *because* its precision is high on these answers, so the
        precision on others is likelier below than above what was measured here.
        """
        return wilson_interval(round(self.precision * self.accepted), self.accepted)


def threshold_for_precision(confidence: Iterable[float], correct: Iterable[bool], precision: float) -> Rejection:
    """Choose the lowest threshold at which the accepted answers reach a precision.

    Every confidence that occurs is tried as threshold; answers of equal confidence stand or fall together. The
    lowest threshold accepts the most.

    Args:
        confidence: one number an answer; more means surer.
        correct: whether the answer is right.
        precision: wanted share of right answers among the accepted ones, in (0, 1).

    Raises:
        InputError: no answers, a confidence that is no finite number, a precision outside (0, 1), or one that no
            threshold reaches.

    >>> threshold_for_precision([0.9, 0.8, 0.7, 0.6], [True, True, False, True], 0.9)
    Rejection(threshold=0.8, precision=1.0, coverage=0.5, accepted=2, count=4)
    """
    check_share("precision", precision)
    scores, hits = [float(value) for value in confidence], [bool(value) for value in correct]
    if not scores or len(scores) != len(hits):
        raise InputError(f"Expected one confidence an answer. Got {len(scores)} and {len(hits)}.")
    if not all(map(math.isfinite, scores)):
        raise InputError("Expected finite confidences. Got NaN or infinity.")
    ranked = sorted(zip(scores, hits), key=lambda pair: pair[0], reverse=True)
    right, best, top, top_threshold = 0, None, 0.0, ranked[0][0]
    for number, (score, hit) in enumerate(ranked, start=1):
        right += hit
        if number < len(ranked) and ranked[number][0] == score:
            continue  # the answers of one confidence are taken together
        reached = right / number
        if reached > top:
            top, top_threshold = reached, score
        if reached >= precision:
            best = Rejection(score, reached, number / len(ranked), number, len(ranked))
    if best is None:
        raise InputError(
            f"No threshold reaches a precision of {precision:g} on these {len(ranked)} answers: the best, at "
            f"{top_threshold:.6g}, is {top:.4f}. Ask for less, or train a better model."
        )
    return best


def short_threshold(value: float) -> float:
    """Return a threshold of few digits that accepts the same answers, whose confidences are float32 numbers.

    Printed with nine digits and passed back it makes the same decisions. A number just below stands for 1, which
    no user may give.

    Args:
        value: one of the confidences.

    >>> short_threshold(0.8999999761581421), short_threshold(1.0), short_threshold(-2.5)
    (0.899999976, 0.99999999, -2.5)
    """
    if value == 1:
        return _BELOW_ONE
    return float(Context(prec=_DIGITS, rounding=ROUND_FLOOR).create_decimal_from_float(value))


def check_share(name: str, value: float) -> None:
    """Refuse what is no number strictly between 0 and 1.

    Raises:
        InputError: naming the parameter.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
        raise InputError(f"'{name}' must be a number between 0 and 1, both excluded. Got {value!r}.")


def wilson_interval(hits: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share.

    References:
        Wilson (1927); Brown, Cai and DasGupta, "Interval estimation for a binomial proportion" (2001), (4).

    >>> [round(end, 4) for end in wilson_interval(10, 10)]
    [0.7225, 1.0]
    """
    if count < 1:
        raise InputError("Expected at least one answer. Got none.")
    share, square = hits / count, _QUANTILE**2
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = _QUANTILE / (1 + square / count) * math.sqrt(share * (1 - share) / count + square / (4 * count**2))
    return max(0.0, middle - half), min(1.0, middle + half)
