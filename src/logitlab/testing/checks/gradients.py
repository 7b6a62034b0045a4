"""Derivatives: right by finite differences, in the right direction, and without leaning on the state."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..case import Case, finite, gradients, same_gradients
from ..catalogue import check
from ..report import CheckFailed


@check(lambda traits: "straight_through: the gradient is not that of the value" if traits.straight_through else None)
def gradcheck(case: Case) -> None:
    """Gradients for features and parameters equal finite differences in float64, with κ frozen through ``kappa=``."""
    features, target = case.batch(4)
    training = case.modes()[0]
    head = case.head(training=training)
    frozen = case.frozen(case.head(training=training), features, target)
    names = [name for name, value in head.named_parameters() if value.requires_grad]
    values = [value.detach().clone().requires_grad_() for name, value in head.named_parameters() if name in names]

    def loss(features: Tensor, *values: Tensor) -> Any:
        # Each pass from the same state, so that no buffer moves between two of them.
        fresh = case.head(training=training)
        options = {"reduction": "none", **frozen}
        return torch.func.functional_call(fresh, dict(zip(names, values)), (features, target), options)

    try:
        torch.autograd.gradcheck(loss, (features.requires_grad_(), *values), fast_mode=True, atol=1e-5, rtol=1e-4)
    except RuntimeError as error:
        raise CheckFailed(f"gradients differ from finite differences: {_numbers(str(error))}") from None


@check()
def step_lowers_loss(case: Case) -> None:
    """A small step of the parameters against the gradient lowers the loss by what the gradient promises."""
    features, target = case.batch(8)
    training = case.modes()[0]
    frozen = case.frozen(case.head(training=training), features, target)
    before, found = gradients(case.head(training=training), features, target, **frozen)
    head = case.head(training=training)
    squares = sum(found[name].square().sum() for name, _ in head.named_parameters())
    if not isinstance(squares, Tensor) or squares == 0:
        raise CheckFailed("the gradient for every parameter is zero")
    length = 1e-4 / squares.sqrt()
    with torch.no_grad():
        for name, parameter in head.named_parameters():
            parameter.sub_(length * found[name])
        after = head(features, target, **frozen)
    promised, fallen = (length * squares).item(), (before - after).item()
    if not (case.traits.straight_through and fallen > 0) and not 0.5 * promised < fallen < 2 * promised:
        raise CheckFailed(f"a small step lowers the loss by {fallen:.3g}, its gradient promises {promised:.3g}")


@check()
def gradient_sign(case: Case) -> None:
    """Moving features against their gradient raises the target's logit over its rivals'.

    A loss of the wrong sign lowers it.
    """
    features, target = case.batch(32)
    head = case.head(training=False)
    _, found = gradients(head, features, target)
    step = found["features"]
    if not step.any():
        raise CheckFailed("the gradient for the features is zero")
    with torch.no_grad():
        before = _lead(head(features), target)
        after = _lead(head(features - 1e-3 / step.abs().max() * step), target)
    if not after > before:
        raise CheckFailed("a step against the gradient lowers the target's logit beside its rivals': wrong sign?")


@check()
def two_forwards(case: Case) -> None:
    """Two forward passes before one backward pass give the sum of the gradients of each."""
    one, two = case.batch(4), case.batch(4, seed=1)
    for training in (True, False):
        head = case.head(training=training)
        parameters = [value for value in head.parameters() if value.requires_grad]
        try:
            # Features of a backbone require a gradient.
            inputs = [one[0].clone().requires_grad_(), two[0].clone().requires_grad_()]
            total = head(inputs[0], one[1]) + head(inputs[1], two[1])
            found = torch.autograd.grad(total, [*parameters, *inputs], allow_unused=True)
        except RuntimeError as error:
            raise CheckFailed(f"backward after two forwards: {str(error).splitlines()[0][:160]}") from None
        names = [name for name, value in head.named_parameters() if value.requires_grad]
        sums = {name: torch.zeros_like(v) if g is None else g for name, v, g in zip(names, parameters, found)}
        finite(total, sums, f"two forwards, training={training}")
        if training in case.modes(alone=True):
            parts = [gradients(case.head(training=training), *batch)[1] for batch in (one, two)]
            expected = {name: parts[0][name] + parts[1][name] for name in names}
            same_gradients(sums, expected, "two forwards before one backward")


def _lead(logits: Tensor, target: Tensor) -> Tensor:
    """By how much the target's logit leads the log-sum-exp of its rivals', in the mean."""
    index = target.unsqueeze(-1)
    own = logits.gather(-1, index).squeeze(-1)
    return (own - logits.scatter(-1, index, -torch.inf).logsumexp(-1)).mean()


def _numbers(message: str) -> str:
    """The line of torch's message that says most."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return " ".join(lines[:3])[:240]
