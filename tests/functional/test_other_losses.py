from __future__ import annotations

import math

import pytest
import torch
from scipy import special
from torch.nn import functional as F

from logitlab.functional import (
    logit_penalty,
    normalize_logits,
    normalized_sigmoid,
    sigmoid_cross_entropy,
    squared_error,
    uniform_target,
    weight_penalty,
)


def test_sigmoid_by_hand() -> None:
    # target 0: -log σ(1) - log(1 - σ(-2)) - log(1 - σ(0.5))
    expected = math.log(1 + math.exp(-1)) + math.log(1 + math.exp(-2)) + math.log(1 + math.exp(0.5))
    loss = sigmoid_cross_entropy(torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64), torch.tensor([0]))
    assert loss.item() == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("soft", [False, True])
def test_sigmoid_is_torchs_binary_cross_entropy_summed_over_classes(soft: bool) -> None:
    logits, index = 4 * torch.randn(30, 6, dtype=torch.float64), torch.randint(6, (30,))
    probabilities = torch.rand(30, 6, dtype=torch.float64).softmax(-1) if soft else F.one_hot(index, 6).double()
    expected = F.binary_cross_entropy_with_logits(logits, probabilities, reduction="none").sum(-1)
    actual = sigmoid_cross_entropy(logits, probabilities if soft else index)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-14)


def test_sigmoid_of_huge_logits() -> None:
    logits = torch.tensor([[1e4, -1e4, -1e4], [-1e4, 1e4, -1e4]], requires_grad=True)
    loss = sigmoid_cross_entropy(logits, torch.tensor([0, 0]))
    loss.sum().backward()
    assert loss.tolist() == [0.0, 2e4]
    assert logits.grad is not None
    assert logits.grad.tolist() == [[0.0, 0.0, 0.0], [-1.0, 1.0, 0.0]]


def test_normalized_sigmoid_is_scipys_expit_over_its_sum() -> None:
    logits = 3 * torch.randn(20, 5, dtype=torch.float64)
    expected = special.expit(logits.numpy())
    expected /= expected.sum(-1, keepdims=True)
    torch.testing.assert_close(normalized_sigmoid(logits), torch.from_numpy(expected), rtol=1e-12, atol=1e-15)


def test_squared_error_by_hand() -> None:
    # (1/2) (9 (1 - 3)^2 + 2^2) = 20
    logits = torch.tensor([[1.0, 2.0]])
    assert squared_error(logits, torch.tensor([0]), target_weight=9.0, target_value=3.0).item() == 20.0


def test_squared_error_with_ones_is_the_mean_squared_error() -> None:
    logits, target = torch.randn(20, 6, dtype=torch.float64), torch.randint(6, (20,))
    expected = F.mse_loss(logits, F.one_hot(target, 6).double(), reduction="none").mean(-1)
    actual = squared_error(logits, target, target_weight=1.0, target_value=1.0)
    torch.testing.assert_close(actual, expected)


def test_squared_error_of_a_soft_target_is_linear_in_it() -> None:
    logits = torch.randn(1, 3, dtype=torch.float64)
    parts = [squared_error(logits, torch.tensor([k]), target_weight=5.0, target_value=2.0) for k in range(3)]
    soft = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64)
    actual = squared_error(logits, soft, target_weight=5.0, target_value=2.0)
    torch.testing.assert_close(actual, 0.5 * parts[0] + 0.3 * parts[1] + 0.2 * parts[2])


def test_gradchecks() -> None:
    logits, target = torch.randn(4, 3, dtype=torch.float64, requires_grad=True), torch.tensor([0, 2, 1, 1])
    check = torch.autograd.gradcheck
    assert check(lambda values: sigmoid_cross_entropy(values, target), logits)
    assert check(lambda values: squared_error(values, target, target_weight=9.0, target_value=6.0), logits)
    assert check(lambda values: logit_penalty(values, 0.3), logits)
    assert check(normalize_logits, logits)
    assert check(normalized_sigmoid, logits)
    assert check(lambda values: weight_penalty(values, 0.7), logits)


def test_penalties_by_hand() -> None:
    assert logit_penalty(torch.tensor([[3.0, 4.0], [1.0, 0.0]]), 0.2).tolist() == pytest.approx([5.0, 0.2])
    assert weight_penalty(torch.tensor([[1.0, 2.0], [2.0, 4.0]]), 0.2).item() == pytest.approx(2.5)
    assert uniform_target(torch.zeros(1, 5)).tolist() == [pytest.approx([0.2] * 5)]
    assert normalize_logits(torch.tensor([[3.0, 4.0]])).tolist() == [pytest.approx([0.6, 0.8])]
