"""The gradients of ``rival_terms`` by the plain formulas, which autograd can go through again."""

from __future__ import annotations

import torch
from torch import Tensor

from .at_hand import gradient_of
from .rival_terms import Classifier, RivalTerms, plain_rival_terms


def gradients_by_formula(
    features: Tensor,
    weight: Tensor,
    kappa: Tensor | None,
    bias: Tensor | None,
    target: Tensor,
    classifier: Classifier,
    upstream: RivalTerms,
) -> list[Tensor | None]:
    """Gradients of features, weight, κ and bias, where they are there and need one.

    Args:
        features: as ``rival_terms`` takes them, and the rest too.
        weight: ``[C, D]``.
        kappa: a scalar or ``[N]``, or None.
        bias: ``[C]``, or None.
        target: class indices, ``[N]``.
        classifier: what the scores are.
        upstream: gradients of the terms.
    """
    given = (features, weight, kappa, bias)
    present = tuple(tensor for tensor in given if tensor is not None)

    def formula(*tensors: Tensor) -> RivalTerms:
        each = iter(tensors)
        features, weight, kappa, bias = (None if tensor is None else next(each) for tensor in given)
        assert features is not None
        assert weight is not None
        wide = torch.promote_types(torch.promote_types(features.dtype, weight.dtype), torch.float32)
        return plain_rival_terms(features.to(wide), weight, target, kappa, bias, classifier)

    # Only a linear classifier has the length of its target's row from the weight.
    reaching = upstream if classifier == "linear" else (*upstream[:2], None)
    found = iter(gradient_of(formula, present, tuple(reaching)))
    return [None if tensor is None else next(found) for tensor in given]
