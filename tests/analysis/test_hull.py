"""Projections onto the hull of the weights against all supports, the conditions of optimality, and closed forms."""

import json
import math
from itertools import combinations

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from logitlab.analysis import HullProjection, arrays, hull, hull_projection
from logitlab.config.errors import InputError
from logitlab.functional import KAPPA_CANDIDATES


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def least_over_supports(x: np.ndarray, weight: np.ndarray) -> tuple[float, np.ndarray]:
    """Try every set of classes: least squares on the affine hull of each, kept where it lies in the convex one."""
    lowest, best = math.inf, np.zeros(len(weight))
    for size in range(1, len(weight) + 1):
        for support in combinations(range(len(weight)), size):
            first, others = weight[support[0]], weight[list(support[1:])]
            shares = np.linalg.lstsq((others - first).T, x - first)[0] if size > 1 else np.empty(0)
            alpha = np.zeros(len(weight))
            alpha[list(support)] = [1 - shares.sum(), *shares]
            residual = 0.5 * np.square(x - alpha @ weight).sum()
            if alpha.min() >= -1e-12 and residual < lowest:
                lowest, best = residual, alpha
    return lowest, best


def check_optimality(found: HullProjection, x: np.ndarray, weight: np.ndarray) -> None:
    """Karush-Kuhn-Tucker: no class has a lower slope than the mean of those in use, which all have the same one."""
    alpha = found.coefficients.numpy()
    assert alpha.min() >= 0
    np.testing.assert_allclose(alpha.sum(axis=1), 1, rtol=1e-13)
    toward = alpha @ weight - x
    np.testing.assert_allclose(found.residual, 0.5 * np.square(toward).sum(axis=1), atol=1e-14)
    slope = toward @ weight.T
    mean = (alpha * slope).sum(axis=1)
    assert (mean - slope.min(axis=1)).max() < 1e-12
    assert np.abs((slope - mean[:, None])[alpha > 1e-12]).max() < 1e-10


@pytest.mark.parametrize("num_classes", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("length", [2, 3, 9])
def test_equals_all_supports(num_classes: int, length: int) -> None:
    generator = np.random.default_rng(10 * num_classes + length)
    x, weight = generator.normal(size=(25, length)), generator.normal(size=(num_classes, length))
    # Half of the features near a weight, as trained ones are; all of any length.
    x[::2] = 0.3 * x[::2] + weight[generator.integers(0, num_classes, 13)]
    found = hull_projection(1e3 * x, torch.from_numpy(7 * weight), split="test")
    expected = [least_over_supports(row, unit(weight)) for row in unit(x)]
    np.testing.assert_allclose(found.residual, [residual for residual, _ in expected], rtol=0, atol=1e-12)
    if num_classes <= length:
        np.testing.assert_allclose(found.coefficients, [alpha for _, alpha in expected], atol=1e-9)
        np.testing.assert_array_equal(found.support, [(alpha > 1e-12).sum() for _, alpha in expected])
    assert found.value == pytest.approx(np.mean([residual for residual, _ in expected]), rel=1e-9)
    check_optimality(found, unit(x), unit(weight))
    assert (found.n, found.split, found.warnings) == (25, "test", ())


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 60), st.integers(1, 12), st.sampled_from([0.01, 0.3, 1.0, 10.0]), st.integers(0, 2**32 - 1))
def test_optimality_and_bound(num_classes: int, length: int, spread: float, seed: int) -> None:
    # Weights around a common direction (spread 0.01: nearly parallel) or around none, some of them twice.
    generator = np.random.default_rng(seed)
    weight = generator.normal(size=length) + spread * generator.normal(size=(num_classes, length))
    weight[generator.random(num_classes) < 0.2] = weight[0]
    x = np.concatenate([generator.normal(size=(4, length)), weight[:2]])
    found = hull_projection(x, weight)
    check_optimality(found, unit(x), unit(weight))
    assert float(found.gap.max()) < 1e-12
    assert bool((found.residual <= found.softmax_residual + 1e-13).all())


