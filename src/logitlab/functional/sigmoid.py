"""Sigmoid cross-entropy: one-versus-rest on every class."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from .targets import is_soft


def sigmoid_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    r"""Sum over the classes of the binary cross-entropy of each logit.

    .. math:: L = -\sum_k \left( t_k \log \sigma(\ell_k) + (1 - t_k) \log(1 - \sigma(\ell_k)) \right)

    Summed over the classes, not averaged, as in W. Start the bias at -log C (``Head`` does).

    Args:
        logits: shape ``[..., C]``.
        target: class indices, int64, shape ``[...]``; or probabilities, shape ``[..., C]``.

    Returns:
        Loss in nats, shape ``[...]``.

    References:
        W Eqs. (8) and (9).

    >>> import torch
    >>> sigmoid_cross_entropy(torch.zeros(1, 3), torch.tensor([1]))  # three times log 2
    tensor([2.0794])
    """
    if is_soft(target):
        return F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(dim=-1)
    # log(1 - σ(ℓ)) = log σ(-ℓ): turn the sign of the rivals.
    index = target.unsqueeze(-1)
    signed = (-logits).scatter(-1, index, logits.gather(-1, index))
    return -F.logsigmoid(signed).sum(dim=-1)


def normalized_sigmoid(logits: Tensor) -> Tensor:
    r"""Probabilities of a sigmoid head, made to add up to one.

    .. math:: p_k = \sigma(\ell_k) / \sum_j \sigma(\ell_j)

    Args:
        logits: shape ``[..., C]``.

    Returns:
        Probabilities, shape ``[..., C]``.

    References:
        W Table 3 (caption).

    >>> import torch
    >>> normalized_sigmoid(torch.tensor([[-200.0, -200.0]]))  # in logarithms, so nothing underflows
    tensor([[0.5000, 0.5000]])
    """
    return F.softmax(F.logsigmoid(logits), dim=-1)
