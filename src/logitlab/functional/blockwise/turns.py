"""Turns over the blocks of classes of one process, each for a few numbers a sample; and what all ranks found, merged.

What one block or one rank has summed stands relative to its own largest score; merging brings all to the largest of
them. A sum never meets a larger exponential than one.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..class_chunks import LOG2_E
from ..least_squares.power_sums import LEVELS, PowerSums
from .block import Block
from .kernels import kernels_for
from .ranks import Ranks
from .scores import Scores, multiply


def own_scores(block: Block, column: Tensor) -> Tensor:
    """The score of each sample's target, zero where it is not in the block, ``[N]``."""
    last = block.product.shape[1] - 1
    inside = (column >= 0) & (column <= last)
    place = column.clamp(0, last)
    own = block.product.gather(1, place.unsqueeze(1)).squeeze(1) * block.row_scale * block.column_scale[place]
    return torch.where(inside, own, 0.0)


def _finite(value: Tensor) -> Tensor:
    """The largest of no score as the lowest number; what is not a number stays so."""
    return value.clamp_min(torch.finfo(value.dtype).min)


class Total(NamedTuple):
    """Exponentials of the rivals' logits, summed.

    Attributes:
        reference: the largest score (with a bias: logit) of a rival, ``[N]``.
        total: Σ e^(κ(z - m)), with a bias Σ e^(κz + b - m), ``[N]``.
    """

    reference: Tensor
    total: Tensor


def sum_rivals(scores: Scores, column: Tensor, kappa: Tensor) -> tuple[Total, Tensor]:
    """One turn for a κ that is known.

    Args:
        scores: of the classes here.
        column: the target's place among them, or outside, int64 ``[N]``.
        kappa: ``[N]``.

    Returns:
        The sum over the rivals here, and the score of the target where it is here, otherwise zero, ``[N]``.
    """
    kernels = kernels_for(scores.rows.scale)
    found: Total | None = None
    own = torch.zeros_like(scores.rows.scale)
    for start, block, _ in scores:
        here = column - start
        reference = _finite(kernels.largest(block, here, kappa)[0])
        one = Total(reference, kernels.weigh(block, here, kappa, reference))
        found = one if found is None else _merge_two(found, one, kappa if scores.bias is None else None)
        own += own_scores(block, here)
    assert found is not None
    return found, own


def _merge_two(first: Total, second: Total, kappa: Tensor | None) -> Total:
    reference = torch.maximum(first.reference, second.reference)
    unit = LOG2_E if kappa is None else kappa * LOG2_E
    total = first.total * ((first.reference - reference) * unit).exp2()
    total = total + second.total * ((second.reference - reference) * unit).exp2()
    return Total(reference, total)


def merge_totals(every: Total, kappa: Tensor | None) -> Total:
    """Of what each rank found, ``[R, n]`` each, the sum over all classes, ``[n]``.

    Args:
        every: by rank.
        kappa: of the home rows, ``[n]``; None with a bias, whose reference is a logit.
    """
    reference = every.reference.amax(dim=0)
    unit = LOG2_E if kappa is None else kappa * LOG2_E
    return Total(reference, (every.total * ((every.reference - reference) * unit).exp2()).sum(dim=0))


class Nearest(NamedTuple):
    """What the search knows of the rivals before any reconstruction.

    Attributes:
        reference: the largest cosine of a rival, ``[N]``.
        sums: power sums of the other rivals relative to it, ``[3, LEVELS, N]``; see ``PowerSums``.
    """

    reference: Tensor
    sums: Tensor


def sum_powers(scores: Scores, column: Tensor) -> tuple[Nearest, Tensor]:
    """One turn for the search; arguments, and the second result, as of ``sum_rivals``."""
    kernels = kernels_for(scores.rows.scale)
    found: Nearest | None = None
    own = torch.zeros_like(scores.rows.scale)
    for start, block, _ in scores:
        here = column - start
        value, place = kernels.largest(block, here)
        reference = _finite(value)
        one = Nearest(reference, kernels.power_sums(block, here, place, reference))
        if found is None:
            found = one
        else:
            both = [torch.stack(pair) for pair in zip(found, one)]
            found = Nearest(*_merge_nearest(*both))
        own += own_scores(block, here)
    assert found is not None
    return found, own


