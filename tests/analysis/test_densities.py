"""Cosine-distance densities against all pairs and SciPy's kernel density."""

import json
import math

import numpy as np
import pytest
import torch
from scipy.integrate import trapezoid
from scipy.spatial.distance import cdist
from scipy.stats import gaussian_kde

from logitlab.analysis import UndefinedError, arrays, cosine_densities, densities
from logitlab.config.errors import InputError


def clusters(seed: int, counts: list[int], length: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    y = generator.permutation(np.repeat(np.arange(len(counts)), counts))
    return generator.normal(size=(len(counts), length))[y] + noise * generator.normal(size=(len(y), length)), y


def all_pairs(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.triu_indices(len(y), 1)
    distance = cdist(x, x, "cosine")[first, second]
    return distance[y[first] == y[second]], distance[y[first] != y[second]]


def kernel_density(distance: np.ndarray, bandwidth: float, grid: np.ndarray) -> np.ndarray:
    return gaussian_kde(distance, bw_method=bandwidth / distance.std(ddof=1))(grid)


@pytest.mark.parametrize("bandwidth", [None, 0.003, 0.1])
@pytest.mark.parametrize(
    ("counts", "length", "noise"),
    [([10] * 5, 16, 0.7), ([40, 12, 5, 2, 1], 8, 1.0), ([6, 6], 40, 0.5), ([15, 15], 2, 0.3)],
    ids=["balanced", "unbalanced", "fewer samples than dimensions", "planar"],
)
def test_equals_scipy_over_all_pairs(
    bandwidth: float | None, counts: list[int], length: int, noise: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(densities, "_BLOCK_ELEMENTS", 300)
    monkeypatch.setattr(arrays, "_CHUNK_ELEMENTS", 50)
    x, y = clusters(0, counts, length, noise)
    # A sample twice: a pair at distance zero, which is not a sample with itself.
    x[1], y[1] = 2 * x[0], y[0]
    within, between = all_pairs(x, y)
    found = cosine_densities(x, torch.from_numpy(y), bandwidth=bandwidth, split="train")
    width = 0.01 if bandwidth is None else bandwidth
    assert (found.pairs_within, found.pairs_between, found.bandwidth) == (len(within), len(between), width)
    assert (found.mean_within, found.mean_between) == pytest.approx((within.mean(), between.mean()), rel=1e-9)
    assert (found.n, found.split, found.classes) == (len(y), "train", len(np.unique(y)))
    grid = found.grid.numpy()
    for curve, distance in ((found.within, within), (found.between, between)):
        oracle = kernel_density(distance, width, grid)
        assert np.abs(curve.numpy() - oracle).max() < 1e-3 * oracle.max()
    fine = np.linspace(-0.6, 2.6, 3201)
    lower = np.minimum(kernel_density(within, width, fine), kernel_density(between, width, fine))
    assert found.value == pytest.approx(trapezoid(lower, fine), abs=1e-3)


def test_many_blocks_equal_one(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = clusters(1, [9, 14, 4], 6, 1.0)
    whole = cosine_densities(x, y, points=64)
    monkeypatch.setattr(densities, "_BLOCK_ELEMENTS", 1)
    monkeypatch.setattr(arrays, "_CHUNK_ELEMENTS", 1)
    found = cosine_densities(x, y, points=64)
    assert (found.pairs_within, found.pairs_between) == (whole.pairs_within, whole.pairs_between)
    np.testing.assert_allclose(found.within, whole.within, atol=1e-12)
    np.testing.assert_allclose(found.between, whole.between, atol=1e-12)
    assert found.value == pytest.approx(whole.value, abs=1e-12)


def test_the_sample_is_balanced() -> None:
    labels = torch.repeat_interleave(torch.tensor([7, 2, 5, 9]), torch.tensor([500, 40, 3, 0]))
    for samples, expected in ((30, [14, 13, 3]), (63, [30, 30, 3]), (543, [500, 40, 3]), (9999, [500, 40, 3])):
        chosen = densities._balanced_sample(labels, samples, seed=0)
        assert len(set(chosen.tolist())) == len(chosen) == min(samples, 543)
        assert bool((chosen[1:] > chosen[:-1]).all())
        counts = [int((labels[chosen] == label).sum()) for label in (7, 2, 5)]
        assert counts[2] == 3
        assert sorted(counts, reverse=True) == expected


def test_every_row_may_be_taken() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 1, 1])
    taken = {row for seed in range(50) for row in densities._balanced_sample(labels, 4, seed).tolist()}
    assert taken == set(range(8))


def test_the_seed_decides() -> None:
    x, y = clusters(2, [50, 50, 50], 8, 1.0)
    first, again, other = (cosine_densities(x, y, samples=30, seed=seed) for seed in (3, 3, 4))
    assert first.to_json() == again.to_json()
    assert first.mean_within != other.mean_within
    assert (first.n, first.pairs_within, first.pairs_between) == (30, 3 * 45, 3 * 100)
    # A balanced sample estimates what all pairs of equally large classes have.
    assert first.mean_between == pytest.approx(cosine_densities(x, y).mean_between, abs=0.1)


def test_the_sample_is_what_is_measured() -> None:
    x, y = clusters(3, [80, 10, 10], 5, 1.0)
    chosen = densities._balanced_sample(torch.from_numpy(y), 24, seed=5).numpy()
    within, between = all_pairs(x[chosen], y[chosen])
    found = cosine_densities(x, y, samples=24, seed=5)
    assert (found.mean_within, found.mean_between) == pytest.approx((within.mean(), between.mean()), rel=1e-9)


def test_overlap_of_equal_and_of_separate_classes() -> None:
    generator = np.random.default_rng(4)
    x, y = generator.normal(size=(400, 3)), generator.integers(0, 2, 400)
    assert cosine_densities(x, y, bandwidth=0.05).value > 0.97
    x, y = clusters(5, [30, 30], 64, 0.05)
    found = cosine_densities(x, y)
    assert found.value < 1e-6
    assert found.mean_within < 0.01 < 0.5 < found.mean_between


def test_opposite_features_reach_the_end_of_the_grid() -> None:
    found = cosine_densities([[1.0], [3.0], [-2.0]], [0, 0, 1], points=5)
    assert found.grid.tolist() == [0, 0.5, 1, 1.5, 2]
    height = 1 / (0.01 * math.sqrt(2 * math.pi))
    np.testing.assert_allclose(found.within, [height, 0, 0, 0, 0], rtol=1e-4, atol=1e-12)
    np.testing.assert_allclose(found.between, [0, 0, 0, 0, height], rtol=1e-4, atol=1e-12)
    # Half of either kernel lies beyond the grid.
    assert ["50%" in warning for warning in found.warnings] == [True, True]


def test_zero_features_are_at_distance_one() -> None:
    found = cosine_densities([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [0, 0, 1])
    assert (found.mean_within, found.mean_between) == (1, 1)
    assert "1 of 3 features are zero" in found.warnings[0]


def test_prints_and_goes_to_json() -> None:
    x, y = clusters(6, [10, 10], 4, 0.5)
    found = cosine_densities(x.astype(np.float32), y, points=32, split="train")
    assert str(found).startswith("cosine_densities overlap ")
    assert "Gaussian kernel of bandwidth 0.01; balanced sample, seed 0; train, n = 20" in str(found)
    written = json.loads(json.dumps(found.to_json()))
    assert len(written["grid"]) == len(written["within"]) == len(written["between"]) == 32
    assert written["value"] == found.value


def test_refuses() -> None:
    x = np.random.default_rng(7).normal(size=(4, 3))
    with pytest.raises(UndefinedError, match="different classes among 4 samples. Got none: all labels are equal"):
        cosine_densities(x, [1, 1, 1, 1])
    with pytest.raises(UndefinedError, match="one class among 4 samples. Got none: every class has a single row"):
        cosine_densities(x, [0, 1, 2, 3])
    with pytest.raises(UndefinedError, match="among 1 samples"):
        cosine_densities(x[:1], [0])
    with pytest.raises(InputError, match="integers 'samples' and 'points' of at least 2. Got 10.5 and 512"):
        cosine_densities(np.eye(4), [0, 0, 1, 1], samples=10.5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="at least 2. Got 1 and 512"):
        cosine_densities(x, [0, 0, 1, 1], samples=1)
    with pytest.raises(InputError, match="at least 2. Got 10000 and 1"):
        cosine_densities(x, [0, 0, 1, 1], points=1)
    for bandwidth in (0.0, -1.0, 1e-5, math.nan, math.inf):
        with pytest.raises(InputError, match="'bandwidth' of at least 0.0001"):
            cosine_densities(x, [0, 0, 1, 1], bandwidth=bandwidth)
    with pytest.raises(InputError, match=r"'y' of shape \[4\]"):
        cosine_densities(x, [0, 0, 1])
    x[2, 1] = math.nan
    with pytest.raises(InputError, match="row 2"):
        cosine_densities(x, [0, 0, 1, 1], samples=2)
