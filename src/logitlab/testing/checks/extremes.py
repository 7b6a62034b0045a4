"""Where other libraries give NaN: features on a weight and against it, zero and huge ones, equal weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..case import Case, finite, gradients, same
from ..catalogue import check
from ..traits import HeadTraits

#: Of features, and of autocast; parameters are in float32, and in float64 for the first.
_PRECISIONS: tuple[tuple[torch.dtype, torch.dtype | None], ...] = (
    (torch.float64, None),
    (torch.float32, None),
    (torch.bfloat16, None),
    (torch.float16, None),
    (torch.float32, torch.bfloat16),
    (torch.float32, torch.float16),
)


@check()
def extreme_cosines(case: Case) -> None:
    """Features k·W_y, -k·W_y and orthogonal to every weight give finite losses and gradients.

    In float64, float32, half precision and under autocast, in training and evaluation.
    """
    target = torch.arange(case.num_classes)
    for head, dtype, autocast, what in _heads(case):
        rows = _rows(head, case).double()
        # What is left of random features when the span of the weights is taken out.
        basis = torch.linalg.qr(head.weight.detach().double().T).Q
        features, _ = case.batch(case.num_classes)
        for name, values in (
            *((f"x = {factor:g} W_y", factor * rows) for factor in (1.0, 1e-3, 37.0, -1.0, -37.0)),
            ("x orthogonal to every weight", features - features @ basis @ basis.T),
        ):
            finite(*gradients(head, values.to(dtype), target, autocast=autocast), f"{name}, {what}")


@check()
def duplicated_weights(case: Case) -> None:
    """Two classes with one weight, and a class whose weight is zero, give finite losses and gradients."""
    features, target = case.batch(8)
    for head, dtype, autocast, what in _heads(case):
        with torch.no_grad():
            rows = head.weight.view(case.num_classes, -1, case.in_features)
            rows[-1] = rows[0]
            aligned = rows[:1, 0].clone()
        found = gradients(head, features.to(dtype), target, autocast=autocast)
        finite(*found, f"duplicated weights, {what}")
        found = gradients(head, aligned.to(dtype), target[:1] * 0, autocast=autocast)
        finite(*found, f"a feature on duplicated weights, {what}")
        with torch.no_grad():
            head.weight[0] = 0.0
        finite(*gradients(head, features.to(dtype), target, autocast=autocast), f"a weight of zero, {what}")


@check()
def zero_features(case: Case) -> None:
    """Features of zero, and hardly above, alone and beside others, give finite losses and gradients.

    The state stays finite too.
    """
    features, target = case.batch(6)
    for head, dtype, autocast, what in _heads(case):
        some = features.clone()
        some[::2] = 0.0
        inputs = {"zero features": 0 * features, "some zero features": some, "features of 1e-30": 1e-30 * features}
        for name, values in inputs.items():
            finite(*gradients(head, values.to(dtype), target, autocast=autocast), f"{name}, {what}")
        finite(torch.zeros(()), dict(head.named_buffers()), f"zero features, {what}, state")


@check()
def huge_features(case: Case) -> None:
    """Features of 1e4 (1e3 in float16, which ends at 65504) give finite losses and gradients.

    Those of 1e30 as well, where the head does not depend on their length.
    """
    features, target = case.batch(6)
    for head, dtype, autocast, what in _heads(case):
        sizes = [1e3] if dtype == torch.float16 else [1e4, 1e30] if case.traits.scale_free else [1e4]
        for size in sizes:
            found = gradients(head, (size * features).to(dtype), target, autocast=autocast)
            finite(*found, f"features of {size:g}, {what}")


def _of_length(traits: HeadTraits) -> str | None:
    return None if traits.scale_free else "scale_free=False"


@check(_of_length)
def feature_length(case: Case) -> None:
    """Logits and losses stay the same when features are a thousand times as long, or a thousandth."""
    features, target = case.batch(6)
    for training in case.modes():
        for factor in (1e3, 1e-3):
            what = f"features times {factor:g}"
            expected = case.head(training=training)(features, target, reduction="none")
            found = case.head(training=training)(factor * features, target, reduction="none")
            same(found, expected, f"{what}: losses")
            found = case.head(training=training)(factor * features)
            same(found, case.head(training=training)(features), f"{what}: logits")


def _heads(case: Case) -> Iterator[tuple[Any, torch.dtype, torch.dtype | None, str]]:
    for dtype, autocast in _PRECISIONS:
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        for training in (True, False):
            under = f"autocast to {autocast}" if autocast else f"features in {dtype}"
            yield case.head(training=training, dtype=wide), dtype, autocast, f"{under}, training={training}"


def _rows(head: Any, case: Case) -> Tensor:
    """One weight row a class, ``[C, D]``."""
    weight: Tensor = head.weight.detach()
    return weight.view(case.num_classes, -1, case.in_features)[:, 0]
