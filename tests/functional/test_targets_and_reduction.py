from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from logitlab.config.errors import InputError
from logitlab.functional import check_target, reduce_loss, sample_weight, softmax_cross_entropy


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (torch.tensor([0, 5]), r"class indices in \[0, 3\) or ignore_index -100. Got 5"),
        (torch.tensor([0, -1]), r"Got -1"),
        (torch.tensor([0]), r"shape \(2,\).*Got \(1,\)"),
        (torch.tensor([True, False]), "bool"),
        (torch.tensor([1j, 0j]), "complex"),
        (torch.tensor([0.0, 1.0]), r"integer dtype: target.long\(\)"),
        (torch.rand(2, 4), r"shape \(2, 3\). Got \(2, 4\)"),
        (torch.tensor([[0.5, 0.6, -0.1], [1.0, 0.0, 0.0]]), r"\[0, 1\]. Got values from -0.1"),
        (torch.tensor([[0.5, 0.5, float("nan")], [1.0, 0.0, 0.0]]), r"\[0, 1\]. Got values from nan"),
        (torch.tensor([[0.5, 0.5, 0.5], [1.0, 0.0, 0.0]]), "sum of 1.5"),
    ],
)
def test_bad_targets_are_refused_in_words(target: torch.Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_target(target, torch.zeros(2, 3))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_any_integer_dtype_serves(dtype: torch.dtype) -> None:
    checked = check_target(torch.tensor([0, 2], dtype=dtype), torch.zeros(2, 3))
    assert checked.dtype == torch.int64
    assert checked.tolist() == [0, 2]


def test_probabilities_take_the_dtype_of_the_logits() -> None:
    assert check_target(torch.tensor([[0.5, 0.5]]).half(), torch.zeros(1, 2).double()).dtype == torch.float64


def test_values_are_not_read_off_the_cpu() -> None:
    # A meta tensor has no values: reading one would raise, as it would stall a GPU.
    check_target(torch.empty(4, dtype=torch.long, device="meta"), torch.empty(4, 3, device="meta"))
    check_target(torch.empty(4, 3, device="meta"), torch.empty(4, 3, device="meta"))


def test_values_are_not_read_inside_torch_func() -> None:
    def loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return softmax_cross_entropy(logits, check_target(target, logits))

    logits, target = torch.randn(6, 3), torch.randint(3, (6,))
    expected = F.cross_entropy(logits, target, reduction="none")
    torch.testing.assert_close(torch.func.vmap(loss)(logits, target), expected)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("soft", [False, True])
def test_reductions_are_torchs(reduction: str, weighted: bool, soft: bool) -> None:
    logits = torch.randn(12, 5, dtype=torch.float64)
    weight = torch.rand(5, dtype=torch.float64) + 0.2 if weighted else None
    if soft:
        target = torch.rand(12, 5, dtype=torch.float64).softmax(-1)
        safe = target
    else:
        target = torch.randint(5, (12,))
        target[3] = target[7] = -100
        safe = target.clamp_min(0)
    loss = softmax_cross_entropy(logits, safe, weight)
    actual = reduce_loss(loss, target, reduction, class_weight=weight)  # type: ignore[arg-type]
    torch.testing.assert_close(actual, F.cross_entropy(logits, target, weight, reduction=reduction))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("count", [0, 3])
def test_no_sample_that_counts_gives_zero_with_zero_gradient(reduction: str, count: int) -> None:
    loss = torch.randn(count, requires_grad=True)
    total = reduce_loss(loss * 2, torch.full((count,), -100), reduction)  # type: ignore[arg-type]
    total.backward()
    assert total.item() == 0.0
    assert loss.grad is not None
    assert loss.grad.tolist() == [0.0] * count


def test_an_unknown_reduction_is_refused() -> None:
    with pytest.raises(InputError, match="'mean', 'sum' or 'none'. Got 'average'"):
        reduce_loss(torch.zeros(1), torch.zeros(1, dtype=torch.long), "average")  # type: ignore[arg-type]


def test_weight_of_a_soft_target_is_its_mean() -> None:
    weight = torch.tensor([1.0, 3.0])
    assert sample_weight(torch.tensor([[0.25, 0.75]]), weight).tolist() == [2.5]
