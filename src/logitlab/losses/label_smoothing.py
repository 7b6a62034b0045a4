"""Label smoothing around any loss that is linear in its target."""

from __future__ import annotations

from torch import Tensor

from logitlab.config.errors import ParameterError
from logitlab.config.parameters import Range
from logitlab.functional import uniform_target

from .base import Link, Loss
from .softmax import SoftmaxCrossEntropy

ALPHA = Range(0, 1, high_included=False)


class LabelSmoothing(Loss):
    r"""Mix the target with the uniform distribution and scale by 1/(1-α).

    .. math:: L = \frac{1}{1-\alpha} L_0\big((1-\alpha) t + \alpha / K\big)
        = L_0(t) + \frac{\alpha}{1-\alpha} L_0(1/K)

    The two forms are equal because every loss of W is linear in its target; the second keeps class indices, and
    with them the exact form of the cross-entropy. torch's ``label_smoothing`` lacks the factor 1/(1-α).

    Args:
        alpha: α in [0, 1).
        loss: what is smoothed; softmax cross-entropy by default.

    Raises:
        ParameterError: α outside its range, or a loss that takes class indices only.

    References:
        W Eqs. (2) and (3).

    >>> import torch
    >>> from torch.nn.functional import cross_entropy
    >>> logits, target = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([0])
    >>> LabelSmoothing(0.1)(logits, target), cross_entropy(logits, target, label_smoothing=0.1) / 0.9
    (tensor(0.5640), tensor(0.5640))
    """

    def __init__(self, alpha: float = 0.1, loss: Loss | None = None) -> None:
        super().__init__()
        fault = ALPHA.fault("LabelSmoothing", "alpha", alpha)
        if fault:
            raise ParameterError(fault)
        self.loss = SoftmaxCrossEntropy() if loss is None else loss
        if not self.loss.soft_targets:
            raise ParameterError(
                f"LabelSmoothing needs a loss of soft targets. {type(self.loss).__name__} takes class indices only."
            )
        self.alpha = alpha
        self.link: Link = self.loss.link
        self.weights_classes = self.loss.weights_classes

    def per_sample(self, logits: Tensor, target: Tensor, class_weight: Tensor | None = None) -> Tensor:
        """Loss of each sample; see ``Loss.per_sample``.

        A class weight acts within softmax cross-entropy as in torch, on every term of the smoothed target; the other
        losses are weighted as a whole, after smoothing.
        """
        own = self.loss.per_sample(logits, target, class_weight)
        uniform = self.loss.per_sample(logits, uniform_target(logits), class_weight)
        return own + self.alpha / (1 - self.alpha) * uniform

    def extra_repr(self) -> str:
        """Show α."""
        return f"alpha={self.alpha}"
