"""Focal loss as a module."""

from __future__ import annotations

from torch import Tensor

from logitlab.config.errors import ParameterError
from logitlab.config.parameters import Range
from logitlab.functional import all_rivals_logsumexp, focal_loss, focal_of_gap

from .base import Link, Loss

GAMMA = Range(0)


class FocalLoss(Loss):
    """Cross-entropy times (1 - p)^γ: what is nearly right counts little. See ``functional.focal_loss``.

    It trains p away from the true probability: the best p for a class that occurs with probability 0.9 is below 0.9.
    A class weight is the paper's α_t, and divides the mean as in every loss here.

    Args:
        gamma: γ >= 0; 0 is softmax cross-entropy.

    Raises:
        ParameterError: γ below 0.

    References:
        Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, Eqs. (4), (5); γ = 2 was best there.

    >>> import torch
    >>> FocalLoss(gamma=1.0)(torch.zeros(1, 4), torch.tensor([2]))  # 3/4 log 4
    tensor(1.0397)
    """

    link: Link = "softmax"
    weights_classes = True  # every term of a soft target by the weight of its class, as softmax has it

    of_gap = True

    def __init__(self, gamma: float = 2.0) -> None:
        super().__init__()
        fault = GAMMA.fault("FocalLoss", "gamma", gamma)
        if fault:
            raise ParameterError(fault)
        self.gamma = float(gamma)

    def per_sample(self, logits: Tensor, target: Tensor, class_weight: Tensor | None = None) -> Tensor:
        """Loss of each sample in nats; see ``Loss.per_sample``."""
        return focal_loss(logits, target, self.gamma, class_weight)

    def per_sample_of_gap(self, gap: Tensor) -> Tensor:
        """See ``functional.focal_of_gap`` and ``Loss.per_sample_of_gap``."""
        return focal_of_gap(gap, self.gamma)

    def per_sample_with_margin(
        self, logits: Tensor, target: Tensor, target_logits: Tensor, class_weight: Tensor | None = None
    ) -> Tensor:
        """Σ_k t_k FL(r_k - φ_k): equal to the class index for a one-hot row. See ``Loss``."""
        if class_weight is not None:
            target = target * class_weight
        return (target * focal_of_gap(all_rivals_logsumexp(logits) - target_logits, self.gamma)).sum(dim=-1)

    def extra_repr(self) -> str:
        """Show γ."""
        return f"gamma={self.gamma:g}"
