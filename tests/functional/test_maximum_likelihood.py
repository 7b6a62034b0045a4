from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import torch

from logitlab.config.errors import InputError
from logitlab.functional import (
    KAPPA_CANDIDATES,
    cosine_similarity,
    maximum_likelihood_energy,
    search_maximum_likelihood,
)


def brute_force(cosine: np.ndarray, kappa: float, dimension: int, normalizer: str) -> np.ndarray:
    """T Eq. (5) with loops, relative to the uniform density, in many digits."""
    energies = []
    with mpmath.workdps(40):
        order, x = mpmath.mpf(dimension) / 2 - 1, mpmath.mpf(kappa)
        beta = order + 2
        root = mpmath.sqrt(x * x + beta * beta)
        if normalizer == "bound":
            log_ratio = root - beta - order * mpmath.log((order + root) / (order + beta))
        else:
            log_ratio = mpmath.log(mpmath.hyp0f1(order + 1, x * x / 4))
        for row in cosine:
            density = mpmath.fsum(mpmath.exp(x * mpmath.mpf(float(z)) - log_ratio) for z in row) / len(row)
            energies.append(float(-mpmath.log(density)))
    return np.array(energies)


@pytest.mark.parametrize("normalizer", ["bound", "exact"])
@pytest.mark.parametrize("dimension", [2, 16, 2048])
@pytest.mark.parametrize("kappa", [0.14, 5.0, 148.0])
def test_energy_is_the_negative_log_likelihood(normalizer: str, dimension: int, kappa: float) -> None:
    cosine = torch.rand(4, 6, dtype=torch.float64) * 2 - 1
    expected = brute_force(cosine.numpy(), kappa, dimension, normalizer)
    found = maximum_likelihood_energy(cosine, kappa, dimension, normalizer)  # type: ignore[arg-type]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10, atol=1e-14)


def test_energy_with_a_kappa_for_each_sample() -> None:
    cosine = torch.rand(3, 5, dtype=torch.float64)
    kappa = torch.tensor([0.2, 2.0, 200.0], dtype=torch.float64)
    together = maximum_likelihood_energy(cosine, kappa, 8)
    alone = [maximum_likelihood_energy(cosine[i], kappa[i].item(), 8) for i in range(3)]
    torch.testing.assert_close(together, torch.stack(alone))


@pytest.mark.parametrize("normalizer", ["bound", "exact"])
@pytest.mark.parametrize(("classes", "dimension"), [(1, 4), (3, 2), (10, 64), (300, 512), (20, 10_000)])
def test_the_choice_has_the_lowest_energy_of_all_candidates(normalizer: str, classes: int, dimension: int) -> None:
    weight = torch.randn(classes, dimension)
    near = torch.linspace(0, 5, 12).unsqueeze(1)
    cosine = cosine_similarity(torch.randn(12, dimension) + near * weight[torch.arange(12) % classes], weight)
    kappa = search_maximum_likelihood(cosine, dimension, normalizer=normalizer)  # type: ignore[arg-type]
    grid = np.stack([brute_force(cosine.numpy(), c, dimension, normalizer) for c in KAPPA_CANDIDATES])
    chosen = np.abs(np.array(KAPPA_CANDIDATES)[:, None] - kappa.numpy()).argmin(axis=0)
    np.testing.assert_allclose(np.array(KAPPA_CANDIDATES)[chosen], kappa.numpy(), rtol=1e-6)
    assert (grid[chosen, np.arange(12)] - grid.min(axis=0)).max() <= 2e-6


def test_one_class_has_the_maximum_likelihood_estimate_of_the_concentration() -> None:
    """For a single weight, A_D(κ̂) = z; in three dimensions coth κ - 1/κ = z."""
    candidates = [float(kappa) for kappa in np.geomspace(0.1, 100, 400)]
    for kappa in (0.5, 4.0, 40.0):
        cosine = torch.tensor([[1 / math.tanh(kappa) - 1 / kappa]], dtype=torch.float64)
        found = search_maximum_likelihood(cosine, 3, candidates, "exact").item()
        assert found == pytest.approx(kappa, rel=0.02)


def test_far_features_get_the_smallest_candidate_and_lowest_ties_win() -> None:
    assert search_maximum_likelihood(torch.full((2, 5), -0.2), 64).tolist() == pytest.approx([math.exp(-2)] * 2)
    assert search_maximum_likelihood(torch.zeros(1, 3), 2, [1.0]).item() == 1.0
    assert search_maximum_likelihood(torch.zeros(0, 3), 2).shape == (0,)


def test_extremes_are_finite() -> None:
    cosine = torch.tensor([[1.0, -1.0], [-1.0, -1.0], [0.0, 0.0], [1.0, 1.0]])
    for dimension in (2, 10_000):
        for normalizer in ("bound", "exact"):
            for kappa in (1e-6, 1e6):
                energy = maximum_likelihood_energy(cosine, kappa, dimension, normalizer)  # type: ignore[arg-type]
                assert energy.isfinite().all()


def test_the_choice_is_detached_and_half_precision_decides_in_float32() -> None:
    cosine = torch.rand(4, 5, requires_grad=True)
    assert not search_maximum_likelihood(cosine, 16).requires_grad
    half = cosine.detach().half()
    assert torch.equal(search_maximum_likelihood(half, 16), search_maximum_likelihood(half.float(), 16))


def test_leading_shapes_are_kept() -> None:
    cosine = torch.rand(2, 3, 4)
    assert torch.equal(
        search_maximum_likelihood(cosine, 8).flatten(), search_maximum_likelihood(cosine.flatten(0, 1), 8)
    )


def test_faults() -> None:
    with pytest.raises(InputError, match="'bound' or 'exact'. Got 'exat'"):
        maximum_likelihood_energy(torch.zeros(1, 2), 1.0, 4, "exat")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="at least 2"):
        search_maximum_likelihood(torch.zeros(1, 2), 1)
