"""What W adds to a loss or does to the logits before it."""

from __future__ import annotations

import torch
from torch import Tensor

from .normalization import normalize


def uniform_target(logits: Tensor) -> Tensor:
    """The uniform distribution over the classes, in the shape and dtype of the logits.

    >>> uniform_target(torch.zeros(1, 4))
    tensor([[0.2500, 0.2500, 0.2500, 0.2500]])
    """
    return torch.full_like(logits, 1 / logits.shape[-1])


def logit_penalty(logits: Tensor, beta: float) -> Tensor:
    r"""Squared length of the logits.

    .. math:: \beta \|\ell\|^2

    The code that W's authors published has β/2 instead; halve ``beta`` to reproduce it.

    Args:
        logits: shape ``[..., C]``.
        beta: β, at least 0.

    Returns:
        Penalty, shape ``[...]``.

    References:
        W Eq. (5), second term.

    >>> logit_penalty(torch.tensor([[3.0, 4.0]]), beta=0.1)
    tensor([2.5000])
    """
    return beta * logits.square().sum(dim=-1)


def normalize_logits(logits: Tensor) -> Tensor:
    r"""Logits of unit length; a temperature scales them afterwards.

    .. math:: \ell / \|\ell\|

    Args:
        logits: shape ``[..., C]``.

    Returns:
        Shape ``[..., C]``; zero logits stay zero and get a zero gradient.

    References:
        W Eq. (6).

    >>> normalize_logits(torch.tensor([[3.0, 4.0]]))
    tensor([[0.6000, 0.8000]])
    """
    return normalize(logits)


def weight_penalty(weight: Tensor, coefficient: float) -> Tensor:
    r"""Extra L2 penalty on the weight of the last layer (not on its bias).

    .. math:: \tfrac{\lambda_\text{final}}{2} \|\mathbf W\|_F^2

    Args:
        weight: shape ``[C, D]``.
        coefficient: λ_final, at least 0.

    Returns:
        A scalar.

    References:
        W §2, "Extra final layer L2 regularization".

    >>> weight_penalty(torch.ones(2, 3), 0.1)
    tensor(0.3000)
    """
    return 0.5 * coefficient * weight.square().sum()
