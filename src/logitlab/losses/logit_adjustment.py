"""Logit adjustment around a loss: training by class frequencies, prediction without them."""

from __future__ import annotations

import torch
from torch import Tensor

from logitlab.config.errors import InputError, ParameterError
from logitlab.config.parameters import Range
from logitlab.functional import adjust_logits, log_prior
from logitlab.functional.long_tail import ClassCounts, class_counts_fault

from .base import Link, Loss
from .softmax import SoftmaxCrossEntropy

ADJUSTMENT = Range(0)


class LogitAdjustment(Loss):
    """Take the loss of ℓ + τ log π in place of the logits ℓ, where π are the shares of the classes in training.

    The plain ℓ, by which one predicts, then rank the classes for the balanced error, in which every class counts
    alike; their probabilities are those of balanced data. With equal counts, or none, this is the loss inside.

    Args:
        class_counts: training samples of each class, positive, C of them; None for equally many.
        adjustment: τ >= 0; the paper's choice is 1.
        loss: of link ``"softmax"``; softmax cross-entropy by default.

    Attributes:
        log_prior: log π, ``[C]``, saved with the model; None for equal counts.

    Raises:
        ParameterError: every fault at once.

    References:
        Menon et al., Long-tail learning via logit adjustment, ICLR 2021, Eq. (10).

    >>> loss = LogitAdjustment([3, 1])
    >>> loss(torch.zeros(2, 2), torch.tensor([0, 1]), reduction="none").neg().exp()
    tensor([0.7500, 0.2500])
    """

    log_prior: Tensor | None

    def __init__(
        self, class_counts: ClassCounts | None = None, adjustment: float = 1.0, loss: Loss | None = None
    ) -> None:
        super().__init__()
        loss = SoftmaxCrossEntropy() if loss is None else loss
        faults = [
            None if class_counts is None else class_counts_fault("LogitAdjustment", class_counts),
            ADJUSTMENT.fault("LogitAdjustment", "adjustment", adjustment),
            None if loss.link == "softmax" else not_softmax(type(loss).__name__),
        ]
        if any(faults):
            raise ParameterError([fault for fault in faults if fault])
        self.adjustment = float(adjustment)
        self.loss = loss
        self.link: Link = loss.link
        self.soft_targets = loss.soft_targets
        self.weights_classes = loss.weights_classes
        # Configuration keeps its digits; the buffer follows the device and the precision of the model.
        self._prior = None if class_counts is None else tuple(log_prior(class_counts).tolist())
        self.register_buffer("log_prior", None if self._prior is None else torch.empty(len(self._prior), device="cpu"))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Take the shares again; also what ``to_empty`` needs after building on the meta device."""
        if self.log_prior is not None:
            self.log_prior.copy_(torch.tensor(self._prior, dtype=torch.float64, device="cpu"))

    def per_sample(self, logits: Tensor, target: Tensor, class_weight: Tensor | None = None) -> Tensor:
        """Loss of each sample, of adjusted logits; see ``Loss.per_sample``."""
        return self.loss.per_sample(self._adjusted(logits), target, class_weight)

    def per_sample_with_margin(
        self, logits: Tensor, target: Tensor, target_logits: Tensor, class_weight: Tensor | None = None
    ) -> Tensor:
        """Loss of each sample under a margin, of adjusted logits; see ``Loss``."""
        adjusted, of_targets = self._adjusted(logits), self._adjusted(target_logits)
        return self.loss.per_sample_with_margin(adjusted, target, of_targets, class_weight)

    def extra_repr(self) -> str:
        """Show τ, and whether the classes have equal shares."""
        return f"adjustment={self.adjustment:g}" + (", equal counts" if self._prior is None else "")

    def _adjusted(self, logits: Tensor) -> Tensor:
        if self.log_prior is None:
            return logits
        if self.log_prior.shape != logits.shape[-1:]:
            raise InputError(
                f"LogitAdjustment got the counts of {len(self.log_prior)} classes. "
                f"These logits have {logits.shape[-1]}."
            )
        return adjust_logits(logits, self.log_prior, self.adjustment)


def not_softmax(name: str) -> str:
    """Say that a loss has no prior to adjust.

    >>> not_softmax("SquaredError").split(".")[1]
    ' SquaredError is another loss'
    """
    return f"Logit adjustment is defined for softmax, whose logits take a prior as a summand. {name} is another loss."
