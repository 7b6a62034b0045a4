"""Curves over the threshold of a confidence score: precision and recall, risk and coverage."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, TypeVar

import torch
from torch import Tensor

from logitlab.config.errors import InputError

from .arrays import ArrayLike, Rows, read_flags
from .counts import is_count
from .measurement import UndefinedError
from .result import Result


@dataclass(frozen=True, kw_only=True, eq=False)
class PrecisionRecall(Result):
    """Precision and recall at each threshold, from the surest on.

    Attributes:
        precision: share of positives among the accepted, ``[T]``.
        recall: share of the positives that are accepted, ``[T]``; increasing to 1.
        thresholds: distinct confidences, decreasing, ``[T]``; accepted is what is not below.
        base_rate: share of positives: the precision of chance.
        value: the average precision of the whole curve, thinned or not.
    """

    name: ClassVar[str] = "precision_recall"

    precision: Tensor
    recall: Tensor
    thresholds: Tensor
    base_rate: float
    value: float

    @property
    def headline(self) -> str:
        """The area."""
        return f"average precision {self.value:.4g}, base rate {self.base_rate:.4g}"

    def thinned(self, points: int = 300) -> PrecisionRecall:
        """At most so many points, evenly from the first to the last, for a picture; the numbers stay."""
        return _thinned(self, ("precision", "recall", "thresholds"), points)


@dataclass(frozen=True, kw_only=True, eq=False)
class RiskCoverage(Result):
    """The share of wrong answers among those accepted, from the surest on.

    Attributes:
        coverage: share of samples that are accepted, ``[T]``; increasing to 1.
        risk: share of wrong answers among them, ``[T]``.
        thresholds: distinct confidences, decreasing, ``[T]``; accepted is what is not below.
        value: area under the risk (AURC), a fraction in [0, 1]; smaller is better.
        excess: ``value`` less that of the best order of the same answers (E-AURC), at least 0.
    """

    name: ClassVar[str] = "risk_coverage"

    coverage: Tensor
    risk: Tensor
    thresholds: Tensor
    value: float
    excess: float

    @property
    def headline(self) -> str:
        """The area, and how much of it is the order's fault."""
        return f"area {self.value:.4g}, {self.excess:.4g} above the best order"

    def thinned(self, points: int = 300) -> RiskCoverage:
        """At most so many points, evenly from the first to the last, for a picture; the areas stay."""
        return _thinned(self, ("coverage", "risk", "thresholds"), points)


def precision_recall(confidence: ArrayLike, positive: ArrayLike, *, split: str | None = None) -> PrecisionRecall:
    r"""Precision and recall of the positives among the samples at least as sure as each threshold.

    .. math:: P_t = \frac{\#\{i : s_i \ge t, \text{positive}\}}{\#\{i : s_i \ge t\}}, \quad
        R_t = \frac{\#\{i : s_i \ge t, \text{positive}\}}{\#\{i : \text{positive}\}}, \quad
        \mathrm{AP} = \sum_t (R_t - R_{t-1}) P_t

    over the thresholds t, one a distinct confidence, decreasing; tied samples share one.

    Args:
        confidence: shape ``[N]``, larger is surer.
        positive: what should be found, shape ``[N]``: the right answers (MISS), or the known images (OOD).
        split: the part of the data, kept in the result.

    Returns:
        A :class:`PrecisionRecall`; ``value`` is the step sum, as in
        :func:`~logitlab.analysis.misclassification_ap`.

    Raises:
        InputError: NaN or infinity, or lengths that differ.
        UndefinedError: no positives, or nothing else.

    References:
        T Figure 4 (its areas).

    >>> found = precision_recall([0.9, 0.8, 0.8, 0.1], [True, True, False, False])
    >>> found.recall, found.precision
    (tensor([0.5000, 1.0000, 1.0000], dtype=torch.float64), tensor([1.0000, 0.6667, 0.5000], dtype=torch.float64))
    """
    thresholds, accepted, found = _accepted(confidence, positive, "positive")
    total, positives = int(accepted[-1]), int(found[-1])
    if positives in (0, total):
        raise UndefinedError(f"Expected positives and others to tell apart. Got {positives} positives among {total}.")
    precision, recall = found / accepted, found / positives
    steps = recall.diff(prepend=torch.zeros(1, dtype=torch.float64))
    return PrecisionRecall(
        convention="step sum, tied scores share a threshold",
        n=total,
        split=split,
        precision=precision,
        recall=recall,
        thresholds=thresholds,
        base_rate=positives / total,
        warnings=_tied(thresholds),
        value=float((steps * precision).sum()),
    )


