"""What must not depend on an order: that of the samples, and that of the classes."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from ..case import Case, gradients, same, same_gradients
from ..catalogue import check


@check()
def sample_order(case: Case) -> None:
    """Samples in another order have the same losses, logits and gradients, in that order."""
    features, target = case.batch(6)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    for training in case.modes():
        expected, before = gradients(case.head(training=training), features, target, reduction="none")
        found, after = gradients(case.head(training=training), features[order], target[order], reduction="none")
        same(found, expected[order], "the losses of samples in another order")
        before["features"] = before["features"][order]
        same_gradients(after, before, "samples in another order")
        same(
            case.head(training=training)(features[order]),
            case.head(training=training)(features)[order],
            "the logits of samples in another order",
        )


@check()
def class_order(case: Case) -> None:
    """Classes in another order have the same losses, and logits in that order.

    Put into order are the rows of the weight, the bias and everything else that is kept a class, and the targets.
    """
    features, target = case.batch(8)
    order = torch.randperm(case.num_classes, generator=torch.Generator().manual_seed(case.seed)).roll(1)
    renamed = order.argsort()[target]
    for training in case.modes():
        permuted = case.head(training=training)
        _permute(permuted, order, case.num_classes)
        expected = case.head(training=training)(features)[..., order]
        same(permuted(features), expected, "the logits of classes in another order")
        permuted = case.head(training=training)
        _permute(permuted, order, case.num_classes)
        losses = case.head(training=training)(features, target, reduction="none")
        same(permuted(features, renamed, reduction="none"), losses, "the losses with classes in another order")


def _permute(head: Any, order: Tensor, classes: int) -> None:
    """Put everything that has one entry, or several rows, a class into another order, in place."""
    with torch.no_grad():
        for value in itertools.chain(head.parameters(), head.buffers()):
            for dimension, size in enumerate(value.shape):
                if size and size % classes == 0:
                    parts = value.detach().clone().unflatten(dimension, (classes, size // classes))
                    value.copy_(parts.index_select(dimension, order).flatten(dimension, dimension + 1))
                    break
