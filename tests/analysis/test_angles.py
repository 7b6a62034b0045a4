"""Angles to the class weight against SciPy and known angles."""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles
from scipy.spatial.distance import cosine as scipy_cosine

from logitlab.analysis import arrays, class_angle
from logitlab.config.errors import InputError


def test_equals_scipy() -> None:
    generator = np.random.default_rng(0)
    x, weight, y = generator.normal(size=(40, 6)), generator.normal(size=(5, 6)), generator.integers(0, 5, 40)
    expected = np.mean([math.degrees(math.acos(1 - scipy_cosine(a, weight[k]))) for a, k in zip(x, y)])
    found = class_angle(x, torch.from_numpy(weight), y, split="test")
    assert found.value == pytest.approx(expected, rel=1e-12)
    assert (found.n, found.split, found.warnings) == (40, "test", ())


def test_acute_angles_are_principal_angles() -> None:
    generator = np.random.default_rng(1)
    weight = np.abs(generator.normal(size=(1, 4)))
    x = np.abs(generator.normal(size=(1, 4)))
    expected = math.degrees(subspace_angles(x.T, weight.T)[0])
    assert class_angle(x, weight, [0]).value == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("degrees", [0.0, 1e-10, 1e-4, 30.0, 90.0, 179.999999, 180.0])
@pytest.mark.parametrize("length", [1e-30, 1.0, 1e30])
def test_known_angles(degrees: float, length: float) -> None:
    # An arc cosine in double precision returns 0 for 1e-10 degrees.
    radians = math.radians(degrees)
    x = [[length * math.cos(radians), length * math.sin(radians)]]
    assert class_angle(x, [[2.0, 0.0]], [0]).value == pytest.approx(degrees, rel=1e-9, abs=1e-14)


def test_zero_rows_count_as_right_angles() -> None:
    found = class_angle([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]], [0, 0, 1])
    assert found.value == pytest.approx((90 + 0 + 90) / 3)
    assert "2 of 3" in found.warnings[0]


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(2)
    x, weight, y = generator.normal(size=(17, 3)), generator.normal(size=(4, 3)), generator.integers(0, 4, 17)
    whole = class_angle(x, weight, y).value
    monkeypatch.setattr(arrays, "_CHUNK_ELEMENTS", 6)
    assert class_angle(x, weight, y).value == pytest.approx(whole, rel=1e-14)


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(InputError, match=r"\[C, 3\]"):
        class_angle(np.eye(3), np.eye(2), [0, 1, 0])
    with pytest.raises(InputError, match="0 to 1"):
        class_angle(np.eye(2), np.eye(2), [0, 2])
