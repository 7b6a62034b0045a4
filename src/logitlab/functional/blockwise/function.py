"""``blockwise_rival_terms``: the fused step without a look at values, for classes on one device or on many."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from logitlab.config.errors import InputError

from ..at_hand import is_batched
from ..least_squares.search import Chosen
from ..precision import autocast_off
from ..rival_formula import gradients_by_formula
from ..rival_gradients import Wanted
from ..rival_terms import Classifier, KappaSearch, RivalTerms
from .backward import backward_terms
from .forward import Placement, forward_terms
from .ranks import Ranks


def blockwise_rival_terms(
    features: Tensor,
    weight: Tensor,
    target: Tensor | Placement,
    kappa: Tensor | None = None,
    bias: Tensor | None = None,
    classifier: Classifier = "cosine",
    search: KappaSearch | None = None,
    *,
    refine: bool = False,
    ranks: Ranks | None = None,
) -> tuple[RivalTerms, Chosen | None]:
    r"""``rival_terms`` as a fixed sequence of matrix products and small kernels over blocks of classes.

    .. math:: r = \log \sum_{c \ne y} e^{\kappa z_c + b_c}, \qquad z_y, \qquad \|\mathbf w_y\|

    No step depends on values, so that a GPU never waits for the host and a CUDA graph can hold it all; and each sum
    over the classes is one over blocks first and over ranks then, so that the classes may be split over a process
    group. Every rank calls it with samples of its own, as many on each, and gets the terms of these. The gradients are
    those of the sum over all ranks of what each makes of its terms; that of a κ which the ranks share is this rank's
    part of it.

    Products are taken in bfloat16 where features and weight are given so, and added up in float32; what decides κ is
    float32 at least.

    Args:
        features: x, any floating dtype, ``[n, D]``, n >= 1, the same n on every rank.
        weight: W of the classes here, ``[c, D]``; two classes or more over all ranks. Rows shorter than 1e-15 count as
            zero.
        target: class indices ``[n]`` where one process has all classes; otherwise a ``Placement``.
        kappa: κ > 0, a scalar (the same on every rank) or ``[n]``; None for 1, or with ``search``.
        bias: b of the classes here, ``[c]``, float32 at least; None for none.
        classifier: ``"cosine"``: z = x̃·w̃; ``"unit_weight"``: x·w̃; ``"linear"``: x·w.
        search: find κ of each sample by least squares (cosines only), detached. Its energy knows no bias, and
            refers to the classes over which is summed.
        refine: with ``search``: a golden section between the neighbours of the best candidate.
        ranks: that share the classes; None for one process.

    Returns:
        The terms, and what the search has chosen (without its multiplier) or None. Where values are not at hand the
        search has a fixed length; what it could not decide is not ``certified``.

    Raises:
        RankError: another rank is gone.
        InputError: a second derivative is asked for across ranks.

    References:
        T Eqs. (1), (2), (10), (11), §3.4.1.

    >>> terms, _ = blockwise_rival_terms(
    ...     torch.tensor([[2.0, 0.0]]), torch.eye(2), torch.tensor([0]), torch.tensor(3.0)
    ... )
    >>> terms.rivals, terms.target_score
    (tensor([0.]), tensor([1.]))
    """
    ranks = Ranks() if ranks is None else ranks
    if isinstance(target, Placement):
        placement = target
    else:
        owner = torch.where((target >= 0) & (target < len(weight)), 0, -1)
        placement = Placement(target, owner, len(weight))
    with autocast_off(features.device):
        *terms, kappa_star, certified, method = _BlockwiseTerms.apply(
            features, weight, kappa, bias, placement, classifier, search, refine, ranks
        )
    return RivalTerms(*terms), None if kappa_star is None else Chosen(kappa_star, certified, method)


class _BlockwiseTerms(torch.autograd.Function):
    """The three terms, and what a search has found."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        kappa: Tensor | None,
        bias: Tensor | None,
        placement: Placement,
        classifier: Classifier,
        search: KappaSearch | None,
        refine: bool,
        ranks: Ranks,
    ) -> tuple[Any, ...]:
        terms, kept, chosen = forward_terms(features, weight, kappa, bias, placement, classifier, search, refine, ranks)
        if search is not None and chosen is not None:
            kappa = chosen.kappa * search.multiplier
        # What is large goes by way of autograd, which frees it after the backward pass.
        ctx.save_for_backward(features, weight, kappa, bias, *kept.scores.release())
        ctx.kept, ctx.terms = kept, RivalTerms(*(term.detach() for term in terms))
        ctx.placement, ctx.classifier, ctx.ranks = placement, classifier, ranks
        if chosen is None:
            return (*terms, None, None, None)
        ctx.mark_non_differentiable(chosen.kappa, chosen.certified)
        return (*terms, *chosen)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        features, weight, kappa, bias, operand, *products = ctx.saved_tensors
        upstream = RivalTerms(*gradients[:3])
        wanted = Wanted(*ctx.needs_input_grad[:4])
        with autocast_off(features.device):
            if torch.is_grad_enabled() or any(map(is_batched, upstream)):
                if ctx.ranks.size > 1:
                    raise InputError(
                        "Where the classes are split over ranks there is a first derivative only. Got a backward pass "
                        "that is to be differentiated (create_graph=True) or batched."
                    )
                found = gradients_by_formula(
                    features, weight, kappa, bias, ctx.placement.column, ctx.classifier, upstream
                )
                return (*(part if asked else None for part, asked in zip(found, wanted)), *(None,) * 5)
            ctx.kept.scores.restore(weight, operand, products)
            result = backward_terms(
                weight, kappa, ctx.placement, ctx.classifier, ctx.terms, ctx.kept, upstream, wanted, ctx.ranks
            )
            ctx.kept.scores.release()
        of_kappa = result.kappa
        if of_kappa is not None and kappa.ndim == 0:
            of_kappa = of_kappa.sum()
        of_features = None if result.features is None else result.features.to(features.dtype)
        return of_features, result.weight, of_kappa, result.bias, *(None,) * 5
