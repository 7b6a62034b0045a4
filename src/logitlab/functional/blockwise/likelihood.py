"""What the maximum-likelihood temperature asks of the cosines, where the classes are split over ranks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..class_chunks import LOG2_E
from .kernels import kernels_for
from .ranks import Ranks
from .scores import Rows, Scores, inverse_lengths, keep_scores, product_dtype, rows_of_features
from .turns import sum_rivals


@torch.no_grad()
def likelihood_means(
    features: Tensor, weight: Tensor, candidates: Sequence[float], num_classes: int, ranks: Ranks
) -> tuple[Tensor, Tensor]:
    r"""Means over all classes of the exponentials at each candidate.

    .. math:: \log \frac1C \sum_c e^{\kappa (z_c - M)}

    Args:
        features: of the home rows, ``[n, D]``, as many on every rank.
        weight: of the classes here, ``[c, D]``.
        candidates: K values of κ.
        num_classes: C.
        ranks: that share the classes.

    Returns:
        ``[K, n]``, and M, the largest cosine, ``[n]``: what ``search_likelihood_of_means`` takes.

    >>> means, largest = likelihood_means(torch.tensor([[1.0, 0.0]]), torch.eye(2), (1.0,), 2, Ranks())
    >>> means, largest  # log of (1 + 1/e)/2
    (tensor([[-0.3799]]), tensor([1.]))
    """
    rows, _ = rows_of_features(features, product_dtype(features, weight), "cosine")
    operand = ranks.gather(rows.operand, "features")
    scaled = rows.operand.dtype.itemsize < 4
    scale = ranks.gather(rows.scale, "lengths of features") if scaled else rows.scale.new_ones(operand.shape[0])
    keep = keep_scores(operand, weight.shape[0], scale.dtype)
    scores = Scores(Rows(operand, scale), weight, inverse_lengths(weight, scale.dtype), None, keep)
    # A column of -1 is no class: all of them count.
    nobody = torch.full_like(scale, -1, dtype=torch.int64)
    found, _ = sum_rivals(scores, nobody, torch.ones_like(scale))
    totals = torch.stack([_sum_at(scores, nobody, float(candidate), found.reference) for candidate in candidates])
    numbers = torch.cat([found.reference.unsqueeze(0), totals])
    every = ranks.exchange(numbers.t(), "the likelihoods").transpose(1, 2)  # [R, 1 + K, n]
    largest = every[:, 0].amax(dim=0)
    shift = (every[:, 0] - largest) * LOG2_E
    means = [
        (every[:, 1 + index] * (shift * float(candidate)).exp2()).sum(dim=0).log()
        for index, candidate in enumerate(candidates)
    ]
    return torch.stack(means) - largest.new_full((), num_classes).log(), largest


def _sum_at(scores: Scores, nobody: Tensor, kappa: float, reference: Tensor) -> Tensor:
    kernels = kernels_for(reference)
    total = torch.zeros_like(reference)
    for _, block, _ in scores:
        total += kernels.weigh(block, nobody, torch.full_like(reference, kappa), reference)
    return total
