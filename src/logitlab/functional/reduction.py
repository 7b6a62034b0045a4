"""From one loss a sample to one number, as ``torch.nn.functional.cross_entropy`` does it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from logitlab.config.errors import InputError

from .targets import is_soft

Reduction = Literal["mean", "sum", "none"]


def sample_weight(target: Tensor, class_weight: Tensor) -> Tensor:
    """Weight of each sample: that of its class, or the mean over its soft target.

    Args:
        target: class indices in [0, C), int64, shape ``[...]``; or probabilities, shape ``[..., C]``.
        class_weight: positive factor a class, shape ``[C]``.

    Returns:
        Shape ``[...]``.

    >>> sample_weight(torch.tensor([1, 0]), torch.tensor([1.0, 3.0]))
    tensor([3., 1.])
    """
    if is_soft(target):
        return (target * class_weight).sum(dim=-1)
    # Indexing by a target without dimensions would read its value, which stalls a GPU and fails under vmap.
    return class_weight.gather(0, target.reshape(-1)).reshape(target.shape)


def reduce_loss(
    loss: Tensor,
    target: Tensor,
    reduction: Reduction = "mean",
    *,
    class_weight: Tensor | None = None,
    ignore_index: int = -100,
    all_count: bool = False,
) -> Tensor:
    """Reduce losses that already carry their class weights.

    Ignored samples count as zero and do not enter the mean. The mean over class indices divides by the sum of the
    weights of the samples that count; the mean over probabilities by their number. No sample gives zero, with
    zero gradients, where torch gives NaN.

    Args:
        loss: shape ``[...]``.
        target: class indices (with ``ignore_index`` where a sample does not count), shape ``[...]``; or
            probabilities, shape ``[..., C]``.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        class_weight: positive factor a class, shape ``[C]``.
        ignore_index: index of samples that do not count.
        all_count: whether there are samples and it is known that none is ignored, which saves looking for them; see
            ``look_at_target``.

    Returns:
        A scalar, or shape ``[...]`` for ``"none"``.

    Raises:
        InputError: an unknown reduction.

    >>> reduce_loss(torch.tensor([1.0, 2.0, 9.0]), torch.tensor([0, 1, -100]))
    tensor(1.5000)
    """
    if reduction not in ("mean", "sum", "none"):
        raise InputError(f"Expected reduction 'mean', 'sum' or 'none'. Got {reduction!r}.")
    if all_count and (class_weight is None or is_soft(target)):
        return loss.mean() if reduction == "mean" else loss.sum() if reduction == "sum" else loss
    if is_soft(target):
        counted = torch.ones_like(loss)
    else:
        counts = target != ignore_index
        loss = torch.where(counts, loss, torch.zeros_like(loss))
        counted = counts.to(loss.dtype)
        if class_weight is not None:
            counted = counted * sample_weight(torch.where(counts, target, 0), class_weight)
    if reduction == "none":
        return loss
    total = loss.sum()
    if reduction == "sum":
        return total
    divisor = counted.sum()
    return total / torch.where(divisor > 0, divisor, torch.ones_like(divisor))
