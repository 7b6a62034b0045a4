"""Singular values against NumPy's, and class centroids against means written out."""

from pathlib import Path

import numpy as np
import pytest
import torch

from logitlab.analysis import arrays, class_centroids, singular_values, spectra
from logitlab.config.errors import InputError


def matrix(count: int, size: int) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    generator = np.random.default_rng(count + size)
    return generator.normal(size=(count, size)) * np.geomspace(1, 1e-3, size) + 0.5


@pytest.mark.parametrize("shape", [(50, 7), (7, 50), (20, 20), (1, 5), (5, 1)])
@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("small", [2**18, 0])
def test_equals_numpy(shape: tuple[int, int], center: bool, small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spectra, "_SMALL", small)  # 0: through products
    monkeypatch.setattr(arrays, "_CHUNK_ELEMENTS", 11)
    monkeypatch.setattr("logitlab.analysis.products._BLOCK", 3)
    monkeypatch.setattr("logitlab.analysis.products.PRODUCT_CHUNKS", 2)
    a = matrix(*shape)
    found = singular_values(a, center=center, split="train")
    expected = np.linalg.svd(a - a.mean(axis=0) if center else a, compute_uv=False)
    # Values at the edge of what products resolve are compared on the scale of the largest.
    np.testing.assert_allclose(found.value.numpy(), expected, rtol=1e-9, atol=max(found.resolved, 1e-12) * 2)
    assert (len(found.value), found.n, found.columns, found.split) == (min(shape), shape[0], shape[1], "train")
    assert bool((found.value.diff() <= 0).all())
    assert float(found.value.min()) >= 0


def test_products_resolve_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spectra, "_SMALL", 0)
    generator = np.random.default_rng(0)
    left, right = (np.linalg.qr(generator.normal(size=(size, 8)))[0] for size in (60, 8))
    given = np.array([1.0, 0.3, 0.1, 1e-2, 1e-3, 1e-6, 1e-12, 0])
    found = singular_values(left * given @ right.T)
    np.testing.assert_allclose(found.value[:5].numpy(), given[:5], rtol=1e-9)
    assert found.value[5].item() == pytest.approx(1e-6, rel=1e-3)
    assert bool((found.value[6:] < 3 * found.resolved).all())
    assert found.resolved == pytest.approx(1e-8)


@pytest.mark.parametrize("scale", [1e200, 1e-200])
@pytest.mark.parametrize("small", [2**18, 0])
def test_huge_and_tiny_numbers(scale: float, small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spectra, "_SMALL", small)
    a = matrix(30, 4)
    np.testing.assert_allclose((singular_values(a * scale).value / scale).numpy(), np.linalg.svd(a)[1], rtol=1e-9)


def test_duplicated_columns_and_zeros() -> None:
    a = matrix(30, 4)
    twice = singular_values(np.concatenate([a, a], axis=1)).value.numpy()
    np.testing.assert_allclose(twice[:4], 2**0.5 * np.linalg.svd(a)[1], rtol=1e-12)
    assert (twice[4:] < 1e-13 * twice[0]).all()
    assert singular_values(np.zeros((3, 2))).value.tolist() == [0, 0]


def test_memory_maps_tensors_and_feature_maps(tmp_path: Path) -> None:
    a = matrix(30, 12).astype(np.float32)
    np.save(tmp_path / "a.npy", a)
    expected = np.linalg.svd(a.astype(np.float64), compute_uv=False)
    for given in (np.load(tmp_path / "a.npy", mmap_mode="r"), torch.from_numpy(a), a.reshape(30, 3, 2, 2), a.tolist()):
        np.testing.assert_allclose(singular_values(given).value.numpy(), expected, rtol=1e-10)


def test_prints_and_goes_to_json() -> None:
    found = singular_values([[3.0, 0.0], [0.0, 4.0]])
    assert str(found).startswith("singular_values 2 values from 4 down to 3 (of the matrix as it is")
    assert found.to_json()["value"] == pytest.approx([4, 3])


def test_centroids_of_unbalanced_classes() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(15, 5)), generator.permutation(np.repeat([7, 0, 3], [9, 4, 2]))
    expected = np.stack([x[y == label].mean(axis=0) for label in (0, 3, 7)])
    np.testing.assert_allclose(class_centroids(x, y).numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(class_centroids(x.reshape(15, 5, 1, 1), y).numpy(), expected, rtol=1e-12)


def test_what_is_refused() -> None:
    with pytest.raises(InputError, match="finite"):
        singular_values([[1.0, float("nan")]])
    with pytest.raises(InputError, match="one label a row"):
        class_centroids(np.eye(3), [0, 1])
    with pytest.raises(InputError, match="not empty"):
        singular_values(np.zeros((0, 3)))
