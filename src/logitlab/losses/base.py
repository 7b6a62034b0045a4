"""What every loss is: a stateless module from logits and a target to one number a sample."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn

from logitlab.functional import (
    Reduction,
    at_least_float32,
    check_target,
    is_soft,
    reduce_loss,
    sample_weight,
)

#: How logits become probabilities: softmax, sigmoids divided by their sum (W Table 3), or not at all.
Link = Literal["softmax", "normalized_sigmoid", "none"]


class Loss(nn.Module, ABC):
    """Base of all losses. A loss of one's own states ``link`` and ``per_sample`` and nothing else.

    Attributes:
        link: how logits become probabilities.
    """

    link: Link = "softmax"

    @abstractmethod
    def per_sample(self, logits: Tensor, target: Tensor, class_weight: Tensor | None = None) -> Tensor:
        """Loss of each sample, class weight included.

        Args:
            logits: shape ``[..., C]``, float32 at least.
            target: class indices in [0, C), int64, ``[...]``, or probabilities ``[..., C]``; already checked.
            class_weight: positive factor a class, shape ``[C]``.

        Returns:
            Shape ``[...]``.
        """

    def forward(
        self,
        logits: Tensor,
        target: Tensor,
        *,
        reduction: Reduction = "mean",
        class_weight: Tensor | None = None,
        ignore_index: int = -100,
        penalty: Tensor | None = None,
    ) -> Tensor:
        """Loss of a batch.

        Args:
            logits: shape ``[..., C]``; half precision is widened to float32.
            target: class indices ``[...]`` or probabilities ``[..., C]``.
            reduction: ``"mean"``, ``"sum"`` or ``"none"``.
            class_weight: positive factor a class, shape ``[C]``.
            ignore_index: index of samples that do not count.
            penalty: a scalar that is added to the loss of every sample, before the weight of the sample.

        Returns:
            A scalar, or shape ``[...]`` for ``"none"``.

        Raises:
            InputError: see ``functional.check_target`` and ``functional.reduce_loss``.
        """
        logits = logits.to(at_least_float32(logits))
        target = check_target(target, logits, ignore_index)
        weight = None if class_weight is None else class_weight.to(logits.dtype)
        # An ignored sample needs some class to index with; its loss is dropped by reduce_loss.
        safe = target if is_soft(target) else torch.where(target == ignore_index, 0, target)
        loss = self.per_sample(logits, safe, weight)
        if penalty is not None:
            loss = loss + (penalty if weight is None else penalty * sample_weight(safe, weight))
        return reduce_loss(loss, target, reduction, class_weight=weight, ignore_index=ignore_index)
