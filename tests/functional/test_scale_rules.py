"""The rule of thumb and AdaCos: κ without a search."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from logitlab.config.errors import InputError
from logitlab.functional import adacos_kappa, adacos_step, normalize, rule_of_thumb_kappa


def planted(share: float, classes: int = 50, dimension: int = 32) -> torch.Tensor:
    """Unit weights about a common direction: share 0 for none, towards 1 all alike."""
    mean = torch.zeros(dimension, dtype=torch.float64)
    mean[0] = 1
    return normalize(share * mean + (1 - share) * normalize(torch.randn(classes, dimension, dtype=torch.float64)))


def test_rule_of_thumb_is_its_formula() -> None:
    weight = planted(0.6)
    rows = [row / np.linalg.norm(row) for row in weight.numpy()]
    mean = np.linalg.norm(np.mean(rows, axis=0))
    expected = mean * (32 - mean**2) / (1 - mean**2)
    assert rule_of_thumb_kappa(weight).item() == pytest.approx(expected, rel=1e-12)
    assert rule_of_thumb_kappa(weight.float()).item() == pytest.approx(expected, rel=1e-5)


def test_rule_of_thumb_diverges_as_the_weights_gather() -> None:
    """The closer r̄ to 1, the larger κ; (1 - r̄²) κ tends to D - 1."""
    shares = [0.0, 0.5, 0.9, 0.99, 0.999, 0.9999]
    weights = [planted(share) for share in shares]
    kappas = [rule_of_thumb_kappa(weight).item() for weight in weights]
    assert kappas == sorted(kappas)
    assert kappas[0] < 10
    assert kappas[-1] == 1e6  # the cap: without it 3e9
    spread = 1 - weights[3].mean(dim=0).square().sum().item()
    assert kappas[3] * spread == pytest.approx(31, rel=1e-3)


def test_rule_of_thumb_grows_with_the_dimension() -> None:
    few, many = torch.eye(4, 16, dtype=torch.float64), torch.eye(4, 2048, dtype=torch.float64)
    assert rule_of_thumb_kappa(many) / rule_of_thumb_kappa(few) == pytest.approx((2048 - 0.25) / (16 - 0.25))


def test_rule_of_thumb_stays_in_its_range() -> None:
    assert rule_of_thumb_kappa(torch.eye(3)[:1].expand(5, 3)).item() == 1e6  # all alike
    assert rule_of_thumb_kappa(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])).item() == pytest.approx(1e-3)  # balanced
    assert rule_of_thumb_kappa(torch.zeros(3, 4)).item() == pytest.approx(1e-3)
    assert rule_of_thumb_kappa(torch.ones(3, 1)).item() == pytest.approx(1.0)  # D = 1: κ = r̄
    assert not rule_of_thumb_kappa(torch.randn(3, 4, requires_grad=True)).requires_grad


@pytest.mark.parametrize(("classes", "expected"), [(10, 3.1073), (100, 6.4985), (1000, 9.7676)])
def test_adacos_fixed(classes: int, expected: float) -> None:
    assert adacos_kappa(classes) == pytest.approx(expected, abs=1e-4)
    # At 45° to the own class and 90° to the others the probability is one half.
    logits = torch.zeros(classes, dtype=torch.float64)
    logits[0] = adacos_kappa(classes) * math.cos(math.pi / 4)
    assert logits.softmax(0)[0].item() == pytest.approx(0.5)


def test_adacos_fixed_for_few_classes() -> None:
    assert adacos_kappa(1) == adacos_kappa(2) == adacos_kappa(3) == pytest.approx(math.sqrt(2) * math.log(2))
    with pytest.raises(InputError, match="Got 0"):
        adacos_kappa(0)


def by_hand(cosine: np.ndarray, target: np.ndarray, kappa: float) -> float:
    """The paper's rule with loops and angles."""
    total, angles = 0.0, []
    for row, y in zip(cosine, target):
        total += sum(math.exp(kappa * z) for c, z in enumerate(row) if c != y)
        angles.append(math.acos(row[y]))
    median = sorted(angles)[(len(angles) - 1) // 2]
    return math.log(total / len(target)) / math.cos(min(math.pi / 4, median))


@pytest.mark.parametrize("size", [1, 2, 7, 8])
@pytest.mark.parametrize("own", [-0.5, 0.5, 0.9])
def test_adacos_step_is_the_papers_rule(size: int, own: float) -> None:
    cosine = torch.rand(size, 6, dtype=torch.float64) * 0.4 - 0.1
    target = torch.randint(6, (size,))
    cosine[torch.arange(size), target] = own + 0.1 * torch.rand(size, dtype=torch.float64)
    found = adacos_step(cosine, target, torch.tensor(5.0, dtype=torch.float64))
    assert found.item() == pytest.approx(by_hand(cosine.numpy(), target.numpy(), 5.0), rel=1e-12)


def test_samples_that_do_not_count_have_no_say_in_adacos() -> None:
    cosine, target = torch.rand(5, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 0])
    kappa = torch.tensor(3.0, dtype=torch.float64)
    expected = adacos_step(cosine, target, kappa)
    more = torch.cat([torch.full((2, 4), math.nan, dtype=torch.float64), cosine])
    labels = torch.cat([torch.tensor([-100, 99]), target])
    counts = torch.tensor([False, False, True, True, True, True, True])
    torch.testing.assert_close(adacos_step(more, labels, kappa, counts), expected)
    nothing = adacos_step(more, labels, kappa, torch.zeros(7, dtype=torch.bool))
    assert nothing.isfinite()


def test_adacos_step_never_overflows() -> None:
    cosine = torch.tensor([[1.0, 1.0, 1.0]])
    for kappa in (1e-3, 1e6):
        assert 1e-3 <= adacos_step(cosine, torch.tensor([0]), torch.tensor(kappa)).item() <= 1e6
    assert adacos_step(-cosine, torch.tensor([0]), torch.tensor(50.0)).item() == pytest.approx(1e-3)
    assert adacos_step(cosine[:, :1], torch.tensor([0]), torch.tensor(50.0)).item() == pytest.approx(1e-3)
