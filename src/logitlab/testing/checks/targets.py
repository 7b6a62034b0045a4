"""Targets: those that are taken, and those that are refused in words."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from logitlab.config.errors import InputError

from ..case import Case, gradients, same, same_gradients
from ..catalogue import check
from ..report import CheckFailed


@check()
def bad_targets(case: Case) -> None:
    """A target out of range, of a wrong shape or dtype, or that is no distribution raises ``InputError`` on the CPU.

    With a message.
    """
    features, target = case.batch(4)
    beyond, below = target.clone(), target.clone()
    beyond[1], below[2] = case.num_classes, -1
    probabilities = torch.full((4, case.num_classes), 1 / case.num_classes, dtype=torch.float64)
    one = torch.eye(4, case.num_classes)
    wrong = {
        f"a class index of {case.num_classes}": beyond,
        "a class index of -1": below,
        "a target one sample too long": torch.cat([target, target[:1]]),
        "class indices of shape [B, 1]": target.unsqueeze(-1),
        "a target of booleans": target > 0,
        "class indices in a floating dtype": target.double(),
        "one-hot rows of integers": F.one_hot(target, case.num_classes),
        "probabilities that add up to two": 2 * probabilities,
        "probabilities with one below zero": probabilities + one - one.roll(1, 1),
        "probabilities with a class too few": torch.full((4, case.num_classes - 1), 1 / (case.num_classes - 1)),
        "probabilities of NaN": torch.full_like(probabilities, torch.nan),
    }
    for what, values in wrong.items():
        for training in (True, False):
            _refused(partial(case.head(training=training), features, values), what)


@check()
def bad_features(case: Case) -> None:
    """Features of a wrong length or of integers raise ``InputError`` with a message, with and without a target."""
    _, target = case.batch(4)
    head = case.head(training=False)
    for what, values in (
        ("features one too long", torch.zeros(4, case.in_features + 1, dtype=torch.float64)),
        ("features of integers", torch.zeros(4, case.in_features, dtype=torch.int64)),
    ):
        _refused(partial(head, values), what)
        _refused(partial(head, values, target), f"{what} with a target")


@check()
def target_dtypes(case: Case) -> None:
    """Class indices of any integer dtype give the same loss."""
    features, target = case.batch(4)
    expected = case.head(training=False)(features, target)
    for dtype in (torch.int32, torch.int16, torch.uint8):
        same(case.head(training=False)(features, target.to(dtype)), expected, f"a target of {dtype}")


@check()
def soft_targets(case: Case) -> None:
    """A one-hot row costs what its class index does, with the same gradients, and a mixture something else.

    Where the head takes no probabilities it raises ``InputError``.
    """
    features, target = case.batch(5)
    one_hot = F.one_hot(target, case.num_classes).double()
    if not case.traits.soft_targets:
        for training in (True, False):
            _refused(partial(case.head(training=training), features, one_hot), "probabilities (soft_targets=False)")
        return
    for training in case.modes(alone=True):
        frozen = case.frozen(case.head(training=training), features, target)
        expected, of_index = gradients(case.head(training=training), features, target, reduction="none", **frozen)
        found, of_row = gradients(case.head(training=training), features, one_hot, reduction="none", **frozen)
        same(found, expected, "the loss of one-hot rows against class indices")
        same_gradients(of_row, of_index, "one-hot rows against class indices")
        mixed = 0.6 * one_hot + 0.4 * one_hot.roll(1, 1)
        loss = case.head(training=training)(features, mixed, reduction="none", **frozen)
        if case.num_classes > 1 and bool(torch.isclose(loss, expected, rtol=1e-6).all()):
            raise CheckFailed("the loss of mixed rows is that of their largest class")


def _refused(call: Callable[[], Any], what: str) -> None:
    try:
        result = call()
    except InputError as error:
        if not str(error).strip():
            raise CheckFailed(f"{what}: InputError without a message") from None
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else ""
        raise CheckFailed(f"{what} must raise InputError, got {type(error).__name__}: {first[:120]}") from None
    else:
        shown = f"{result.item():g}" if isinstance(result, Tensor) and result.numel() == 1 else type(result).__name__
        raise CheckFailed(f"{what} must raise InputError, got {shown}")
