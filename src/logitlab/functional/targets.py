"""Targets: class indices or probabilities, checked without ever waiting for a GPU."""

from __future__ import annotations

import torch
from torch import Tensor

from logitlab.config.errors import InputError

from .at_hand import values_at_hand


def is_soft(target: Tensor) -> bool:
    """Whether ``target`` holds probabilities ``[..., C]`` instead of class indices ``[...]``."""
    return target.is_floating_point()


def check_target(target: Tensor, logits: Tensor, ignore_index: int = -100) -> Tensor:
    """Check a target against logits and return it as int64 indices or as probabilities in the logits' dtype.

    Shapes and dtypes are always checked. Values are checked in eager mode on the CPU only: elsewhere looking
    at them would stop the GPU's queue or break the compiled graph.

    Args:
        target: class indices of any integer dtype, shape ``[...]``; or probabilities, shape ``[..., C]``,
            each row in [0, 1] with sum 1.
        logits: shape ``[..., C]``.
        ignore_index: index of samples that do not count; allowed although it is out of range.

    Returns:
        int64 ``[...]``, or floating ``[..., C]``.

    Raises:
        InputError: wrong dtype or shape, an index outside [0, C), a row that is no distribution.

    >>> check_target(torch.tensor([0, 3]), torch.zeros(2, 3))
    Traceback (most recent call last):
        ...
    logitlab.config.errors.InputError: Expected class indices in [0, 3) or ignore_index -100. Got 3.
    """
    return look_at_target(target, logits, ignore_index)[0]


def look_at_target(target: Tensor, logits: Tensor, ignore_index: int = -100) -> tuple[Tensor, bool]:
    """``check_target``, and what the look at the values has shown: whether no sample is ignored.

    Args:
        target: as in ``check_target``.
        logits: shape ``[..., C]``.
        ignore_index: index of samples that do not count.

    Returns:
        The target as ``check_target`` gives it; and true where every sample is known to count, false where one does
        not, where there is none, or where the values may not be read.

    Raises:
        InputError: as ``check_target``.

    >>> look_at_target(torch.tensor([0, 2]), torch.zeros(2, 3))[1]
    True
    >>> look_at_target(torch.tensor([0, -100]), torch.zeros(2, 3))[1]
    False
    """
    batch, num_classes = logits.shape[:-1], logits.shape[-1]
    if is_soft(target):
        if target.shape != logits.shape:
            hint = " Class indices need an integer dtype: target.long()." if target.shape == batch else ""
            raise InputError(
                f"Expected target probabilities of shape {tuple(logits.shape)}. Got {tuple(target.shape)}.{hint}"
            )
        target = target.to(logits.dtype)
        at_hand = bool(target.numel()) and values_at_hand(target)
        if at_hand:
            _check_probabilities(target)
        return target, at_hand
    if target.is_complex() or target.dtype == torch.bool:
        raise InputError(
            f"Expected a target of class indices (an integer dtype) or of probabilities (a floating dtype). "
            f"Got {target.dtype}. For one-hot rows of booleans pass target.float()."
        )
    if target.shape != batch:
        raise InputError(
            f"Expected class indices of shape {tuple(batch)} for logits {tuple(logits.shape)}. "
            f"Got {tuple(target.shape)}."
        )
    target = target.long()
    if not (target.numel() and values_at_hand(target)):
        return target, False
    low, high = (int(end) for end in target.aminmax())
    if low >= 0 and high < num_classes:
        return target, not low <= ignore_index <= high
    wrong = (target != ignore_index) & ((target < 0) | (target >= num_classes))
    if bool(wrong.any()):
        raise InputError(
            f"Expected class indices in [0, {num_classes}) or ignore_index {ignore_index}. Got {int(target[wrong][0])}."
        )
    return target, False


def _check_probabilities(target: Tensor) -> None:
    """Refuse rows that are no distributions over the classes."""
    low, high = (float(end) for end in target.aminmax())
    # NaN fails every comparison, hence the positive form.
    if not (low >= 0 and high <= 1 + 1e-3):
        raise InputError(f"Expected target probabilities in [0, 1]. Got values from {low:g} to {high:g}.")
    sums = target.sum(dim=-1)
    worst = float(sums.flatten()[(sums - 1).abs().flatten().argmax()])
    # Half-precision targets add up to one only roughly.
    if abs(worst - 1) > 1e-2:
        raise InputError(f"Expected target probabilities with sum 1 in every row. Got a sum of {worst:g}.")
