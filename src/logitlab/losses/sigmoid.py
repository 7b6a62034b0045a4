"""Sigmoid cross-entropy as a module."""

from __future__ import annotations

from torch import Tensor

from logitlab.functional import sigmoid_cross_entropy

from .base import Link, Loss


class SigmoidCrossEntropy(Loss):
    """One-versus-rest cross-entropy, summed over the classes: W Eqs. (8), (9).

    See ``functional.sigmoid_cross_entropy``. Probabilities are the sigmoids divided by their sum (W Table 3).

    >>> import torch
    >>> SigmoidCrossEntropy()(torch.zeros(1, 3), torch.tensor([1]))  # three times log 2
    tensor(2.0794)
    """

    link: Link = "normalized_sigmoid"

    def per_sample(self, logits: Tensor, target: Tensor, class_weight: Tensor | None = None) -> Tensor:
        """Loss of each sample in nats; see ``Loss.per_sample``."""
        return sigmoid_cross_entropy(logits, target)