def _merge_nearest(references: Tensor, sums: Tensor) -> tuple[Tensor, Tensor]:
    """Of ``[P, N]`` and ``[P, 3, LEVELS, N]`` one; the nearest of each part but the winner joins the others."""
    reference, winner = references.max(dim=0)
    levels = torch.arange(LEVELS, device=references.device, dtype=references.dtype).exp2().unsqueeze(1)
    lowest = torch.finfo(references.dtype).min
    shift = ((references - reference).unsqueeze(1) * levels * LOG2_E).exp2()  # [P, LEVELS, N]
    merged = (sums * shift.unsqueeze(1)).sum(dim=0)
    parts = torch.arange(len(references), device=references.device).unsqueeze(1)
    displaced = (parts != winner) & (references > lowest)
    score = torch.where(displaced, references, 0.0).unsqueeze(1)
    weight = torch.where(displaced.unsqueeze(1), shift, 0.0)
    powers = torch.stack([weight, weight * score, weight * score.square()], dim=1)  # [P, 3, LEVELS, N]
    return reference, merged + powers.sum(dim=0)


def merge_nearest(every: Nearest, num_rest: int) -> PowerSums:
    """Of what each rank found (``[R, n]`` and ``[R, 3, LEVELS, n]``) the power sums of all rivals but the nearest.

    Args:
        every: by rank.
        num_rest: how many classes these are.
    """
    reference, sums = _merge_nearest(every.reference.double(), every.sums.double())
    return PowerSums(sums, num_rest, reference)


def rebuild(
    scores: Scores, column: Tensor, kappa: Tensor, reference: Tensor, rows: Tensor | None, careful: bool
) -> tuple[Tensor, Tensor]:
    r"""Sum the rivals' exponentials, and the unit rows of the weight weighted by them.

    .. math:: S = \sum_{c \ne y} e^{\kappa (z_c - m)}, \qquad \mathbf V = \sum_{c \ne y} e^{\kappa (z_c - m)}
        \tilde{\mathbf w}_c

    Args:
        scores: of the classes here.
        column: the target's place among them, or outside, int64 ``[M]``.
        kappa: ``[M]``.
        reference: m, ``[M]``.
        rows: which samples, int64 ``[M]``; None for all.
        careful: keep the digits of the coefficients where the product is one of bfloat16, by a second one.

    Returns:
        S ``[M]`` and V ``[M, D]`` of the classes here.
    """
    kernels = kernels_for(scores.rows.scale)
    total, combination = torch.zeros_like(kappa), kappa.new_zeros(len(kappa), scores.weight.shape[1])
    for start, block, weight in scores.of(rows):
        coefficients = scores.scratch(block)
        low = torch.empty_like(coefficients) if careful and coefficients.dtype == torch.bfloat16 else None
        total += kernels.weigh(block, column - start, kappa, reference, coefficients, low)
        accumulate(combination, coefficients, weight)
        if low is not None:
            accumulate(combination, low, weight)
    return total, combination


def accumulate(result: Tensor, left: Tensor, right: Tensor) -> None:
    """Add a product to a matrix of float32 at least, in place."""
    if left.dtype == result.dtype:
        result.addmm_(left, right)
    else:
        result += multiply(left, right, result.dtype)


def project(
    scores: Scores, column: Tensor, direction: Tensor, kappas: Tensor, reference: Tensor, rows: Tensor | None
) -> Tensor:
    """One turn that weighs cosines and projections at several κ.

    Args:
        scores: of the classes here.
        column: the target's place among them, or outside, int64 ``[M]``.
        direction: b, in the dtype of the products, ``[M, D]``.
        kappas: ``[K, M]``; zero for none.
        reference: m, ``[M]``.
        rows: which samples, int64 ``[M]``; None for all.

    Returns:
        Σ e, Σ e z and Σ e (b · w̃) over the rivals here, ``[3, K, M]``.
    """
    kernels = kernels_for(scores.rows.scale)
    sums = kappas.new_zeros(3, *kappas.shape)
    for start, block, weight in scores.of(rows):
        along = multiply(direction, weight.t(), scores.dtype)
        sums += kernels.project(block, along, column - start, kappas, reference)
    return sums


def gather_home(ranks: Ranks, what: str, *home: Tensor) -> tuple[Tensor, ...]:
    """Numbers a sample from every rank in one exchange: each ``[n]`` becomes ``[R n]``."""
    if ranks.size == 1:
        return home
    return ranks.gather(torch.stack(home, dim=1), what).unbind(1)
