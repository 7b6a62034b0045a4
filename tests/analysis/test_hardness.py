"""Angular visual hardness against a loop over pairs; its density against SciPy's."""

import json
import math

import numpy as np
import pytest
import torch
from scipy.integrate import trapezoid
from scipy.spatial.distance import cosine as scipy_cosine
from scipy.stats import gaussian_kde

from logitlab.analysis import UndefinedError, angular_visual_hardness, directions, hardness
from logitlab.config.errors import InputError


@pytest.mark.parametrize("block", [2**20, 14])
def test_equals_a_loop(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directions, "_BLOCK_ELEMENTS", block)
    monkeypatch.setattr(hardness, "_KERNEL_ELEMENTS", block)
    generator = np.random.default_rng(0)
    x, weight = generator.normal(size=(40, 12)), generator.normal(size=(7, 12))
    # One class has most samples, two weights are the same, and a sample is another's double.
    weight[3], x[1] = weight[2], x[0]
    y = generator.choice(7, size=40, p=[0.7, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05])
    angles = np.array([[math.acos(1 - scipy_cosine(a, w)) for w in weight] for a in x])
    expected = angles[np.arange(40), y] / angles.sum(axis=1)
    found = angular_visual_hardness(x, torch.from_numpy(weight), y, split="test")
    np.testing.assert_allclose(found.scores, expected, rtol=1e-12)
    assert found.value == pytest.approx(expected.mean(), rel=1e-12)
    assert found.bandwidth == pytest.approx(5e-3 / 7)
    assert (found.n, found.split, found.warnings) == (40, "test", ())


@pytest.mark.parametrize("num_classes", [2, 10, 1000])
def test_density_equals_scipy(num_classes: int) -> None:
    generator = np.random.default_rng(1)
    weight = generator.normal(size=(num_classes, 24))
    y = generator.integers(0, num_classes, 300)
    x = 0.4 * weight[y] + generator.normal(size=(300, 24))
    found = angular_visual_hardness(x, weight, y)
    scores = found.scores.numpy()
    oracle = gaussian_kde(scores, bw_method=found.bandwidth / scores.std(ddof=1))(found.grid.numpy())
    assert len(found.grid) <= 512
    np.testing.assert_allclose(found.density, oracle, atol=1e-9 * oracle.max(), rtol=1e-9)
    # The kernels' tails beyond the grid hold what is missing.
    assert trapezoid(found.density, found.grid) == pytest.approx(1, abs=1e-3)


def test_one_class_has_no_hardness() -> None:
    with pytest.raises(UndefinedError, match="at least two rows in 'weight'. Got one"):
        angular_visual_hardness([[1.0, 2.0]], [[1.0, 0.0]], [0])


def test_orthonormal_weights() -> None:
    found = angular_visual_hardness(5 * np.eye(4), np.eye(4), [0, 1, 2, 0])
    # The last feature lies on the weight of class 3: its own angle is 90 degrees, as are two of the others.
    np.testing.assert_allclose(found.scores, [0, 0, 0, 1 / 3], rtol=1e-14)


def test_small_angles_keep_their_digits() -> None:
    weight = [[1.0, 0.0], [math.cos(3e-9), math.sin(3e-9)]]
    assert angular_visual_hardness([[math.cos(1e-9), math.sin(1e-9)]], weight, [0]).value == pytest.approx(1 / 3)


def test_no_angle_to_any_weight() -> None:
    found = angular_visual_hardness([[2.0, 0.0], [0.0, 1.0]], [[1.0, 0.0]] * 4, [1, 2])
    assert found.scores.tolist() == [0.25, 0.25]
    assert "1 of 2" in found.warnings[0]


def test_zero_rows_are_said() -> None:
    found = angular_visual_hardness([[0.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]], [0, 1])
    np.testing.assert_allclose(found.scores, [0.5, 1], rtol=1e-15)
    assert ["1 of 2" in warning for warning in found.warnings] == [True, True]


def test_the_whole_matrix_of_angles_never_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def recorded(unit: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        sizes.append(len(unit) * len(weight))
        return directions.pairwise_angles(unit, weight)

    monkeypatch.setattr(hardness, "pairwise_angles", recorded)
    generator = np.random.default_rng(2)
    # Two columns: chunks of rows alone would be 130,000 rows long.
    angular_visual_hardness(
        generator.normal(size=(3000, 2)), generator.normal(size=(1000, 2)), generator.integers(0, 1000, 3000)
    )
    assert sum(sizes) == 3_000_000
    assert max(sizes) <= 2**20


def test_prints_and_goes_to_json() -> None:
    found = angular_visual_hardness(np.eye(2), np.eye(2), [0, 0], split="val")
    assert (
        str(found) == "angular_visual_hardness 0.5 (angle to the own weight over the sum of angles to all; val, n = 2)"
    )
    written = json.loads(json.dumps(found.to_json()))
    assert written["value"] == 0.5
    assert len(written["grid"]) == len(written["density"]) == 512
    assert "scores" not in written


def test_refuses() -> None:
    with pytest.raises(InputError, match=r"\[C, 3\]"):
        angular_visual_hardness(np.eye(3), np.eye(2), [0, 1, 0])
    with pytest.raises(InputError, match="0 to 1"):
        angular_visual_hardness(np.eye(2), np.eye(2), [0, 2])
    with pytest.raises(InputError, match=r"\[2\]"):
        angular_visual_hardness(np.eye(2), np.eye(2), [0])
    with pytest.raises(InputError, match="'x' with finite values"):
        angular_visual_hardness([[math.nan, 0.0]], np.eye(2), [0])
    with pytest.raises(InputError, match="not empty"):
        angular_visual_hardness(np.empty((0, 2)), np.eye(2), [])
