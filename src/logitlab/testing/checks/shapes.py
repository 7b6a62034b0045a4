"""What goes in and what comes out: shapes from a single sample to none at all."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..case import Case, finite, gradients, same
from ..catalogue import check
from ..report import CheckFailed


@check()
def contract(case: Case) -> None:
    """The factory builds a new module at each call, with ``weight``, ``in_features`` and ``num_classes``.

    The same one from the same random state. The weight is ``[C, D]``, or has several rows a class.
    """
    head, again = case.head(), case.head()
    if not isinstance(head, nn.Module):
        raise CheckFailed(f"the factory must build an nn.Module, got {type(head).__name__}")
    if head is again:
        raise CheckFailed("the factory must build a new head at each call, got the same object twice")
    sizes = (getattr(head, "in_features", None), getattr(head, "num_classes", None))
    if sizes != (case.in_features, case.num_classes):
        raise CheckFailed(f"in_features and num_classes must be {(case.in_features, case.num_classes)}, got {sizes}")
    weight: Any = getattr(head, "weight", None)
    fits = isinstance(weight, Tensor) and weight.ndim == 2 and weight.shape[1] == case.in_features
    if not fits or weight.shape[0] % case.num_classes:
        shape = list(weight.shape) if isinstance(weight, Tensor) else weight
        raise CheckFailed(f"'weight' must be a tensor [{case.num_classes}, {case.in_features}], got {shape}")
    for (name, one), (_, other) in zip(head.named_parameters(), again.named_parameters()):
        same(other, one, f"{name} of a second head from the same random state", rtol=0, atol=0)


@check()
def leading_shapes(case: Case) -> None:
    """Features ``[..., D]`` with a target ``[...]`` give logits ``[..., C]`` and losses ``[...]``.

    They equal those of the same samples in rows. A single sample is ``[D]`` with a target ``[]``.
    """
    for training in case.modes():
        for shape in ((), (3,), (2, 3), (2, 1, 2)):
            features, target = case.batch(*shape)
            rows, row_target = features.reshape(-1, case.in_features), target.reshape(-1)
            what = f"shape {list(features.shape)}, training={training}"
            logits = case.head(training=training)(features)
            expected = case.head(training=training)(rows)
            same(logits, expected.reshape(*shape, case.num_classes), f"{what}: logits")
            losses = case.head(training=training)(features, target, reduction="none")
            expected = case.head(training=training)(rows, row_target, reduction="none")
            same(losses, expected.reshape(shape), f"{what}: losses with reduction='none'")
            both = case.head(training=training)(features, target, return_logits=True)
            if not isinstance(both, tuple) or len(both) != 2:
                raise CheckFailed(f"{what}: return_logits=True must give (loss, logits), got {type(both).__name__}")
            same(both[0], case.head(training=training)(features, target), f"{what}: the loss beside logits")
            if both[0].shape != () or both[1].shape != logits.shape:
                shapes = [list(part.shape) for part in both]
                raise CheckFailed(f"{what}: expected a scalar loss and logits {list(logits.shape)}, got {shapes}")


@check()
def few_classes(case: Case) -> None:
    """One class and two classes, where the head allows them, give finite losses and gradients."""
    for number in (1, 2):
        if number < case.traits.min_classes:
            continue
        for training in (True, False):
            head = case.head(training=training, num_classes=number)
            features, target = case.batch(4, num_classes=number)
            finite(*gradients(head, features, target), f"{number} classes, training={training}")


@check()
def one_sample(case: Case) -> None:
    """A batch of one sample gives a finite loss and finite gradients."""
    for training in (True, False):
        finite(*gradients(case.head(training=training), *case.batch(1)), f"one sample, training={training}")


@check()
def empty_batch(case: Case) -> None:
    """An empty batch gives logits ``[0, C]``, a loss of zero and gradients of zero, and moves no state to NaN."""
    features, target = case.batch(0)
    for training in (True, False):
        head = case.head(training=training)
        same(head(features), torch.zeros(0, case.num_classes), "logits of an empty batch")
        same(head(features, target, reduction="none"), torch.zeros(0), "losses of an empty batch")
        for reduction in ("mean", "sum"):
            loss, found = gradients(head, features, target, reduction=reduction)
            same(loss, torch.zeros(()), f"the loss of an empty batch with reduction='{reduction}'", rtol=0, atol=0)
            for name, gradient in found.items():
                same(gradient, torch.zeros_like(gradient), f"an empty batch's gradient for {name}", rtol=0, atol=0)
        for name, value in head.named_buffers():
            if value.is_floating_point() and not value.isfinite().all():
                raise CheckFailed(f"an empty batch makes the buffer {name} {value.flatten()[0].item()}")
