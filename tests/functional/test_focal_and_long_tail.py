"""Focal loss, priors and margins by class counts, against closed forms and mpmath."""

from __future__ import annotations

import math

import mpmath
import pytest
import torch
from torch.nn import functional as F

from logitlab.functional import (
    adjust_logits,
    focal_loss,
    label_distribution_margins,
    log_prior,
    softmax_cross_entropy,
)
from logitlab.functional.long_tail import class_counts_fault


def naive(logits: torch.Tensor, target: torch.Tensor, gamma: float) -> torch.Tensor:
    """The formula as it is printed."""
    p = logits.softmax(-1).gather(-1, target[..., None])[..., 0]
    return -((1 - p) ** gamma) * p.log()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_focal_loss_is_the_formula_with_its_gradient(gamma: float) -> None:
    logits = torch.randn(6, 2, 5, dtype=torch.float64, requires_grad=True)
    target = torch.randint(5, (6, 2))
    ours, theirs = focal_loss(logits, target, gamma), naive(logits, target, gamma)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)
    (found,) = torch.autograd.grad(ours.sum(), logits, retain_graph=True)
    (expected,) = torch.autograd.grad(theirs.sum(), logits)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-13)


def test_gamma_zero_is_softmax_cross_entropy() -> None:
    logits, target, weight = torch.randn(7, 4), torch.randint(4, (7,)), torch.rand(4) + 0.1
    soft = torch.randn(7, 4).softmax(-1)
    for each in (target, soft):
        torch.testing.assert_close(focal_loss(logits, each, 0.0, weight), softmax_cross_entropy(logits, each, weight))


@pytest.mark.parametrize("gamma", [0.5, 2.0])
@pytest.mark.parametrize("gap", [-40.0, -20.0, -1.0, 0.0, 30.0, 500.0])
def test_focal_loss_keeps_its_digits_where_the_formula_cancels(gamma: float, gap: float) -> None:
    # Two classes: 1 - p = sigmoid(gap). The printed formula gives 0 for gap = -40 and inf for 500 in float32.
    def exact(x: mpmath.mpf) -> mpmath.mpf:
        p = 1 / (1 + mpmath.e**x)
        return -((1 - p) ** gamma) * mpmath.log(p)

    with mpmath.workdps(300):
        expected, slope = float(exact(mpmath.mpf(gap))), float(mpmath.diff(exact, gap))
    logits = torch.tensor([[0.0, gap]], requires_grad=True)
    loss = focal_loss(logits, torch.tensor([0]), gamma)
    loss.sum().backward()
    assert loss.item() == pytest.approx(expected, rel=1e-5, abs=1e-44)
    assert logits.grad is not None
    assert logits.grad[0].tolist() == pytest.approx([-slope, slope], rel=1e-5, abs=1e-44)


def test_focal_soft_targets_are_the_mean_of_the_classes() -> None:
    logits, soft, weight = torch.randn(8, 5, dtype=torch.float64), torch.rand(8, 5, dtype=torch.float64), torch.rand(5)
    soft, weight = soft / soft.sum(-1, keepdim=True), weight.double() + 0.5
    expected = sum(soft[:, k] * weight[k] * naive(logits, torch.full((8,), k), 2.0) for k in range(5))
    torch.testing.assert_close(focal_loss(logits, soft, 2.0, weight), expected)
    torch.testing.assert_close(
        focal_loss(logits, F.one_hot(torch.arange(8) % 5, 5).double(), 1.5),
        focal_loss(logits, torch.arange(8) % 5, 1.5),
    )


def test_one_class_costs_nothing() -> None:
    logits = torch.tensor([[5.0]], requires_grad=True)
    loss = focal_loss(logits, torch.tensor([0]))
    loss.sum().backward()
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert logits.grad.item() == 0.0


def test_a_prior_makes_the_share_of_each_class() -> None:
    counts = [5000, 300, 2]
    adjusted = adjust_logits(torch.zeros(2, 3, dtype=torch.float64), log_prior(counts))
    torch.testing.assert_close(adjusted.softmax(-1)[0], torch.tensor(counts, dtype=torch.float64) / 5302)
    # Twice as many of each, or shares, are the same prior.
    torch.testing.assert_close(log_prior([2 * n for n in counts]), log_prior(torch.tensor(counts) / 5302.0))


def test_margins_by_the_authors_code() -> None:
    # github.com/kaidic/LDAM-DRW, losses.py: m_list = 1 / sqrt(sqrt(n)); m_list *= max_m / max(m_list).
    counts = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    by_code = [1 / math.sqrt(math.sqrt(n)) for n in counts]
    by_code = [m * 0.5 / max(by_code) for m in by_code]
    assert label_distribution_margins(counts).tolist() == pytest.approx(by_code, rel=1e-12)


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ([3, 0, 1], "Got 0 for class 1"),
        ([3, -2.5, 1], "Got -2.5 for class 1"),
        ([3, 1, math.nan], "Got nan for class 2"),
        ([3, 1, math.inf], "Got inf for class 2"),
        ([3, 1], "Got 2 numbers"),
        ([], "Got []"),
        ("abc", "Got 'abc'"),
        (7, "Got 7"),
        ([[1, 2], [3, 4]], "Got [[1, 2], [3, 4]]"),
        (torch.ones(3, 1), "Got tensor"),
    ],
)
def test_wrong_counts_are_named(counts: object, words: str) -> None:
    fault = class_counts_fault("X", counts, 3)
    assert fault is not None
    assert words in fault
    assert "3 positive numbers, one a class" in fault
    assert class_counts_fault("X", [1, 2.5, 3], 3) is None
    assert class_counts_fault("X", torch.tensor([1, 2, 3])) is None
