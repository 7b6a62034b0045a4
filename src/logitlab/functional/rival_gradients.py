"""The gradients of ``rival_terms``, a block of classes at a time."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .class_chunks import lay_out
from .normalization import length, normalize
from .rival_terms import Kept, RivalTerms, as_factor


class Wanted(NamedTuple):
    """Which gradients are asked for."""

    features: bool
    weight: bool
    kappa: bool
    bias: bool


class Gradients(NamedTuple):
    """Those that were asked for; ``kappa`` is one number a sample."""

    features: Tensor | None
    weight: Tensor | None
    kappa: Tensor | None
    bias: Tensor | None


def rival_gradients(
    weight: Tensor,
    target: Tensor,
    kappa: Tensor | None,
    bias: Tensor | None,
    terms: RivalTerms,
    kept: Kept,
    upstream: RivalTerms,
    wanted: Wanted,
) -> Gradients:
    r"""Gradients of :math:`\sum_b g_b r_b + h_b z_{y_b} + q_b \|\mathbf w_{y_b}\|`.

    With p = softmax of the rivals' logits, the gradient of a rival's score is gκp, and that of the target's is h; so

    .. math:: \frac{\partial}{\partial \tilde{\mathbf x}} = g \kappa \sum_{c \ne y} p_c \tilde{\mathbf w}_c
        + h \tilde{\mathbf w}_y, \qquad
        \frac{\partial}{\partial \mathbf w_c} = \frac{1}{\|\mathbf w_c\|} \Big( \sum_b d_{bc} \tilde{\mathbf x}_b
        - \sum_b d_{bc} z_{bc}\, \tilde{\mathbf w}_c \Big),

    with d the gradient of the scores. Both products of a block use the same exponentials while they are in the cache,
    and a block of the second is written where it belongs: a gradient of ``[C, D]`` exists once.

    Args:
        weight: W, ``[C, D]``.
        target: class indices, ``[N]``.
        kappa: κ with its multiplier, a scalar or ``[N]``; None for 1.
        bias: b, ``[C]``, or None.
        terms: of the forward pass.
        kept: by the forward pass.
        upstream: g, h and q of each sample.
        wanted: which gradients to compute.
    """
    rows, dtype, given = kept.rows, kept.rows.dtype, weight
    if bool(kept.extreme):
        weight = normalize(weight.to(dtype))
    chunks = lay_out(kept.storage, weight, kept.inverse_length)
    factor = as_factor(kappa)
    # Where no rival is left, or all are masked by a bias of -inf, nothing is divided and nothing flows.
    inverse_total = kept.total.clamp_min(torch.finfo(dtype).tiny).reciprocal_()
    scale = (upstream.rivals if kappa is None else upstream.rivals * kappa).unsqueeze(1)
    to_rows = _from_mean_weight(weight, target, kept, scale, upstream) if wanted.features or wanted.kappa else None
    multiply = to_rows is None and (wanted.features or wanted.kappa)
    if multiply:
        to_rows = torch.zeros_like(rows)
    to_weight = torch.empty_like(weight, memory_format=torch.contiguous_format) if wanted.weight else None
    to_bias = rows.new_empty(len(weight)) if wanted.bias else None
    ones = rows.new_ones(len(rows))
    if multiply or wanted.weight or wanted.bias:
        for chunk, (samples, columns) in zip(chunks, chunks.places(target)):
            # The gradient of the scores, κgp, and of the targets' h, whose own p is of no use.
            gradient = chunks.powers(chunk, factor, bias, kept.reference)
            end = chunk.start + gradient.shape[1]
            if to_bias is not None:
                gradient[samples, columns] = 0.0
                torch.mv(gradient.t(), upstream.rivals * inverse_total.squeeze(1), out=to_bias[chunk.start : end])
            gradient.mul_(scale * inverse_total)
            gradient[samples, columns] = upstream.target_score[samples]
            along: Tensor | None = None
            if chunk.inverse_length is not None:
                if to_weight is not None:
                    product = torch.mul(gradient, chunk.cosine, out=chunks.scratch(gradient.shape, 1))
                    along = torch.mv(product.t(), ones).mul_(chunk.inverse_length.square()).neg_()
                gradient.mul_(chunk.inverse_length)
            block = chunk.weight.to(dtype)
            if multiply and to_rows is not None:
                to_rows.addmm_(gradient, block)
            if to_weight is not None:
                place = to_weight[chunk.start : end]
                direct = place if place.dtype == dtype else place.to(dtype)
                if along is None:
                    torch.mm(gradient.t(), rows, out=direct)
                else:
                    torch.mul(block, along.unsqueeze(1), out=direct).addmm_(gradient.t(), rows)
                if direct is not place:
                    place.copy_(direct)
    if to_weight is not None and kept.inverse_length is None:
        _add_lengths(to_weight, weight, target, terms, upstream)
    if to_weight is not None and bool(kept.extreme):
        to_weight = _of_given_rows(to_weight, weight, given)
    to_kappa = None
    if wanted.kappa and to_rows is not None and kappa is not None:
        # Along the feature lies Σ d z over all classes; that of the rivals is what κ is multiplied by.
        to_kappa = (torch.linalg.vecdot(to_rows, rows) - upstream.target_score * terms.target_score) / kappa
    if to_rows is not None and kept.inverse_row_length is not None:
        across = torch.linalg.vecdot(to_rows, rows).unsqueeze(1)
        to_rows.addcmul_(rows, across, value=-1).mul_(kept.inverse_row_length)
    return Gradients(to_rows if wanted.features else None, to_weight, to_kappa, to_bias)


def _from_mean_weight(weight: Tensor, target: Tensor, kept: Kept, scale: Tensor, upstream: RivalTerms) -> Tensor | None:
    """The gradient of the rows where the search has rebuilt them already, ``[N, D]``; None where it has not."""
    if kept.mean_weight is None or kept.inverse_length is None:
        return None
    own = (upstream.target_score * kept.inverse_length[target]).unsqueeze(1)
    gradient = kept.mean_weight * scale
    return gradient.addcmul_(weight.index_select(0, target).to(gradient.dtype), own)


def _add_lengths(gradient: Tensor, weight: Tensor, target: Tensor, terms: RivalTerms, upstream: RivalTerms) -> None:
    """Add what comes through ‖w_y‖, for a linear classifier."""
    tiny = torch.finfo(terms.target_length.dtype).tiny
    through = (upstream.target_length / terms.target_length.clamp_min(tiny)).unsqueeze(1)
    own = weight.index_select(0, target).to(through.dtype).mul_(through)
    gradient.index_add_(0, target, own.to(gradient.dtype))


def _of_given_rows(gradient: Tensor, unit_rows: Tensor, given: Tensor) -> Tensor:
    """From the gradient of unit rows to that of the rows as they were given; of a zero row zero."""
    rows = given.to(gradient.dtype)
    inverse = torch.where(unit_rows.any(dim=1), length(rows).reciprocal(), 0.0)
    return (gradient * inverse.unsqueeze(1)).to(given.dtype)
