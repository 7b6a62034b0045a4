"""The gradients of ``blockwise_rival_terms``."""

from __future__ import annotations

import torch
from torch import Tensor

from ..rival_gradients import Gradients, Wanted
from ..rival_terms import Classifier, RivalTerms
from .forward import Kept, Placement
from .kernels import kernels_for
from .ranks import Ranks
from .scores import multiply
from .turns import accumulate


def backward_terms(
    weight: Tensor,
    kappa: Tensor | None,
    placement: Placement,
    classifier: Classifier,
    terms: RivalTerms,
    kept: Kept,
    upstream: RivalTerms,
    wanted: Wanted,
    ranks: Ranks,
) -> Gradients:
    r"""Gradients of :math:`\sum_b g_b r_b + h_b z_{y_b} + q_b \|\mathbf w_{y_b}\|` over the samples of all ranks.

    The formulas are those of ``rival_gradients``. Each rank computes those of its own classes, for the samples of all;
    that of the features is summed over the ranks, unless the search has summed it already.

    Args:
        weight: of the classes here, ``[c, D]``.
        kappa: of the home rows with its multiplier, a scalar or ``[n]``; None for 1.
        placement: of the targets.
        classifier: what the scores are.
        terms: of the home rows.
        kept: by the forward pass.
        upstream: g, h and q of the home rows.
        wanted: which gradients to compute.
        ranks: that share the classes.

    Returns:
        Of the home rows of features and κ (one number a sample), and of the classes here of weight and bias.
    """
    scores, dtype = kept.scores, kept.unit_rows.dtype
    tiny = torch.finfo(dtype).tiny
    factor = upstream.rivals if kappa is None else upstream.rivals * kappa
    scale = factor / kept.total.clamp_min(tiny)
    linear = classifier == "linear"
    packed = [scale, upstream.target_score, kept.reference]
    if linear:
        packed.append(upstream.target_length / terms.target_length.clamp_min(tiny))
    home = torch.stack(packed, dim=1)
    every = ranks.gather(home, "gradients of the terms")
    scale, own, reference = (every[:, part].contiguous() for part in range(3))
    of_rows = wanted.features or wanted.kappa
    to_rows = None
    if of_rows and kept.mean_weight is not None and kept.target_rows is not None:
        to_rows = kept.mean_weight * factor.unsqueeze(1)
        to_rows.addcmul_(kept.target_rows, upstream.target_score.unsqueeze(1))
    partial = None
    if of_rows and to_rows is None:
        partial = scale.new_zeros(len(scale), weight.shape[1])
    to_weight = torch.empty_like(weight, memory_format=torch.contiguous_format) if wanted.weight else None
    to_bias = scale.new_empty(len(weight)) if wanted.bias else None
    if partial is not None or to_weight is not None or to_bias is not None:
        kernels = kernels_for(scores.rows.scale)
        for start, block, rows in scores:
            column = placement.column - start
            out = scores.scratch(block)
            along, share = kernels.gradient(block, column, kept.kappa, reference, scale, own, out)
            end = start + out.shape[1]
            if partial is not None:
                accumulate(partial, out, rows)
            if to_bias is not None:
                to_bias[start:end] = share
            if to_weight is not None:
                inward = None if linear else along * block.column_scale.square()
                _write(to_weight[start:end], out, scores.rows.operand, weight[start:end], inward)
    if partial is not None:
        # The coefficients carry the scale of the rows, which belongs to the gradient of the weight alone.
        partial /= scores.rows.scale.unsqueeze(1)
        to_rows = ranks.sum_home(partial, "gradients of the features")
    if to_weight is not None and linear:
        _add_lengths(to_weight, weight, placement, every[:, 3], ranks)
    to_kappa = None
    if wanted.kappa and to_rows is not None and kappa is not None:
        # Along the feature lies Σ d z over all classes; that of the rivals is what κ is multiplied by.
        to_kappa = (torch.linalg.vecdot(to_rows, kept.unit_rows) - upstream.target_score * terms.target_score) / kappa
    if to_rows is not None and classifier == "cosine":
        across = torch.linalg.vecdot(to_rows, kept.unit_rows).unsqueeze(1)
        to_rows = to_rows.addcmul(kept.unit_rows, across, value=-1) * kept.inverse_row_length.unsqueeze(1)
    return Gradients(to_rows if wanted.features else None, to_weight, to_kappa, to_bias)


def _write(place: Tensor, coefficients: Tensor, operand: Tensor, weight: Tensor, along: Tensor | None) -> None:
    """The gradient of a block of the weight, where it belongs: Σ_b d x̃ less what points along the row."""
    if place.dtype == coefficients.dtype and place.dtype.itemsize >= 4:
        if along is None:
            torch.mm(coefficients.t(), operand, out=place)
        else:
            torch.mul(weight, along.unsqueeze(1), out=place).neg_().addmm_(coefficients.t(), operand)
        return
    wide = torch.promote_types(place.dtype, torch.float32)
    found = multiply(coefficients.t(), operand, torch.promote_types(wide, coefficients.dtype))
    if along is not None:
        found.addcmul_(weight.to(found.dtype), along.unsqueeze(1).to(found.dtype), value=-1)
    place.copy_(found)


def _add_lengths(gradient: Tensor, weight: Tensor, placement: Placement, through: Tensor, ranks: Ranks) -> None:
    """Add what comes through ‖w_y‖, for a linear classifier."""
    mine = placement.owner == ranks.rank
    place = placement.column.clamp_min(0)
    own = weight.index_select(0, place).to(through.dtype) * torch.where(mine, through, 0.0).unsqueeze(1)
    gradient.index_add_(0, place, own.to(gradient.dtype))
