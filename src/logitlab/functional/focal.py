"""Focal loss: cross-entropy that turns away from what is right already."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .cross_entropy import all_rivals_logsumexp, rival_logsumexp
from .reduction import sample_weight
from .targets import is_soft


def focal_loss(logits: Tensor, target: Tensor, gamma: float = 2.0, class_weight: Tensor | None = None) -> Tensor:
    r"""Cross-entropy times a power of the probability that is missing.

    .. math:: L = -\sum_k t_k (1 - p_k)^\gamma \log p_k, \qquad p = \operatorname{softmax}(\ell)

    With γ = 0 this is softmax cross-entropy. The paper has two classes and a sigmoid; softmax is its usual form for
    several. For probabilities t each class costs what it would as the target, times its probability: linear in t.

    Args:
        logits: shape ``[..., C]``.
        target: class indices, int64, shape ``[...]``; or probabilities, shape ``[..., C]``.
        gamma: γ >= 0.
        class_weight: positive factor a class, shape ``[C]``, on each term of the sum: the paper's α_t.

    Returns:
        Loss in nats, shape ``[...]``; never reduced here.

    References:
        Lin, Goyal, Girshick, He and Dollár, Focal Loss for Dense Object Detection, ICCV 2017, Eqs. (4), (5).

    >>> focal_loss(torch.zeros(1, 2), torch.tensor([0]))  # (1/2)² log 2
    tensor([0.1733])
    """
    if is_soft(target):
        weighted = target if class_weight is None else target * class_weight
        return (weighted * focal_of_gap(all_rivals_logsumexp(logits) - logits, gamma)).sum(dim=-1)
    target_logit = logits.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    loss = focal_of_gap(rival_logsumexp(logits, target) - target_logit, gamma)
    return loss if class_weight is None else loss * sample_weight(target, class_weight)


def focal_of_gap(gap: Tensor, gamma: float) -> Tensor:
    r"""Focal loss of a class whose rivals lead by a gap.

    .. math:: (1 - p)^\gamma (-\log p), \qquad 1 - p = \operatorname{sigmoid}(r - \ell)

    Args:
        gap: r - ℓ, the log-sum-exp of the rivals less the logit of the class; any shape.
        gamma: γ >= 0.

    Returns:
        The shape of ``gap``.

    >>> focal_of_gap(torch.tensor([-30.0]), gamma=2.0)  # (1 - p)² and -log p are both e^-30 in size
    tensor([8.1940e-40])
    """
    # Both factors from the gap: 1 - p cancels where p is near one, and a power of zero has no slope for γ < 1.
    return torch.exp(gamma * F.logsigmoid(gap)) * -F.logsigmoid(-gap)
