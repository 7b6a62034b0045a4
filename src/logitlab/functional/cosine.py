"""Cosines of features to the weight of each class, and the unit vectors that they are products of."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from .at_hand import by_hand, gradient_of
from .normalization import away_from_row, normalize, normalize_any, ordinary_lengths
from .precision import at_least_float32, autocast_off

_FEW_CLASSES = 128


def cosine_similarity(features: Tensor, weight: Tensor) -> Tensor:
    r"""Cosine of each feature vector to each row of the weight.

    .. math:: z_c = \tilde{\mathbf x}^\top \tilde{\mathbf w}_c

    Args:
        features: shape ``[..., D]``.
        weight: one row a class, shape ``[C, D]``.

    Returns:
        Cosines in [-1, 1] up to rounding, shape ``[..., C]``, float32 at least. A zero row has cosine zero.

    References:
        T Eq. (1), W Eq. (7).

    >>> cosine_similarity(torch.tensor([[2.0, 0.0]]), torch.tensor([[5.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]))
    tensor([[ 1.,  0., -1.]])
    """
    return cosine_with_units(features, weight)[0]


def cosine_with_units(features: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``cosine_similarity``, with the unit vectors beside it; gradients flow through all three.

    In eager mode on the CPU, where all rows have an ordinary length, the three have one backward pass, which writes
    the gradients of the features and of the weight where the matrix products leave them.

    Args:
        features: shape ``[..., D]``.
        weight: one row a class, shape ``[C, D]``.

    Returns:
        Cosines ``[..., C]``, unit features ``[..., D]`` and unit weight ``[C, D]``, as ``normalize`` gives them.

    >>> _, unit_features, unit_weight = cosine_with_units(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 2.0]]))
    >>> unit_features, unit_weight
    (tensor([[0.6000, 0.8000]]), tensor([[0., 1.]]))
    """
    dtype = at_least_float32(features, weight)
    features, weight = features.to(dtype), weight.to(dtype)
    with autocast_off(features.device):
        lengths = of_classes = None
        if torch.is_grad_enabled() and (features.requires_grad or weight.requires_grad) and by_hand(features, weight):
            lengths, of_classes = ordinary_lengths(features), ordinary_lengths(weight)
        if lengths is None or of_classes is None:
            unit_features, unit_weight = normalize(features), normalize(weight)
            return F.linear(unit_features, unit_weight), unit_features, unit_weight
        found = _CosineWithUnits.apply(features, weight, lengths, of_classes)
        return cast(tuple[Tensor, Tensor, Tensor], found)


def cosine_of_any(features: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``cosine_with_units`` in plain operations, for rows of any length.

    Args:
        features: float32 or float64, shape ``[..., D]``.
        weight: of the same dtype, shape ``[C, D]``.

    Returns:
        Cosines ``[..., C]``, unit features ``[..., D]`` and unit weight ``[C, D]``.

    >>> cosine_of_any(torch.tensor([[3e38, 0.0]]), torch.tensor([[1e-9, 0.0], [0.0, 0.0]]))[0]
    tensor([[1., 0.]])
    """
    with autocast_off(features.device):
        unit_features, unit_weight = normalize_any(features), normalize_any(weight)
        return F.linear(unit_features, unit_weight), unit_features, unit_weight


class _CosineWithUnits(torch.autograd.Function):
    r"""z = x̃·w̃ with the backward pass in one new tensor an argument; further derivatives are the plain formula's.

    .. math:: \partial L / \partial \mathbf x_b = \frac{1}{\|\mathbf x_b\|}
        \Big(\sum_c g_{bc} \tilde{\mathbf w}_c - \sum_c g_{bc} z_{bc} \tilde{\mathbf x}_b\Big)

    and likewise for the weight, with sums over the samples. The part along the row is read off the cosines, which are
    fewer than the features.
    """

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, lengths: Tensor, of_classes: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        unit_features, unit_weight = features / lengths, weight / of_classes
        cosine = _product(unit_features, unit_weight)
        ctx.save_for_backward(features, weight, unit_features, unit_weight, lengths, of_classes, cosine)
        ctx.set_materialize_grads(False)
        if not ctx.needs_input_grad[0]:
            ctx.mark_non_differentiable(unit_features)
        if not ctx.needs_input_grad[1]:
            ctx.mark_non_differentiable(unit_weight)
        return cosine, unit_features, unit_weight

    @staticmethod
    def backward(
        ctx: Any, upstream: Tensor | None, of_unit_features: Tensor | None, of_unit_weight: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        features, weight, unit_features, unit_weight, lengths, of_classes, cosine = ctx.saved_tensors
        if torch.is_grad_enabled():
            all_upstream = (upstream, of_unit_features, of_unit_weight)
            return *gradient_of(cosine_of_any, (features, weight), all_upstream), None, None
        of_features = of_weight = None
        with autocast_off(features.device):
            aligned = None if upstream is None else upstream * cosine
            if ctx.needs_input_grad[0]:
                if upstream is not None and aligned is not None:
                    along = aligned.sum(dim=-1, keepdim=True).div_(lengths)
                    of_features = ((upstream / lengths) @ unit_weight).addcmul_(unit_features, along, value=-1)
                of_features = _with_direct(of_features, of_unit_features, unit_features, lengths)
            if ctx.needs_input_grad[1]:
                if upstream is not None and aligned is not None:
                    num_classes, length = weight.shape
                    along = aligned.reshape(-1, num_classes).sum(dim=0).unsqueeze(-1).div_(of_classes)
                    scaled = (upstream / of_classes.T).reshape(-1, num_classes)
                    of_weight = (scaled.T @ unit_features.reshape(-1, length)).addcmul_(unit_weight, along, value=-1)
                of_weight = _with_direct(of_weight, of_unit_weight, unit_weight, of_classes)
        return of_features, of_weight, None, None


def _product(unit_features: Tensor, unit_weight: Tensor) -> Tensor:
    """``F.linear``, for few classes by way of its transpose where that is faster."""
    num_classes, length = unit_weight.shape
    # A matrix with 10 or 101 columns takes libraries of linear algebra up to twice as long as one with as many rows.
    if num_classes > _FEW_CLASSES or num_classes % 4 == 0:
        return F.linear(unit_features, unit_weight)
    cosine = F.linear(unit_weight, unit_features.reshape(-1, length)).T
    return cosine.contiguous().reshape(*unit_features.shape[:-1], num_classes)


def _with_direct(found: Tensor | None, direct: Tensor | None, unit: Tensor, lengths: Tensor) -> Tensor | None:
    """Add the gradient that reaches rows through their unit vectors, where something but the cosines used these."""
    if direct is None:
        return found
    own = away_from_row(direct / lengths, unit)
    return own if found is None else found + own
