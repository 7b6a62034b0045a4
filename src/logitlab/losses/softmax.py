"""Softmax cross-entropy as a module."""

from __future__ import annotations

from torch import Tensor

from logitlab.functional import softmax_cross_entropy

from .base import Link, Loss


class SoftmaxCrossEntropy(Loss):
    """Cross-entropy with softmax: W Eq. (1), T Eq. (2). See ``functional.softmax_cross_entropy``.

    >>> import torch
    >>> SoftmaxCrossEntropy()(torch.zeros(2, 4), torch.tensor([0, 3]))  # log 4
    tensor(1.3863)
    """

    link: Link = "softmax"
    weights_classes = True  # as torch does: every term of a soft target by the weight of its class

    def per_sample(self, logits: Tensor, target: Tensor, class_weight: Tensor | None = None) -> Tensor:
        """Loss of each sample in nats; see ``Loss.per_sample``."""
        return softmax_cross_entropy(logits, target, class_weight)
