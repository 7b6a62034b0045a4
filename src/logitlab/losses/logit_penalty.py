"""A penalty on the length of the logits around any loss."""

from __future__ import annotations

from torch import Tensor

from logitlab.config.errors import ParameterError
from logitlab.config.parameters import Range
from logitlab.functional import logit_penalty, sample_weight

from .base import Link, Loss
from .softmax import SoftmaxCrossEntropy

BETA = Range(0)


class LogitPenalty(Loss):
    r"""Add β‖ℓ‖² to a loss: W Eq. (5). See ``functional.logit_penalty``.

    Args:
        beta: β, at least 0.
        loss: what the penalty is added to; softmax cross-entropy by default.

    Raises:
        ParameterError: β below 0.

    >>> import torch
    >>> LogitPenalty(beta=0.5)(torch.tensor([[2.0, 2.0]]), torch.tensor([0]))  # log 2 + 4
    tensor(4.6931)
    """

    def __init__(self, beta: float = 6e-4, loss: Loss | None = None) -> None:
        super().__init__()
        fault = BETA.fault("LogitPenalty", "beta", beta)
        if fault:
            raise ParameterError(fault)
        self.beta = beta
        self.loss = SoftmaxCrossEntropy() if loss is None else loss
        self.link: Link = self.loss.link
        self.soft_targets = self.loss.soft_targets
        self.weights_classes = self.loss.weights_classes

    def per_sample(self, logits: Tensor, target: Tensor, class_weight: Tensor | None = None) -> Tensor:
        """Loss of each sample; the penalty carries the weight of the sample. See ``Loss.per_sample``."""
        return self.loss.per_sample(logits, target, class_weight) + self._penalty(logits, target, class_weight)

    def per_sample_of_target(
        self, logits: Tensor, bent: Tensor, target: Tensor, class_weight: Tensor | None = None
    ) -> Tensor:
        """Loss of each sample under a margin; the penalty is on the logits without it. See ``Loss``."""
        loss = self.loss.per_sample_of_target(logits, bent, target, class_weight)
        return loss + self._penalty(logits, target, class_weight)

    def _penalty(self, logits: Tensor, target: Tensor, class_weight: Tensor | None) -> Tensor:
        penalty = logit_penalty(logits, self.beta)
        return penalty if class_weight is None else penalty * sample_weight(target, class_weight)

    def extra_repr(self) -> str:
        """Show β."""
        return f"beta={self.beta}"
