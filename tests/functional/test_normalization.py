from __future__ import annotations

import numpy as np
import pytest
import torch

from logitlab.functional import at_least_float32, cosine_similarity, normalize


def test_rows_get_length_one_as_numpy_computes_it() -> None:
    rows = torch.randn(50, 7, dtype=torch.float64)
    expected = rows.numpy() / np.sqrt((rows.numpy() ** 2).sum(-1, keepdims=True))
    np.testing.assert_allclose(normalize(rows).numpy(), expected, rtol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_zero_row_stays_zero_with_zero_gradient(dtype: torch.dtype) -> None:
    rows = torch.tensor([[0.0, 0.0, 0.0], [3.0, 4.0, 0.0]], dtype=dtype, requires_grad=True)
    unit = normalize(rows)
    unit.sum().backward()
    assert unit[0].tolist() == [0.0, 0.0, 0.0]
    torch.testing.assert_close(unit[1], torch.tensor([0.6, 0.8, 0.0], dtype=unit.dtype))
    assert rows.grad is not None
    assert rows.grad[0].tolist() == [0.0, 0.0, 0.0]
    assert rows.grad.isfinite().all()


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1.0, 1e10, 3e37])
def test_the_scale_of_a_float32_row_does_not_matter(scale: float) -> None:
    rows = torch.randn(20, 5)
    torch.testing.assert_close(normalize(rows * scale), normalize(rows), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 3e37])
def test_gradients_stay_finite_and_orthogonal_to_the_row(scale: float) -> None:
    rows = (torch.randn(20, 5) * scale).requires_grad_()
    (normalize(rows) * torch.randn(5)).sum().backward()
    assert rows.grad is not None
    assert rows.grad.isfinite().all()
    # The derivative of a direction along its own row is zero.
    along = (rows.grad * normalize(rows)).sum(-1).abs()
    assert (along <= 1e-5 * rows.grad.norm(dim=-1) + 1e-37).all()


def test_half_precision_is_widened() -> None:
    assert normalize(torch.ones(1, 2, dtype=torch.float16)).dtype == torch.float32
    assert at_least_float32(torch.ones(1, dtype=torch.float16), torch.ones(1, dtype=torch.bfloat16)) == torch.float32


def test_gradient_and_second_derivative_are_those_of_the_formula() -> None:
    rows = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(normalize, rows)
    assert torch.autograd.gradgradcheck(normalize, rows)


def test_second_derivative_of_a_zero_row_is_zero() -> None:
    rows = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(normalize(rows).sum(), rows, create_graph=True)
    (second,) = torch.autograd.grad(gradient.sum(), rows)
    assert second.tolist() == [[0.0, 0.0, 0.0]]


def test_autocast_does_not_coarsen_cosines() -> None:
    features, weight = torch.randn(6, 9), torch.randn(4, 9)
    expected = cosine_similarity(features, weight)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(cosine_similarity(features, weight), expected, rtol=0, atol=0)


def test_cosines_of_known_angles() -> None:
    degrees = torch.tensor([0.0, 30.0, 60.0, 90.0, 180.0], dtype=torch.float64)
    features = torch.stack([degrees.deg2rad().cos(), degrees.deg2rad().sin()], dim=-1) * 7
    weight = torch.tensor([[0.5, 0.0]], dtype=torch.float64)
    expected = torch.tensor([1.0, 3**0.5 / 2, 0.5, 0.0, -1.0], dtype=torch.float64)
    torch.testing.assert_close(cosine_similarity(features, weight)[:, 0], expected, rtol=0, atol=1e-15)


def test_cosine_is_torchs_own_away_from_zero() -> None:
    features, weight = torch.randn(2, 6, 9, dtype=torch.float64), torch.randn(4, 9, dtype=torch.float64)
    expected = torch.nn.functional.cosine_similarity(features.unsqueeze(-2), weight, dim=-1)
    torch.testing.assert_close(cosine_similarity(features, weight), expected, rtol=1e-12, atol=1e-14)
