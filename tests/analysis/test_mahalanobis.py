"""Mahalanobis distances against scikit-learn's covariances and distances, the definition, and closed forms."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.covariance import EmpiricalCovariance
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from logitlab.analysis import UndefinedError, arrays, fit_mahalanobis
from logitlab.config.errors import InputError

Array = NDArray[np.float64]


def unbalanced(size: int = 5, seed: int = 0) -> tuple[Array, NDArray[np.int64]]:
    generator = np.random.default_rng(seed)
    y = generator.permutation(np.repeat([7, 0, 3], [30, 14, 8]))
    mixed = generator.normal(size=(52, size)) @ generator.normal(size=(size, size))
    return mixed + y[:, None] * generator.normal(size=size) + 2, y


def brute_force(x: Array, y: NDArray[np.int64], other: Array) -> Array:
    """Every distance by itself, with NumPy's pseudo-inverse."""
    means = {label: x[y == label].mean(axis=0) for label in np.unique(y)}
    residual = x - np.stack([means[label] for label in y])
    inverse = np.linalg.pinv(residual.T @ residual / len(x), rcond=1e-12, hermitian=True)
    return np.array([[(row - mean) @ inverse @ (row - mean) for mean in means.values()] for row in other])


def test_equals_scikit_learn() -> None:
    x, y = unbalanced()
    fit = fit_mahalanobis(x, y, split="train")
    expected = LinearDiscriminantAnalysis(solver="lsqr").fit(x, y)
    np.testing.assert_allclose(fit.value.numpy(), expected.covariance_, rtol=1e-11)
    np.testing.assert_allclose(fit.means.numpy(), expected.means_, rtol=1e-12)
    assert fit.classes.tolist() == [0, 3, 7]
    other = unbalanced(seed=1)[0]
    # Residuals have mean zero, so that the empirical covariance of them is the shared one.
    sklearn = EmpiricalCovariance(assume_centered=True).fit(x - fit.means.numpy()[np.searchsorted([0, 3, 7], y)])
    distances = np.stack([sklearn.mahalanobis(other - mean) for mean in fit.means.numpy()], axis=1)
    np.testing.assert_allclose(fit.distances(other).numpy(), distances, rtol=1e-9)
    np.testing.assert_allclose(fit.score(other).numpy(), -distances.min(axis=1), rtol=1e-9)
    assert (fit.rank, fit.n, fit.split, fit.warnings) == (5, 52, "train", ())


