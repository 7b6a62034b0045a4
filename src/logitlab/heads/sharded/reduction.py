"""From the lead of the rivals to the loss of all ranks, of which each differentiates its own part."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from logitlab.functional import Reduction, at_least_float32, reduce_loss, sample_weight
from logitlab.functional.blockwise import sum_of_all, total_loss

if TYPE_CHECKING:
    from .attributes import Sharded


def reduce_over_ranks(head: Sharded, gap: Tensor, target: Tensor, all_count: bool, reduction: Reduction) -> Tensor:
    """The loss, the same number on every rank; or the losses of this rank's samples.

    Args:
        head: whose loss it is.
        gap: log-sum-exp of the rivals' logits less the target's logit, of this rank's samples, ``[...]``.
        target: class indices, checked, ``[...]``.
        all_count: whether it is known that none of them is ignored.
        reduction: ``"mean"`` and ``"sum"`` over the samples of all ranks, or ``"none"``.

    Raises:
        InputError: an unknown reduction.
    """
    reduce_loss(gap.detach(), target, reduction)  # refuses an unknown one
    ranks, penalty = head.ranks, None
    if head.weight_penalty:
        square = head.weight.to(at_least_float32(head.weight)).square().sum()
        # The loss is scaled as a whole below; the penalty on the weight is not meant to be.
        coefficient = 0.5 * head.weight_penalty / head.loss_scale
        penalty = coefficient * sum_of_all(square, ranks, "the length of the weight")
    loss: Tensor = head.loss_function.from_gap(
        gap,
        target,
        all_count,
        reduction="none",
        class_weight=head.class_weight,
        ignore_index=head.ignore_index,
        penalty=penalty,
    )
    loss = loss if head.loss_scale == 1 else head.loss_scale * loss
    if reduction == "none":
        return loss
    part = loss.sum()
    if reduction == "mean":
        counts = target != head.ignore_index
        counted = counts.to(gap.dtype)
        if head.class_weight is not None:
            counted = counted * sample_weight(torch.where(counts, target, 0), head.class_weight.to(gap.dtype))
        divisor = ranks.sum(counted.sum(), "the number of samples")
        part = part / torch.where(divisor > 0, divisor, torch.ones_like(divisor))
    return total_loss(part, ranks, "the loss")
