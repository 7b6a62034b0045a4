"""Squared error with a weight and a value for the target class."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from .reduction import sample_weight
from .targets import is_soft


def squared_error(
    logits: Tensor,
    target: Tensor,
    class_weight: Tensor | None = None,
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
        class_weight: positive factor a class, shape ``[C]``. The whole loss of a sample is multiplied by the
            weight of its class (of a soft target: by Σ t_k w_k).
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
    one_hot = target if is_soft(target) else F.one_hot(target, num_classes).to(logits.dtype)
    of_target = target_weight * one_hot * (logits - target_value).square()
    of_rivals = (1 - one_hot) * logits.square()
    loss = (of_target + of_rivals).sum(dim=-1) / num_classes
    return loss if class_weight is None else loss * sample_weight(target, class_weight)