def risk_coverage(confidence: ArrayLike, correct: ArrayLike, *, split: str | None = None) -> RiskCoverage:
    r"""Risk of the answers that are kept when the least sure are refused.

    .. math:: c_t = \frac{\#\{i : s_i \ge t\}}{N}, \quad
        r_t = \frac{\#\{i : s_i \ge t, \hat y_i \ne y_i\}}{\#\{i : s_i \ge t\}}, \quad
        \mathrm{AURC} = \sum_t (c_t - c_{t-1}) r_t

    over the thresholds t, one a distinct confidence, decreasing. Without ties the area is the mean of the risks of the
    1, 2, … N surest answers (Geifman et al.); tied ones share a threshold, hence a risk. The best order puts every
    right answer before every wrong one; its area is taken of these very N samples,
    :math:`\frac1N \sum_{j=1}^{E} j / (N - E + j)` with E errors, not of Geifman's limit
    :math:`r + (1 - r) \log(1 - r)`.

    Args:
        confidence: shape ``[N]``, larger is surer.
        correct: whether the answer was right, shape ``[N]``.
        split: the part of the data, kept in the result.

    Returns:
        A :class:`RiskCoverage`. The last risk is the error rate.

    Raises:
        InputError: NaN or infinity, or lengths that differ.

    References:
        Geifman, Uziel and El-Yaniv, "Bias-reduced uncertainty estimation for deep neural classifiers", 2019.

    >>> found = risk_coverage([0.9, 0.8, 0.7, 0.6], [True, False, True, True])
    >>> found.risk
    tensor([0.0000, 0.5000, 0.3333, 0.2500], dtype=torch.float64)
    >>> round(found.value, 4), round(found.excess, 4)
    (0.2708, 0.2083)
    """
    thresholds, accepted, right = _accepted(confidence, correct, "correct")
    total = int(accepted[-1])
    errors = total - int(right[-1])
    coverage, risk = accepted / total, (accepted - right) / accepted
    area = float((coverage.diff(prepend=torch.zeros(1, dtype=torch.float64)) * risk).sum())
    mistakes = torch.arange(1, errors + 1, dtype=torch.float64)
    best = float((mistakes / (total - errors + mistakes)).sum()) / total
    return RiskCoverage(
        convention="step sum, tied scores share a threshold; best order of the same answers",
        n=total,
        split=split,
        coverage=coverage,
        risk=risk,
        warnings=_tied(thresholds),
        thresholds=thresholds,
        value=area,
        # No order is better than the best: below it is rounding.
        excess=max(0.0, area - best),
    )


def _accepted(confidence: ArrayLike, flags: ArrayLike, name: str) -> tuple[Tensor, Tensor, Tensor]:
    """Distinct confidences from the largest on, and how many samples, and flags, are no smaller; each ``[T]``."""
    rows = Rows(confidence, "confidence", dimensions=1)
    marked = read_flags(flags, name, len(rows)).cpu()
    values, order = torch.cat([chunk.cpu() for _, chunk in rows.chunks()]).sort(descending=True)
    is_last = torch.cat([values[:-1] != values[1:], torch.ones(1, dtype=torch.bool)])
    accepted = torch.arange(1, len(values) + 1, dtype=torch.float64)
    return values[is_last], accepted[is_last], marked[order].cumsum(0)[is_last].to(torch.float64)


def _tied(thresholds: Tensor) -> tuple[str, ...]:
    return () if len(thresholds) > 1 else ("All confidences are equal: the curve is one point.",)


_Curve = TypeVar("_Curve", PrecisionRecall, RiskCoverage)


def _thinned(curve: _Curve, names: tuple[str, ...], points: int) -> _Curve:
    if not is_count(points, 2):
        raise InputError(f"Expected an integer 'points' of at least 2. Got {points}.")
    count = len(curve.thresholds)
    if count <= points:
        return curve
    index = torch.linspace(0, count - 1, points, dtype=torch.float64).round().to(torch.int64)
    return replace(curve, **{name: getattr(curve, name)[index] for name in names})