def test_identity_covariance_is_euclidean() -> None:
    corners = np.array([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    fit = fit_mahalanobis(np.concatenate([corners, corners + np.array([10, 0])]), np.repeat([0, 1], 4))
    assert fit.distances([[3.0, 4.0]]).tolist() == [[pytest.approx(25), pytest.approx(65)]]


@pytest.mark.parametrize("case", ["dead", "duplicated", "few", "constant"])
def test_singular_covariances(case: str) -> None:
    x, y = unbalanced()
    if case == "dead":
        x = np.concatenate([x, np.zeros((52, 2))], axis=1)
    elif case == "duplicated":
        x = np.concatenate([x, x[:, :2]], axis=1)
    elif case == "constant":
        x = np.concatenate([x, np.full((52, 2), 0.1)], axis=1)
    else:  # N < D
        x = np.random.default_rng(2).normal(size=(52, 80))
    fit = fit_mahalanobis(x, y)
    assert fit.rank == (49 if case == "few" else 5)
    assert f"rank {fit.rank} of {x.shape[1]}" in fit.warnings[0]
    other = x + 0.1 * np.random.default_rng(3).normal(size=x.shape)
    np.testing.assert_allclose(fit.distances(other).numpy(), brute_force(x, y, other), rtol=1e-8, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(elements=st.integers(1, 600), seed=st.integers(0, 2**16))
def test_any_order_and_chunk_size(elements: int, seed: int) -> None:
    x, y = unbalanced()
    other = unbalanced(seed=1)[0]
    whole = fit_mahalanobis(x, y)
    order = np.random.default_rng(seed).permutation(len(x))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "_CHUNK_ELEMENTS", elements)
        patch.setattr("logitlab.analysis.mahalanobis.PRODUCT_CHUNKS", 1)
        patch.setattr("logitlab.analysis.products._BLOCK", 2)
        found = fit_mahalanobis(x[order], y[order])
        np.testing.assert_allclose(found.value.numpy(), whole.value.numpy(), rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(found.distances(other).numpy(), whole.distances(other).numpy(), rtol=1e-10)
        np.testing.assert_allclose(
            found.norm_score(other).numpy(), whole.norm_score(other).numpy(), rtol=1e-9, atol=1e-9
        )


def test_any_linear_map_changes_nothing() -> None:
    x, y = unbalanced()
    change = np.random.default_rng(4).normal(size=(5, 5))
    found = fit_mahalanobis(x @ change + 100, y).score(x @ change + 100)
    np.testing.assert_allclose(found.numpy(), fit_mahalanobis(x, y).score(x).numpy(), rtol=1e-8)


def test_norm_score_is_the_labelled_sum() -> None:
    x, y = unbalanced()
    other = unbalanced(seed=1)[0]
    fit = fit_mahalanobis(x, y)
    norms, scores = np.linalg.norm(x, axis=1), fit.score(x).numpy()
    expected = (np.linalg.norm(other, axis=1) - norms.mean()) / norms.std()
    expected += (fit.score(other).numpy() - scores.mean()) / scores.std()
    np.testing.assert_allclose(fit.norm_score(other).numpy(), expected, rtol=1e-9, atol=1e-9)
    assert "stand-in" in fit.convention


def test_unit_features_have_no_deviation_of_norms() -> None:
    x, y = unbalanced()
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    fit = fit_mahalanobis(x, y)
    scores = fit.score(x)
    np.testing.assert_allclose(fit.norm_score(x), (scores - scores.mean()) / scores.std(correction=0), atol=1e-9)


def test_usual_values_come_from_some_rows_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = unbalanced()
    monkeypatch.setattr("logitlab.analysis.mahalanobis._USUAL", 20)
    assert fit_mahalanobis(x, y).usual[0] == pytest.approx(np.linalg.norm(x[::3], axis=1).mean(), rel=1e-12)


def test_a_read_only_memory_map_of_float32(tmp_path: Path) -> None:
    x, y = unbalanced()
    np.save(tmp_path / "x.npy", x.astype(np.float32))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    fit = fit_mahalanobis(mapped, torch.from_numpy(y))
    rounded = x.astype(np.float32).astype(np.float64)
    np.testing.assert_allclose(fit.distances(mapped).numpy(), brute_force(rounded, y, rounded), rtol=1e-9, atol=1e-10)


def test_prints_and_goes_to_json() -> None:
    fit = fit_mahalanobis(*unbalanced())
    assert str(fit).startswith("mahalanobis 3 classes, 5 dimensions, rank 5 (squared, one covariance")
    assert set(fit.to_json()) >= {"classes", "rank", "usual"}
    assert not set(fit.to_json()) & {"value", "means", "whitening"}


def test_what_is_refused() -> None:
    x, y = unbalanced()
    with pytest.raises(InputError, match="one label a row"):
        fit_mahalanobis(x, y[:-1])
    with pytest.raises(InputError, match="finite"):
        fit_mahalanobis(np.where(x == x.max(), np.nan, x), y)
    with pytest.raises(InputError, match=r"\[N, 5\].*\[52, 4\]"):
        fit_mahalanobis(x, y).score(x[:, :4])
    with pytest.raises(UndefinedError, match="vary within classes"):
        fit_mahalanobis(np.repeat([[0.1, 0.3], [0.7, 0.2]], 3, axis=0), np.repeat([0, 1], 3))
    with pytest.raises(UndefinedError, match="squares are finite"):
        fit_mahalanobis(x * 1e200, y)
    # One class is enough: the distance to one Gaussian.
    assert fit_mahalanobis(x, np.zeros(52, dtype=int)).distances(x).shape == (52, 1)
