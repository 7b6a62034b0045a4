from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from logitlab.functional import rival_logsumexp, softmax_cross_entropy


def test_hand_computed_value() -> None:
    # p = e^2 / (e^2 + e^1 + e^0)
    expected = -math.log(math.e**2 / (math.e**2 + math.e + 1))
    loss = softmax_cross_entropy(torch.tensor([[2.0, 1.0, 0.0]], dtype=torch.float64), torch.tensor([0]))
    assert loss.item() == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("soft", [False, True])
def test_value_and_gradient_are_torchs(weighted: bool, soft: bool) -> None:
    logits = (3 * torch.randn(40, 7, dtype=torch.float64)).requires_grad_()
    weight = torch.rand(7, dtype=torch.float64) + 0.1 if weighted else None
    target = torch.rand(40, 7, dtype=torch.float64).softmax(-1) if soft else torch.randint(7, (40,))
    ours = softmax_cross_entropy(logits, target, weight)
    torchs = F.cross_entropy(logits, target, weight, reduction="none")
    torch.testing.assert_close(ours, torchs, rtol=1e-12, atol=1e-13)
    upstream = torch.rand(40, dtype=torch.float64)
    ours_gradient = torch.autograd.grad(ours, logits, upstream)[0]
    torchs_gradient = torch.autograd.grad(torchs, logits, upstream)[0]
    torch.testing.assert_close(ours_gradient, torchs_gradient, rtol=1e-10, atol=1e-12)


def test_a_tiny_loss_keeps_its_digits_where_the_plain_sum_loses_them() -> None:
    logits = torch.tensor([[30.0, 0.0, 0.0]])
    expected = math.log1p(2 * math.exp(-30))
    assert softmax_cross_entropy(logits, torch.tensor([0])).item() == pytest.approx(expected, rel=1e-5)
    assert F.cross_entropy(logits, torch.tensor([0])).item() == 0.0


@pytest.mark.parametrize("size", [1e2, 1e4, 1e30])
def test_huge_logits_give_the_margin_and_a_finite_gradient(size: float) -> None:
    logits = torch.tensor([[size, -size, 0.0], [-size, size, 0.0]], requires_grad=True)
    loss = softmax_cross_entropy(logits, torch.tensor([0, 0]))
    loss.sum().backward()
    assert loss[0].item() == pytest.approx(0.0, abs=1e-30)
    assert loss[1].item() == pytest.approx(2 * size, rel=1e-6)
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.tensor([[0.0, 0.0, 0.0], [-1.0, 1.0, 0.0]]))


def test_gradcheck() -> None:
    logits = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    hard, soft = torch.tensor([0, 3, 1, 1, 2]), torch.randn(5, 4, dtype=torch.float64).softmax(-1)
    assert torch.autograd.gradcheck(lambda values: softmax_cross_entropy(values, hard), logits)
    assert torch.autograd.gradgradcheck(lambda values: softmax_cross_entropy(values, hard), logits)
    assert torch.autograd.gradcheck(lambda values: softmax_cross_entropy(values, soft), logits)


def test_adding_a_constant_to_all_logits_changes_nothing() -> None:
    logits, target = torch.randn(8, 5, dtype=torch.float64), torch.randint(5, (8,))
    torch.testing.assert_close(softmax_cross_entropy(logits + 11.5, target), softmax_cross_entropy(logits, target))


def test_one_hot_probabilities_equal_the_index() -> None:
    logits, target = torch.randn(2, 6, 5, dtype=torch.float64), torch.randint(5, (2, 6))
    one_hot = F.one_hot(target, 5).double()
    torch.testing.assert_close(softmax_cross_entropy(logits, one_hot), softmax_cross_entropy(logits, target))


def test_one_class_has_no_loss_and_no_gradient() -> None:
    logits = torch.randn(3, 1, requires_grad=True)
    loss = softmax_cross_entropy(logits, torch.zeros(3, dtype=torch.long))
    loss.sum().backward()
    assert loss.tolist() == [0.0, 0.0, 0.0]
    assert logits.grad is not None
    assert not logits.grad.any()


def test_masked_rivals_give_a_finite_gradient_as_torch_does() -> None:
    logits = torch.tensor([[1.0, -torch.inf, -torch.inf], [1.0, 2.0, -torch.inf]], requires_grad=True)
    loss = softmax_cross_entropy(logits, torch.tensor([0, 0]))
    loss.sum().backward()
    assert loss[0].item() == 0.0
    other = logits.detach().clone().requires_grad_()
    F.cross_entropy(other, torch.tensor([0, 0]), reduction="sum").backward()
    torch.testing.assert_close(logits.grad, other.grad)


def test_rivals_leave_the_target_out() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)
    expected = math.log(math.e + math.e**3)
    assert rival_logsumexp(logits, torch.tensor([1])).item() == pytest.approx(expected, rel=1e-14)
