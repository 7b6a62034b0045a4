"""Half precision goes in, float32 comes out, and the parameters stay what they were."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..case import Case, finite, gradients, same, same_gradients, under_autocast
from ..catalogue import check
from ..report import CheckFailed

#: How far the loss and the logits may be from float64 on the same (rounded) numbers: float32 inside, and no less.
CLOSE = 1e-4
# Gradients come back in the dtype of what they belong to, and are rounded to it; of the largest entry.
_ROUNDED = {torch.float32: 2e-4, torch.bfloat16: 1.6e-2, torch.float16: 2e-3}


@check()
def half_precision(case: Case) -> None:
    """Parameters or features in float32, bfloat16 or float16 give the loss that float64 gives on the same numbers.

    Loss and logits are float32 at least and within 1e-4; gradients are right up to the rounding of their dtype.
    """
    for parameters, of_features in (
        (torch.float32, torch.float32),
        (torch.float32, torch.bfloat16),
        (torch.float32, torch.float16),
        (torch.bfloat16, torch.bfloat16),
        (torch.float16, torch.float16),
    ):
        head = case.head(dtype=parameters, training=case.modes()[0])
        _against_float64(case, head, of_features, f"parameters in {parameters}, features in {of_features}")


@check()
def autocast(case: Case) -> None:
    """Under autocast to bfloat16 or float16 loss and logits are float32 at least and within 1e-4 of float64.

    Features may come in half precision, as the layers before the head give them.
    """
    for dtype in (torch.bfloat16, torch.float16):
        for of_features in (torch.float32, dtype):
            head = case.head(dtype=torch.float32, training=case.modes()[0])
            _against_float64(case, head, of_features, f"autocast to {dtype}, features in {of_features}", dtype)


@check()
def parameters_unchanged(case: Case) -> None:
    """Forward and backward passes leave every parameter as it is, whatever dtype the features have.

    The same object, dtype and values.
    """
    for of_head in (torch.float32, torch.float64, torch.bfloat16):
        for of_features in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
            head = case.head(dtype=of_head)
            before = {name: (value, value.dtype, value.detach().clone()) for name, value in head.named_parameters()}
            features, target = case.batch(4, dtype=of_features)
            gradients(head, features, target)
            head(features)
            after: dict[str, Tensor] = dict(head.named_parameters())
            for name, (parameter, dtype, values) in before.items():
                what = f"{name} after a pass with features in {of_features}"
                if name not in after or after[name] is not parameter:
                    raise CheckFailed(f"{what} is another object")
                if parameter.dtype != dtype:
                    raise CheckFailed(f"{what} is {parameter.dtype} instead of {dtype}")
                same(parameter, values, what, rtol=0, atol=0)


def _against_float64(
    case: Case, head: Any, of_features: torch.dtype, what: str, under: torch.dtype | None = None
) -> None:
    features, target = case.batch(6, dtype=of_features)
    training = case.modes()[0]
    reference, other = case.head(training=training), case.head(training=training)
    values = {**dict(head.named_parameters()), **dict(head.named_buffers())}
    with torch.no_grad():
        for copied in (reference, other):
            for name, value in (*copied.named_parameters(), *copied.named_buffers()):
                value.copy_(values[name])
    frozen = case.frozen(other, features.double(), target)
    expected, of_expected = gradients(reference, features.double(), target, **frozen)
    logits = reference(features.double(), **frozen)
    loss, found = gradients(head, features, target, autocast=under, **frozen)
    with under_autocast(under):
        got: Tensor = head(features, **frozen)
    for which, result in (("the loss", loss), ("the logits", got)):
        if torch.finfo(result.dtype).bits < 32:
            raise CheckFailed(f"{what}: {which} in {result.dtype} instead of float32 at least")
    finite(loss, found, what)
    same(loss, expected, f"{what}: the loss against float64", rtol=CLOSE, atol=CLOSE)
    largest = max(1.0, logits.abs().max().item())
    same(got, logits, f"{what}: the logits against float64", rtol=CLOSE, atol=CLOSE * largest)
    for name, gradient in found.items():
        rounding = _ROUNDED.get(gradient.dtype, CLOSE)
        pair = {name: gradient}, {name: of_expected[name]}
        same_gradients(*pair, f"{what}, against float64", rtol=rounding, atol=1e-6)