def test_orthonormal_weights_project_onto_the_simplex() -> None:
    # With W = I, α is the projection of x̃ itself: sort, find the threshold (Held, Wolfe and Crowder, 1974).
    generator = np.random.default_rng(0)
    x = unit(generator.normal(size=(40, 50)) + 0.5)
    ordered = -np.sort(-x, axis=1)
    excess = (np.cumsum(ordered, axis=1) - 1) / np.arange(1, 51)
    last = (ordered > excess).sum(axis=1) - 1
    alpha = np.maximum(x - excess[np.arange(40), last][:, None], 0)
    found = hull_projection(x, np.eye(50))
    np.testing.assert_allclose(found.coefficients, alpha, atol=1e-12)
    np.testing.assert_array_equal(found.support, (alpha > 0).sum(axis=1))
    np.testing.assert_allclose(found.residual, 0.5 * np.square(x - alpha).sum(axis=1), rtol=1e-12)


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_the_order_in_which_classes_are_seen_changes_nothing(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(1)
    weight = generator.normal(size=(90, 20))
    x = generator.normal(size=(12, 20)) + weight[:12]
    usual = hull_projection(x, weight)
    monkeypatch.setattr(hull, "_STEP", step)
    monkeypatch.setattr(arrays, "_CHUNK_ELEMENTS", 100)
    found = hull_projection(x, weight)
    np.testing.assert_allclose(found.residual, usual.residual, atol=1e-13)
    np.testing.assert_allclose(found.coefficients, usual.coefficients, atol=1e-9)


def test_a_thousand_classes() -> None:
    generator = np.random.default_rng(2)
    weight = generator.normal(size=(1000, 128))
    x = generator.normal(size=(15, 128)) + weight[:15]
    found = hull_projection(x.astype(np.float32), weight.astype(np.float32))
    check_optimality(found, unit(x.astype(np.float32).astype(float)), unit(weight.astype(np.float32).astype(float)))
    assert float(found.support.double().mean()) < 128
    assert bool((found.residual <= found.softmax_residual).all())


@pytest.mark.parametrize("search", ["grid", "continuous"])
def test_softmax_at_kappa_star(search: str) -> None:
    generator = np.random.default_rng(3)
    weight, count = unit(generator.normal(size=(6, 8))), 20
    x = unit(generator.normal(size=(count, 8)) + weight[generator.integers(0, 6, count)])
    found = hull_projection(x, weight, search=search)  # type: ignore[arg-type]

    def softmax(kappa: np.ndarray) -> np.ndarray:
        shares = np.exp(kappa[:, None] * (x @ weight.T))
        return shares / shares.sum(axis=1, keepdims=True)

    def energy(kappa: np.ndarray) -> np.ndarray:
        return 0.5 * np.square(x - softmax(kappa) @ weight).sum(axis=1)

    kappa = found.kappa_star.numpy()
    grid = np.array([energy(np.full(count, candidate)) for candidate in KAPPA_CANDIDATES])
    np.testing.assert_allclose(found.softmax_residual, energy(kappa), rtol=1e-10)
    if search == "grid":
        np.testing.assert_array_equal(kappa, np.array(KAPPA_CANDIDATES)[grid.argmin(axis=0)])
    assert (energy(kappa) <= grid.min(axis=0) + 1e-15).all()
    assert bool((found.residual <= found.softmax_residual).all())
    correlation = [np.corrcoef(pair)[0, 1] for pair in zip(found.coefficients.numpy(), softmax(kappa))]
    np.testing.assert_allclose(found.correlation, correlation, rtol=1e-9)


def test_repeated_weights_change_only_the_coefficients(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(4)
    x, weight = generator.normal(size=(30, 5)), generator.normal(size=(4, 5))
    once, twice = hull_projection(x, weight), hull_projection(x, np.concatenate([weight, 3 * weight[1:3]]))
    np.testing.assert_allclose(twice.residual, once.residual, atol=1e-13)
    shares = twice.coefficients[:, :4].clone()
    shares[:, 1:3] += twice.coefficients[:, 4:]
    np.testing.assert_allclose(shares, once.coefficients, atol=1e-9)
    assert (once.warnings, "2 weights repeat" in twice.warnings[0]) == ((), True)
    # An opposite weight is none that repeats; of three equal ones two do. By blocks, too.
    directions = torch.from_numpy(unit(np.concatenate([weight, -weight[:1], weight[:1], weight[:1]])))
    assert hull._repeated(directions) == 2
    monkeypatch.setattr(hull, "_GRAM_ELEMENTS", 14)
    assert hull._repeated(directions) == 2


def test_features_in_the_hull() -> None:
    weight = np.array([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.6, 0.8, 0.0]])
    found = hull_projection(5 * weight, weight)
    np.testing.assert_allclose(found.residual, 0, atol=1e-30)
    np.testing.assert_allclose(found.coefficients, np.eye(3), atol=1e-12)
    assert found.support.tolist() == [1, 1, 1]


def test_zero_features_and_weights() -> None:
    angles = 2 * np.pi * np.arange(3) / 3
    triangle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    # The origin is the centre of the triangle.
    found = hull_projection([[0.0, 0.0], [-1.0, 0.0]], triangle)
    np.testing.assert_allclose(found.coefficients[0], [1 / 3] * 3, atol=1e-14)
    np.testing.assert_allclose(found.residual, [0, 0.5 * 0.5**2], atol=1e-15)
    assert math.isnan(found.correlation[0])
    assert found.warnings == ("1 of 2 features are zero and are projected from the origin.",)
    # A zero weight is the origin, the nearest point of the hull to what points away from it.
    found = hull_projection([[-1.0, 0.0], [0.0, -1.0]], [[1.0, 0.0], [0.0, 0.0]])
    np.testing.assert_allclose(found.coefficients, [[0, 1], [0, 1]], atol=1e-15)
    np.testing.assert_allclose(found.residual, [0.5, 0.5], rtol=1e-15)
    assert "1 of 2 weights are zero" in found.warnings[0]


def test_one_class() -> None:
    found = hull_projection([[0.0, 2.0]], [[3.0, 0.0]], split="test")
    assert (found.value, found.support.tolist(), found.coefficients.tolist()) == (1.0, [1], [[1.0]])
    assert found.to_json()["correlation"] is None


def test_a_solver_that_gives_up_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def give_up(*_: object, **__: object) -> None:
        raise RuntimeError("Maximum number of iterations reached.")

    monkeypatch.setattr(scipy.optimize, "nnls", give_up)
    found = hull_projection([[1.0, 1.0], [1.0, 0.0]], np.eye(2))
    assert "1 of 2 projections are not exact" in found.warnings[0]
    # What it says of the error holds: the true residual is (1 - 1/√2)²/2.
    true = 0.5 * (1 - math.sqrt(0.5)) ** 2
    assert true < float(found.residual[0]) <= true + float(found.gap[0])


def test_prints_and_goes_to_json() -> None:
    found = hull_projection([[1.0, 1.0, 0.0], [2.0, 0.0, 0.0]], np.eye(3)[:2], split="val")
    assert str(found).startswith("hull_projection residual 0.02145 (softmax at kappa* 0.02145), support 1.5 of 2 ")
    written = json.loads(json.dumps(found.to_json()))
    assert "coefficients" not in written
    assert (written["support"], written["classes"], written["n"], written["split"]) == (1.5, 2, 2, "val")
    assert written["value"] == written["residual"] == found.value
    for name in ("kappa_star", "softmax_residual"):
        assert written[name] == pytest.approx(float(getattr(found, name).mean()))


def test_refuses() -> None:
    with pytest.raises(InputError, match=r"\[C, 3\]"):
        hull_projection(np.eye(3), np.eye(2))
    with pytest.raises(InputError, match="'x' with finite values"):
        hull_projection([[math.nan, 1.0]], np.eye(2))
    with pytest.raises(InputError, match="'weight' with finite values"):
        hull_projection(np.eye(2), [[math.inf, 1.0]])
    with pytest.raises(InputError, match="not empty"):
        hull_projection(np.empty((0, 2)), np.eye(2))
    with pytest.raises(InputError, match="'grid' or 'continuous'"):
        hull_projection(np.eye(2), np.eye(2), search="golden")  # type: ignore[arg-type]
