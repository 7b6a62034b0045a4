"""Angles to class weights and to their span against SciPy, NumPy and known angles."""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles
from scipy.spatial.distance import cosine as scipy_cosine

from logitlab.analysis import UndefinedError, angle_histogram, arrays, class_angle, directions, span_angle
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


def test_zero_feature_and_zero_weight_are_at_a_right_angle() -> None:
    assert class_angle([[0.0, 0.0]], [[0.0, 0.0]], [0]).value == pytest.approx(90)


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


def angles_to_span(x: np.ndarray, weight: np.ndarray) -> list[float]:
    return [math.degrees(subspace_angles(row[:, None], weight.T)[0]) for row in x]


@pytest.mark.parametrize(("num_classes", "length", "count"), [(4, 9, 30), (1, 5, 10), (7, 8, 3)])
def test_span_angle_equals_scipy(num_classes: int, length: int, count: int) -> None:
    generator = np.random.default_rng(3)
    x = generator.normal(size=(count, length)) * generator.uniform(1e-3, 1e3, size=(count, 1))
    weight = generator.normal(size=(num_classes, length))
    found = span_angle(x, torch.from_numpy(weight), split="test")
    assert found.value == pytest.approx(np.mean(angles_to_span(x, weight)), rel=1e-9)
    assert found.details == {"rank": num_classes}
    assert (found.n, found.split, found.warnings) == (count, "test", ())


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_weights_of_sum_zero_have_one_rank_less(dtype: type) -> None:
    # Rounding makes the last weight all but dependent: an unpivoted QR takes its direction for a real one.
    generator = np.random.default_rng(4)
    x, weight = generator.normal(size=(20, 12)), generator.normal(size=(6, 12)).astype(dtype)
    weight -= weight.mean(axis=0, dtype=dtype)
    found = span_angle(x, weight)
    assert found.details["rank"] == 5
    # SciPy sees the span of all but the last, which is the same one.
    tolerance = 1e-9 if dtype == np.float64 else 1e-5
    assert found.value == pytest.approx(np.mean(angles_to_span(x, weight[:-1].astype(float))), rel=tolerance)
    basis = np.linalg.qr(weight.T.astype(float))[0]
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    naive = np.degrees(np.arccos(np.linalg.norm(unit @ basis, axis=1))).mean()
    assert abs(naive - found.value) > 0.1


def test_repeated_and_rescaled_weights_span_the_same() -> None:
    generator = np.random.default_rng(5)
    x, weight = generator.normal(size=(11, 6)), generator.normal(size=(3, 6))
    more = np.concatenate([weight, 1e-8 * weight[:1], -weight, np.zeros((1, 6))])
    found = span_angle(x, more)
    assert found.details["rank"] == 3
    assert found.value == pytest.approx(span_angle(x, weight).value, rel=1e-12)


@pytest.mark.parametrize("degrees", [1e-10, 1e-4, 45.0, 89.9999])
def test_known_angles_to_a_plane(degrees: float) -> None:
    radians = math.radians(degrees)
    x = [[0.6 * math.cos(radians), 0.8 * math.cos(radians), math.sin(radians)]]
    assert span_angle(x, [[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]]).value == pytest.approx(degrees, rel=1e-3)


def test_features_inside_the_span() -> None:
    generator = np.random.default_rng(6)
    weight = generator.normal(size=(4, 10))
    assert span_angle(generator.normal(size=(9, 4)) @ weight, weight).value < 1e-12


def test_weights_that_span_everything() -> None:
    generator = np.random.default_rng(7)
    found = span_angle(generator.normal(size=(9, 4)), generator.normal(size=(6, 4)))
    assert found.value == 0
    assert "all 4 dimensions" in found.warnings[0]


def test_zero_features_count_as_right_angles_to_the_span() -> None:
    found = span_angle([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]], [[1.0, 0.0, 0.0]])
    assert found.value == pytest.approx(45)
    assert "1 of 2" in found.warnings[0]


def test_span_angle_refuses() -> None:
    with pytest.raises(UndefinedError, match="zero in every row"):
        span_angle(np.eye(2), np.zeros((2, 2)))
    with pytest.raises(InputError, match=r"\[C, 3\]"):
        span_angle(np.eye(3), np.eye(2))
    with pytest.raises(InputError, match="'x' with finite values"):
        span_angle([[math.nan, 1.0]], np.eye(2))
    with pytest.raises(InputError, match="'weight' with finite values"):
        span_angle(np.eye(2), [[math.inf, 1.0]])


@pytest.mark.parametrize("block", [2**20, 12])
def test_histogram_equals_numpy(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directions, "_BLOCK_ELEMENTS", block)
    generator = np.random.default_rng(8)
    weight, y = generator.normal(size=(5, 6)), generator.choice(5, size=70, p=[0.6, 0.2, 0.1, 0.05, 0.05])
    # Features of a class on its weight itself, too.
    x = weight[y] + generator.choice([0.0, 1.0], size=(70, 1)) * generator.normal(size=(70, 6))
    angles = np.array([[math.degrees(math.acos(np.clip(1 - scipy_cosine(a, w), -1, 1))) for w in weight] for a in x])
    own = angles[np.arange(70), y]
    angles[np.arange(70), y] = np.inf
    other = angles.min(axis=1)
    found = angle_histogram(x, torch.from_numpy(weight), y, bins=36, split="test")
    np.testing.assert_array_equal(found.edges, np.linspace(0, 180, 37))
    np.testing.assert_array_equal(found.own, np.histogram(own, found.edges.numpy())[0])
    np.testing.assert_array_equal(found.other, np.histogram(other, found.edges.numpy())[0])
    assert (found.value, found.mean_other) == pytest.approx((own.mean(), other.mean()), abs=1e-6)
    assert found.value == pytest.approx(class_angle(x, weight, y).value, rel=1e-12)
    assert (found.n, found.split, found.warnings) == (70, "test", ())
    assert found.to_json()["own"] == found.own.tolist()
    assert str(found).startswith("angle_histogram ")


def test_histogram_at_both_ends() -> None:
    found = angle_histogram([[1.0, 0.0], [-1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]], [0, 0], bins=2)
    assert found.own.tolist() == [1, 1]
    # 90 degrees open the upper bin.
    assert found.other.tolist() == [0, 2]


def test_histogram_counts_zero_rows_at_90() -> None:
    found = angle_histogram([[0.0, 0.0], [1.0, 0.0]], [[0.0, 0.0], [1.0, 0.0]], [1, 0])
    assert found.own[45] == 2
    assert (found.other[0], found.other[45]) == (1, 1)
    assert "2 of 2" in found.warnings[0]


def test_histogram_refuses() -> None:
    with pytest.raises(UndefinedError, match="at least two rows"):
        angle_histogram([[1.0]], [[1.0]], [0])
    for bins in (0, 9.0):
        with pytest.raises(InputError, match=f"an integer 'bins' of at least 1. Got {bins}"):
            angle_histogram(np.eye(2), np.eye(2), [0, 1], bins=bins)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="0 to 1"):
        angle_histogram(np.eye(2), np.eye(2), [0, 2])
    with pytest.raises(InputError, match=r"\[2\]"):
        angle_histogram(np.eye(2), np.eye(2), [0])
    with pytest.raises(InputError, match="finite"):
        angle_histogram([[math.nan, 0.0]], np.eye(2), [0])
