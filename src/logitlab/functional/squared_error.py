"""Squared error with a weight and a value for the target class."""

from __future__ import annotations

import torch
from torch import Tensor

from .targets import is_soft


def squared_error(
    logits: Tensor,
    target: Tensor,
    *,
    target_weight: float,
    target_value: float,
) -> Tensor:
    r"""Mean over the classes of weighted squared differences.

    .. math:: L = \frac1K \sum_k \left( \kappa t_k (\ell_k - M)^2 + (1 - t_k) \ell_k^2 \right)

    W's κ and M are ``target_weight`` and ``target_value`` here, because in this library κ always means the
    inverse temperature. The code that W's authors published lacks the factor 1/K; multiply ``loss_scale``
    by C to reproduce it.

    Args:
        logits: shape ``[..., C]``.
        target: class indices, int64, shape ``[...]``; or probabilities, shape ``[..., C]``.
        target_weight: W's κ, positive: weight of the target class relative to a rival.
        target_value: W's M, positive: the logit that the target class is drawn to.

    Returns:
        Loss, shape ``[...]``.

    References:
        W Eq. (10), after Hui & Belkin (2020).

    >>> import torch
    >>> squared_error(torch.tensor([[1.0, 2.0]]), torch.tensor([0]), target_weight=9.0, target_value=3.0)
    tensor([20.])
    """
    num_classes = logits.shape[-1]
    # Scattered, for torch's one_hot reads the largest target, which fails under vmap.
    one_hot = target if is_soft(target) else torch.zeros_like(logits).scatter(-1, target.unsqueeze(-1), 1.0)
    of_target = target_weight * one_hot * (logits - target_value).square()
    of_rivals = (1 - one_hot) * logits.square()
    return (of_target + of_rivals).sum(dim=-1) / num_classes
