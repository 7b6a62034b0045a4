from __future__ import annotations

import importlib
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from logitlab.config.errors import InputError
from logitlab.functional import (
    KAPPA_CANDIDATES,
    check_candidates,
    equiangular_kappa,
    least_squares_kappa,
    normalize,
    projection_energy,
    search_least_squares,
)

#: T §5: what counts is the energy of the choice, for candidates tie.
REGRET = 2e-6


def brute_force_energy(features: np.ndarray, weight: np.ndarray, kappa: float) -> np.ndarray:
    """T Eq. (10) with loops and NumPy in float64."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    rows = weight / np.linalg.norm(weight, axis=1, keepdims=True)
    energies = []
    for x in unit:
        z = np.array([x @ w for w in rows])
        a = np.exp(kappa * z - (kappa * z).max())
        a /= a.sum()
        energies.append(0.5 * ((x - sum(a_c * w for a_c, w in zip(a, rows))) ** 2).sum())
    return np.array(energies)


def simplex(num_classes: int, dimension: int) -> np.ndarray:
    """Vertices of a regular simplex as unit rows: every two at cosine -1/(C-1)."""
    centred = np.eye(num_classes) - 1 / num_classes
    rows = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    return np.hstack([rows, np.zeros((num_classes, dimension - num_classes))])


def test_candidates_are_those_of_the_supplement() -> None:
    np.testing.assert_allclose(KAPPA_CANDIDATES, torch.exp(torch.linspace(-2, 5, 20)).numpy(), rtol=1e-6)


@pytest.mark.parametrize("kappa", [0.2, 3.0, 40.0])
def test_energy_is_the_brute_force_one(kappa: float) -> None:
    generator = np.random.default_rng(0)
    features, weight = generator.normal(size=(8, 6)), generator.normal(size=(5, 6))
    unit = torch.nn.functional.normalize
    actual = projection_energy(unit(torch.tensor(features)), unit(torch.tensor(weight)), kappa)
    np.testing.assert_allclose(actual.numpy(), brute_force_energy(features, weight, kappa), rtol=1e-12)


def test_energy_with_a_kappa_for_each_sample() -> None:
    unit = torch.nn.functional.normalize(torch.randn(3, 4, dtype=torch.float64))
    weight = torch.nn.functional.normalize(torch.randn(5, 4, dtype=torch.float64))
    kappas = [0.5, 5.0, 50.0]
    together = projection_energy(unit, weight, torch.tensor(kappas, dtype=torch.float64))
    alone = [projection_energy(unit[i : i + 1], weight, kappa) for i, kappa in enumerate(kappas)]
    torch.testing.assert_close(together, torch.cat(alone))


@given(
    seed=st.integers(0, 10_000),
    num_classes=st.integers(1, 30),
    dimension=st.integers(1, 20),
    alignment=st.floats(0, 20),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
)
@settings(max_examples=60, deadline=None)
def test_the_choice_has_the_lowest_energy_of_all_candidates(
    seed: int, num_classes: int, dimension: int, alignment: float, scale: float
) -> None:
    generator = np.random.default_rng(seed)
    weight = generator.normal(size=(num_classes, dimension))
    labels = generator.integers(num_classes, size=6)
    features = (generator.normal(size=(6, dimension)) + alignment * weight[labels]) * scale
    features32, weight32 = torch.tensor(features, dtype=torch.float32), torch.tensor(weight, dtype=torch.float32)
    kappa = least_squares_kappa(features32, weight32).numpy()
    grid = np.stack(
        [brute_force_energy(features32.double().numpy(), weight32.double().numpy(), c) for c in KAPPA_CANDIDATES]
    )
    chosen = np.array([np.abs(np.array(KAPPA_CANDIDATES) - k).argmin() for k in kappa])
    np.testing.assert_allclose(np.array(KAPPA_CANDIDATES)[chosen], kappa, rtol=1e-6)
    assert (grid[chosen, np.arange(6)] - grid.min(axis=0)).max() <= REGRET


@pytest.mark.parametrize("num_classes", [2, 10, 100, 1000])
@pytest.mark.parametrize("angle", [5.0, 20.0, 37.0, 45.0, 60.0, 80.0])
def test_simplex_weights_give_the_closed_form(num_classes: int, angle: float) -> None:
    """Features at a known angle, deviating orthogonally to the span of the weights."""
    dimension = num_classes + 1
    weight = simplex(num_classes, dimension)
    theta = math.radians(angle)
    features = math.cos(theta) * weight[:1]
    features[0, -1] = math.sin(theta)
    p = ((num_classes - 1) * math.cos(theta) + 1) / num_classes
    continuous = (math.log(p / (1 - p)) + math.log(num_classes - 1)) / (
        math.cos(theta) * num_classes / (num_classes - 1)
    )
    assert equiangular_kappa(num_classes, angle) == pytest.approx(continuous, rel=1e-12)

    energies = [brute_force_energy(features, weight, candidate)[0] for candidate in KAPPA_CANDIDATES]
    expected = KAPPA_CANDIDATES[int(np.argmin(energies))]
    for dtype in (torch.float32, torch.float64):
        chosen = least_squares_kappa(torch.tensor(features, dtype=dtype), torch.tensor(weight, dtype=dtype)).item()
        assert chosen == pytest.approx(expected, rel=1e-6)
    if KAPPA_CANDIDATES[0] <= continuous <= KAPPA_CANDIDATES[-1]:
        above = next(c for c in KAPPA_CANDIDATES if c >= continuous)
        below = max(c for c in KAPPA_CANDIDATES if c <= continuous)
        assert expected in (below, above)


@pytest.mark.parametrize("num_classes", [2, 10, 300])
@pytest.mark.parametrize("angle", [10.0, 50.0])
def test_closed_form_is_the_minimum_that_scipy_finds(num_classes: int, angle: float) -> None:
    weight = simplex(num_classes, num_classes + 1)
    features = math.cos(math.radians(angle)) * weight[:1]
    features[0, -1] = math.sin(math.radians(angle))
    # Far above the minimum the energy is flat, so the search is kept near the best candidate of the grid.
    start = KAPPA_CANDIDATES[int(np.argmin([brute_force_energy(features, weight, c)[0] for c in KAPPA_CANDIDATES]))]
    found = minimize_scalar(
        lambda kappa: brute_force_energy(features, weight, kappa)[0],
        bounds=(start / 2, start * 2),
        method="bounded",
        options={"xatol": 1e-9},
    )
    assert equiangular_kappa(num_classes, angle) == pytest.approx(found.x, rel=1e-4)


def test_one_class_has_kappa_one_at_the_start() -> None:
    assert equiangular_kappa(1) == 1.0


def test_equiangular_arguments_are_checked() -> None:
    with pytest.raises(InputError, match="at least one class. Got 0"):
        equiangular_kappa(0)
    with pytest.raises(InputError, match=r"\(0, 90\). Got 90"):
        equiangular_kappa(10, 90.0)


def test_ties_go_to_the_smallest_candidate() -> None:
    # One class: the softmax is 1 whatever κ is.
    assert least_squares_kappa(torch.randn(4, 3), torch.randn(1, 3)).tolist() == [pytest.approx(math.exp(-2))] * 4


def test_half_precision_and_autocast_decide_in_float32() -> None:
    features, weight = torch.randn(64, 16).bfloat16(), torch.randn(10, 16).bfloat16()
    expected = least_squares_kappa(features.float(), weight.float())
    assert torch.equal(least_squares_kappa(features, weight), expected)
    unit_features, unit_weight = normalize(features), normalize(weight)
    energy = projection_energy(unit_features, unit_weight, 5.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(least_squares_kappa(features.float(), weight.float()), expected)
        assert torch.equal(search_least_squares(unit_features, unit_weight), expected)
        assert torch.equal(projection_energy(unit_features, unit_weight, 5.0), energy)


def test_the_choice_is_detached() -> None:
    features = torch.randn(3, 4, requires_grad=True)
    assert not least_squares_kappa(features, torch.randn(5, 4, requires_grad=True)).requires_grad


def test_leading_shapes_are_kept() -> None:
    features, weight = torch.randn(2, 3, 4), torch.randn(5, 4)
    kappa = least_squares_kappa(features, weight)
    assert torch.equal(kappa.flatten(), least_squares_kappa(features.flatten(0, 1), weight))


@pytest.mark.parametrize("candidates", [[], [1.0, -1.0], [0.0, 1.0], [1.0, math.inf], [2.0, 1.0], [1.0, 1.0]])
def test_bad_candidates_are_refused(candidates: list[float]) -> None:
    with pytest.raises(InputError, match="candidate"):
        check_candidates(candidates)


def test_shapes_are_checked() -> None:
    with pytest.raises(InputError, match=r"one D. Got \(2, 3\) and \(5, 4\)"):
        least_squares_kappa(torch.zeros(2, 3), torch.zeros(5, 4))


def feature_beside_simplex(num_classes: int, angle: float) -> tuple[torch.Tensor, torch.Tensor]:
    weight = simplex(num_classes, num_classes + 1)
    features = math.cos(math.radians(angle)) * weight[:1]
    features[0, -1] = math.sin(math.radians(angle))
    return torch.tensor(features), torch.tensor(weight)


@pytest.mark.parametrize("num_classes", [3, 10, 100])
@pytest.mark.parametrize("angle", [20.0, 45.0, 70.0])
def test_continuous_search_finds_the_closed_form(num_classes: int, angle: float) -> None:
    features, weight = feature_beside_simplex(num_classes, angle)
    found = least_squares_kappa(features, weight, search="continuous").item()
    assert found == pytest.approx(equiangular_kappa(num_classes, angle), rel=5e-4)
    # The grid is coarser: two of its values are 45% apart.
    assert abs(found / least_squares_kappa(features, weight).item() - 1) > 1e-3


@given(seed=st.integers(0, 10_000), num_classes=st.integers(1, 30), alignment=st.floats(0, 20))
@settings(max_examples=40, deadline=None)
def test_continuous_search_is_never_worse_than_the_grid(seed: int, num_classes: int, alignment: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(num_classes, 8, generator=generator)
    labels = torch.randint(num_classes, (16,), generator=generator)
    features = torch.randn(16, 8, generator=generator) + alignment * weight[labels]
    unit_features, unit_weight = normalize(features), normalize(weight)
    grid = search_least_squares(unit_features, unit_weight)
    refined = search_least_squares(unit_features, unit_weight, search="continuous")
    of_grid, of_refined = (
        projection_energy(unit_features.double(), unit_weight.double(), kappa.double()) for kappa in (grid, refined)
    )
    assert (of_refined - of_grid).max() <= REGRET
    # It stays in the best cell.
    assert ((refined / grid).log().abs() <= 7 / 19 + 1e-5).all()
    assert ((refined >= KAPPA_CANDIDATES[0]) & (refined <= KAPPA_CANDIDATES[-1] * (1 + 1e-6))).all()


def test_continuous_search_comes_within_float32_of_the_best_in_its_cell() -> None:
    weight = torch.randn(10, 16)
    features = normalize(torch.randn(200, 16) + 2 * weight[torch.arange(200) % 10])
    unit_weight = normalize(weight)
    refined = search_least_squares(features, unit_weight, search="continuous")
    grid = search_least_squares(features, unit_weight)
    features, unit_weight = features.double(), unit_weight.double()
    fine = torch.stack(
        [
            projection_energy(features, unit_weight, (grid.double() * math.exp(shift)).clamp(*KAPPA_CANDIDATES[::19]))
            for shift in np.linspace(-7 / 19, 7 / 19, 201)
        ]
    )
    regret = projection_energy(features, unit_weight, refined.double()) - fine.amin(0)
    # Several minima in one cell are possible but rare.
    assert (regret <= REGRET).double().mean() >= 0.99


def test_one_candidate_leaves_nothing_to_refine() -> None:
    found = least_squares_kappa(torch.randn(3, 4), torch.randn(5, 4), [2.0], search="continuous")
    torch.testing.assert_close(found, torch.full((3,), 2.0))
    with pytest.raises(InputError, match="'grid', 'continuous' or 'surrogate'"):
        least_squares_kappa(torch.randn(3, 4), torch.randn(5, 4), search="newton")  # type: ignore[arg-type]


def test_a_refinement_that_leads_astray_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def astray(function, low, high, steps):  # type: ignore[no-untyped-def]
        return low - 5, function(low - 5)

    module = importlib.import_module("logitlab.functional.least_squares.search")
    monkeypatch.setattr(module, "golden_section", astray)
    features, weight = torch.randn(8, 4), torch.randn(5, 4)
    unit, rows = normalize(features + 3 * weight[:1]), normalize(weight)
    grid, refined = (search_least_squares(unit, rows, search=search) for search in ("grid", "continuous"))
    assert torch.equal(refined, grid)
