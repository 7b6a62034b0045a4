"""Reliability: accuracy beside confidence, in bins of equal width."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from logitlab.config.errors import InputError

from .arrays import ArrayLike, Rows, read_labels
from .counts import is_count
from .probabilities import probability_chunks
from .result import Result


@dataclass(frozen=True, kw_only=True, eq=False)
class Reliability(Result):
    """What a reliability diagram draws.

    Attributes:
        edges: of the bins, from 0 to 1, ``[bins + 1]``.
        counts: samples in each bin, ``[bins]``.
        confidence: mean probability of the predicted class in each bin, ``[bins]``; NaN where a bin is empty.
        accuracy: share of right predictions in each bin, ``[bins]``; NaN where a bin is empty.
        value: the expected calibration error, the gaps' mean weighted by counts; a fraction in [0, 1].
        maximum: the largest gap between accuracy and confidence of a bin that is not empty (MCE).
    """

    name: ClassVar[str] = "reliability"

    edges: Tensor
    counts: Tensor
    confidence: Tensor
    accuracy: Tensor
    value: float
    maximum: float

    @property
    def headline(self) -> str:
        """The two calibration errors."""
        return f"expected error {self.value:.4g}, largest {self.maximum:.4g}"


def reliability(p: ArrayLike, y: ArrayLike, bins: int = 15, *, split: str | None = None) -> Reliability:
    r"""Sort predictions into bins by their confidence, and compare each bin's accuracy with its confidence.

    .. math:: \mathrm{acc}(B_b) = \frac1{|B_b|} \sum_{i \in B_b} [\hat y_i = y_i], \quad
        \mathrm{conf}(B_b) = \frac1{|B_b|} \sum_{i \in B_b} \max_c p_{ic}, \quad
        \mathrm{ECE} = \sum_b \frac{|B_b|}{N} |\mathrm{acc}(B_b) - \mathrm{conf}(B_b)|

    Bins are (lo, hi] as in Guo et al.; their borders are rounded to the dtype of ``p``, so that a float32 confidence
    of 0.2 lies in the bin that ends at 0.2. The predicted class is the first of the most probable.

    Args:
        p: probabilities, shape ``[N, C]``; for a sigmoid head the normalised ones (W Table 3).
        y: class indices, shape ``[N]``.
        bins: at least 1; W uses 15.
        split: the part of the data, kept in the result.

    Returns:
        A :class:`Reliability`; its ``value`` is that of :func:`~logitlab.analysis.expected_calibration_error`.

    Raises:
        InputError: rows that are no probabilities, shapes that do not fit, labels outside [0, C), or no bins.

    References:
        W Table 3; Guo et al., "On calibration of modern neural networks", 2017, Figure 1 and Eqs. (2) to (5).

    >>> found = reliability([[0.75, 0.25]] * 5 + [[0.0, 1.0]], [0, 0, 0, 1, 1, 1], bins=2)
    >>> found.counts, found.confidence, found.accuracy
    (tensor([0, 6]), tensor([   nan, 0.7917], dtype=torch.float64), tensor([   nan, 0.6667], dtype=torch.float64))
    """
    rows = Rows(p, "p")
    labels = read_labels(y, "y", *rows.shape)
    # Integers hold no probability but 0 and 1; their borders stay in double precision.
    sums = BinSums(bins, rows.dtype if rows.dtype.is_floating_point else torch.float64)
    for where, chunk in probability_chunks(rows):
        sums.add(chunk.amax(dim=1), chunk.argmax(dim=1) == labels[where].to(rows.device))
    return Reliability(
        convention=sums.convention,
        n=len(rows),
        split=split,
        edges=sums.edges,
        counts=sums.counts,
        confidence=sums.confidence / sums.counts,
        accuracy=sums.correct / sums.counts,
        value=sums.expected_error,
        maximum=float((sums.gaps / sums.counts)[sums.counts > 0].max()),
    )


class BinSums:
    """Counts, confidences and right answers added up bin by bin, a chunk at a time.

    Args:
        bins: how many, at least 1.
        dtype: what the confidences were computed in; the inner borders are rounded to it.

    Attributes:
        convention: the bins, in words.
        edges: ``[bins + 1]``, float64.
        counts, confidence, correct: sums so far, ``[bins]``, int64 and float64.

    Raises:
        InputError: no bins.
    """

    def __init__(self, bins: int, dtype: torch.dtype = torch.float64) -> None:
        if not is_count(bins, 1):
            raise InputError(f"Expected an integer 'bins' of at least 1. Got {bins}.")
        self.convention = f"{bins} bins of equal width (lo, hi]"
        # Quotients of integers are rounded rightly; torch.linspace puts 11 / 20 just below 0.55.
        self.edges = torch.arange(bins + 1, dtype=torch.float64) / bins
        self._borders = self.edges[1:-1].to(dtype).to(torch.float64)
        self.counts = torch.zeros(bins, dtype=torch.int64)
        self.confidence = torch.zeros(bins, dtype=torch.float64)
        self.correct = torch.zeros(bins, dtype=torch.float64)

    def add(self, confidence: Tensor, correct: Tensor) -> None:
        """Add samples: float64 and bool, each ``[B]``, on any device."""
        confidence, correct = confidence.cpu(), correct.cpu()
        # right=False: a confidence on a border belongs to the bin below it.
        index = torch.bucketize(confidence, self._borders, right=False)
        self.counts += index.bincount(minlength=len(self.counts))
        self.confidence.index_add_(0, index, confidence)
        self.correct.index_add_(0, index, correct.to(torch.float64))

    @property
    def gaps(self) -> Tensor:
        """Absolute differences of right answers and confidence, summed over each bin's samples, ``[bins]``."""
        return (self.correct - self.confidence).abs()

    @property
    def expected_error(self) -> float:
        """The expected calibration error of all samples so far."""
        return float(self.gaps.sum()) / int(self.counts.sum())
