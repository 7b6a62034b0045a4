"""Squared error as a module."""

from __future__ import annotations

from torch import Tensor

from logitlab.config.errors import ParameterError
from logitlab.config.parameters import Range
from logitlab.functional import squared_error

from .base import Link, Loss

_POSITIVE = Range(0, low_included=False)


class SquaredError(Loss):
    """Squared error with a weight and a value for the target: W Eq. (10). Its logits give no probabilities.

    See ``functional.squared_error``.

    Args:
        target_weight: W's κ, positive.
        target_value: W's M, positive.

    Raises:
        ParameterError: a value that is not positive.

    >>> import torch
    >>> SquaredError(target_weight=9.0, target_value=3.0)(torch.tensor([[1.0, 2.0]]), torch.tensor([0]))
    tensor(20.)
    """

    link: Link = "none"

    def __init__(self, target_weight: float, target_value: float) -> None:
        super().__init__()
        values = {"target_weight": target_weight, "target_value": target_value}
        faults = [_POSITIVE.fault("SquaredError", name, value) for name, value in values.items()]
        if any(faults):
            raise ParameterError([fault for fault in faults if fault])
        self.target_weight = target_weight
        self.target_value = target_value

    def per_sample(self, logits: Tensor, target: Tensor, class_weight: Tensor | None = None) -> Tensor:
        """Loss of each sample; see ``Loss.per_sample``."""
        return squared_error(logits, target, target_weight=self.target_weight, target_value=self.target_value)

    def extra_repr(self) -> str:
        """Show W's κ and M."""
        return f"target_weight={self.target_weight}, target_value={self.target_value}"
