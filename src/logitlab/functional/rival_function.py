"""``rival_terms``: the fast version as one differentiable operation, in eager mode and under torch.compile."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .at_hand import is_batched
from .blockwise.function import blockwise_rival_terms
from .least_squares.search import Chosen
from .precision import autocast_off
from .rival_formula import gradients_by_formula
from .rival_gradients import Wanted, rival_gradients
from .rival_operator import compiled_rival_terms
from .rival_terms import Classifier, KappaSearch, Kept, RivalTerms, forward_rival_terms


def rival_terms(
    features: Tensor,
    weight: Tensor,
    target: Tensor,
    kappa: Tensor | None = None,
    bias: Tensor | None = None,
    classifier: Classifier = "cosine",
    search: KappaSearch | None = None,
) -> tuple[RivalTerms, Chosen | None]:
    r"""What every softmax loss on class indices is made of, computed a block of classes at a time.

    .. math:: r = \log \sum_{c \ne y} e^{\kappa z_c + b_c}, \qquad z_y, \qquad \|\mathbf w_y\|

    Equal to ``plain_rival_terms`` up to rounding, with gradients of features, weight, κ and bias for any gradients of
    the terms: a loss with a margin, a class weight or any reduction is made of them by ordinary autograd. Beside the
    inputs and their gradients it holds the N x C scores, once. A second derivative goes through the plain formulas.
    On a GPU it is ``blockwise_rival_terms``, which never waits for the device.

    Args:
        features: x, float32 or float64, ``[N, D]``, N >= 1.
        weight: W, ``[C, D]``, any floating dtype, C >= 2.
        target: class indices y in [0, C), int64 ``[N]``.
        kappa: κ > 0, a scalar or ``[N]``; None for 1, or with ``search``.
        bias: b, ``[C]``, of the dtype of the features; None for none.
        classifier: ``"cosine"``: z = x̃·w̃; ``"unit_weight"``: x·w̃; ``"linear"``: x·w.
        search: find κ of each sample by least squares (cosines only), detached. Its energy knows no bias.

    Returns:
        The terms, and what the search has chosen (without its multiplier) or None.

    References:
        T Eqs. (1), (2), §3.4.1 (κ from the cosines without the margin).

    >>> terms, _ = rival_terms(torch.tensor([[2.0, 0.0]]), torch.eye(2), torch.tensor([0]), torch.tensor(3.0))
    >>> terms.rivals, terms.target_score
    (tensor([0.]), tensor([1.]))
    """
    with autocast_off(features.device):
        if features.is_cuda and not torch.compiler.is_compiling():
            return blockwise_rival_terms(features, weight, target, kappa, bias, classifier, search)
        if torch.compiler.is_compiling():
            return compiled_rival_terms(features, weight, target, kappa, bias, classifier, search)
        *terms, kappa_star, certified, method = _RivalTerms.apply(
            features, weight, kappa, bias, target, classifier, search
        )
    return RivalTerms(*terms), None if kappa_star is None else Chosen(kappa_star, certified, method)


class _RivalTerms(torch.autograd.Function):
    """The three terms, and what a search has found."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        kappa: Tensor | None,
        bias: Tensor | None,
        target: Tensor,
        classifier: Classifier,
        search: KappaSearch | None,
    ) -> tuple[Any, ...]:
        terms, kept, chosen = forward_rival_terms(features, weight, target, kappa, bias, classifier, search)
        if search is not None and chosen is not None:
            kappa = chosen.kappa * search.multiplier
        ctx.save_for_backward(features, weight, kappa, bias, target, *terms, *kept)
        ctx.classifier = classifier
        if chosen is None:
            return (*terms, None, None, None)
        ctx.mark_non_differentiable(chosen.kappa, chosen.certified)
        return (*terms, *chosen)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        features, weight, kappa, bias, target, *rest = ctx.saved_tensors
        terms, kept = RivalTerms(*rest[:3]), Kept(*rest[3:])
        upstream = RivalTerms(*gradients[:3])
        wanted = Wanted(*ctx.needs_input_grad[:4])
        with autocast_off(features.device):
            if torch.is_grad_enabled() or any(map(is_batched, upstream)):
                # create_graph=True, or many gradients at once: the plain formulas, which autograd can go through again.
                found = gradients_by_formula(features, weight, kappa, bias, target, ctx.classifier, upstream)
                return (*(part if asked else None for part, asked in zip(found, wanted)), None, None, None)
            result = rival_gradients(weight, target, kappa, bias, terms, kept, upstream, wanted)
        of_kappa = result.kappa
        if of_kappa is not None and kappa.ndim == 0:
            of_kappa = of_kappa.sum()
        return result.features, result.weight, of_kappa, result.bias, None, None, None
