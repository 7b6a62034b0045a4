"""Put the losses of a head together from its parameters."""

from __future__ import annotations

from logitlab.losses import LabelSmoothing, LogitPenalty, Loss, SigmoidCrossEntropy, SoftmaxCrossEntropy, SquaredError


def compose_loss(
    loss: str | Loss, alpha: float, beta: float, target_weight: float | None, target_value: float | None
) -> Loss:
    """Put smoothing and penalty around the loss that was named; the parameters are checked already.

    Args:
        loss: ``"softmax"``, ``"sigmoid"``, ``"squared_error"`` or a loss of one's own.
        alpha: of label smoothing; 0 for none.
        beta: of the logit penalty; 0 for none.
        target_weight: W's κ, for squared error.
        target_value: W's M, for squared error.
    """
    built: Loss
    if isinstance(loss, Loss):
        built = loss
    elif loss == "squared_error" and target_weight is not None and target_value is not None:
        built = SquaredError(target_weight, target_value)
    else:
        built = SigmoidCrossEntropy() if loss == "sigmoid" else SoftmaxCrossEntropy()
    if alpha:
        built = LabelSmoothing(alpha, built)
    return LogitPenalty(beta, built) if beta else built
