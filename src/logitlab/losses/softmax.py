"""Softmax cross-entropy as a module."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from logitlab.functional import all_rivals_logsumexp, softmax_cross_entropy

from .base import Link, Loss


class SoftmaxCrossEntropy(Loss):
    """Cross-entropy with softmax: W Eq. (1), T Eq. (2). See ``functional.softmax_cross_entropy``.

    >>> import torch
    >>> SoftmaxCrossEntropy()(torch.zeros(2, 4), torch.tensor([0, 3]))  # log 4
    tensor(1.3863)
    """

    link: Link = "softmax"
    weights_classes = True  # as torch does: every term of a soft target by the weight of its class
    of_gap = True

    def per_sample(self, logits: Tensor, target: Tensor, class_weight: Tensor | None = None) -> Tensor:
        """Loss of each sample in nats; see ``Loss.per_sample``."""
        return softmax_cross_entropy(logits, target, class_weight)

    def per_sample_of_gap(self, gap: Tensor) -> Tensor:
        """softplus(r - ℓ_y), in nats; see ``Loss.per_sample_of_gap``."""
        # torch's softplus is cut off at 20; logsigmoid is exact everywhere.
        return -F.logsigmoid(-gap)

    def per_sample_with_margin(
        self, logits: Tensor, target: Tensor, target_logits: Tensor, class_weight: Tensor | None = None
    ) -> Tensor:
        """Σ_k t_k softplus(r_k - φ_k), in nats: equal to the class index for a one-hot row. See ``Loss``."""
        if class_weight is not None:
            target = target * class_weight
        return -(target * F.logsigmoid(target_logits - all_rivals_logsumexp(logits))).sum(dim=-1)
