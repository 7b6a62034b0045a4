"""Put the losses of a head together from its parameters."""

from __future__ import annotations

from logitlab.functional.long_tail import ClassCounts
from logitlab.losses import (
    FocalLoss,
    LabelSmoothing,
    LogitAdjustment,
    LogitPenalty,
    Loss,
    SigmoidCrossEntropy,
    SoftmaxCrossEntropy,
    SquaredError,
)


def compose_loss(
    loss: str | Loss,
    alpha: float,
    beta: float,
    target_weight: float | None,
    target_value: float | None,
    gamma: float | None,
    adjustment: float,
    class_counts: ClassCounts | None,
) -> Loss:
    """Put adjustment, smoothing and penalty around the loss that was named; the parameters are checked already.

    Args:
        loss: ``"softmax"``, ``"sigmoid"``, ``"squared_error"``, ``"focal"`` or a loss of one's own.
        alpha: of label smoothing; 0 for none.
        beta: of the logit penalty; 0 for none.
        target_weight: W's κ, for squared error.
        target_value: W's M, for squared error.
        gamma: of focal loss; None for its own.
        adjustment: τ of logit adjustment; 0 for none.
        class_counts: that it adjusts by.
    """
    built: Loss
    if isinstance(loss, Loss):
        built = loss
    elif loss == "squared_error" and target_weight is not None and target_value is not None:
        built = SquaredError(target_weight, target_value)
    elif loss == "focal":
        built = FocalLoss() if gamma is None else FocalLoss(gamma)
    else:
        built = SigmoidCrossEntropy() if loss == "sigmoid" else SoftmaxCrossEntropy()
    if adjustment:
        # Innermost: the smoothed target is learned from adjusted logits too, the penalty is on plain ones.
        built = LogitAdjustment(class_counts, adjustment, built)
    if alpha:
        built = LabelSmoothing(alpha, built)
    return LogitPenalty(beta, built) if beta else built
