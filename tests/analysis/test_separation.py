"""R² (W Eq. 11) against the quadruple sum itself, a weighted regression, and closed forms."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score
from sklearn.preprocessing import OneHotEncoder

from logitlab.analysis import UndefinedError, arrays, class_separation, separation_by_layer
from logitlab.analysis.separation import Distance
from logitlab.config.errors import InputError

Array = NDArray[np.float64]


def cosine_distance(a: Array, b: Array) -> float:
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    return 1.0 - (float(a @ b / lengths) if lengths else 0.0)


def squared_distance(a: Array, b: Array) -> float:
    return float(((a - b) ** 2).sum())


def quadruple_sum(x: Array, y: NDArray[np.int64], distance: Callable[[Array, Array], float]) -> float:
    """Eq. (11) letter by letter."""
    classes = [x[y == k] for k in np.unique(y)]
    count = len(classes)
    within = sum(sum(distance(a, b) for a in c for b in c) / (count * len(c) ** 2) for c in classes)
    overall = sum(
        sum(distance(a, b) for a in c for b in d) / (count**2 * len(c) * len(d)) for c in classes for d in classes
    )
    return 1 - within / overall


def unbalanced(seed: int = 0) -> tuple[Array, NDArray[np.int64]]:
    generator = np.random.default_rng(seed)
    y = np.repeat([7, 0, 3], [9, 4, 2])
    return generator.normal(size=(15, 5)) + 2.0 + 0.7 * y[:, None] * generator.normal(size=5), y


@pytest.mark.parametrize(
    ("distance", "oracle", "centered"),
    [
        ("cosine", cosine_distance, False),
        ("centered_cosine", cosine_distance, True),
        ("euclidean", squared_distance, False),
    ],
)
@pytest.mark.parametrize("kind", ["numpy", "torch", "list", "float32"])
def test_equals_the_sum_over_all_pairs(
    distance: Distance, oracle: Callable[[Array, Array], float], centered: bool, kind: str
) -> None:
    x, y = unbalanced()
    if kind == "float32":
        x = x.astype(np.float32).astype(np.float64)
    expected = quadruple_sum(x - x.mean(axis=0) if centered else x, y, oracle)
    given = {
        "numpy": (x, y),
        "torch": (torch.from_numpy(x).requires_grad_(), torch.from_numpy(y)),
        "list": (x.tolist(), y.tolist()),
        "float32": (x.astype(np.float32), y.astype(np.int32)),
    }[kind]
    found = class_separation(*given, distance=distance, split="train")
    assert found.value == pytest.approx(expected, abs=1e-13)
    assert (found.n, found.split, found.details["classes"]) == (15, "train", 3)
    assert found.details["null"] == 2 / 14


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_equals_weighted_regression_on_the_labels(distance: Distance) -> None:
    x, y = unbalanced(1)
    points = x / np.linalg.norm(x, axis=1, keepdims=True) if distance == "cosine" else x
    one_hot = OneHotEncoder(sparse_output=False).fit_transform(y[:, None])
    weight = 1 / np.array([(y == label).sum() for label in y])
    fit = LinearRegression().fit(one_hot, points, sample_weight=weight)
    expected = r2_score(
        points, fit.predict(one_hot), sample_weight=weight, multioutput="variance_weighted", force_finite=False
    )
    # scikit-learn centres each output at its weighted mean: that is the unweighted mean of class means.
    assert class_separation(x, y, distance).value == pytest.approx(expected, abs=1e-12)


def test_zero_rows_have_cosine_zero_to_everything() -> None:
    x, y = unbalanced(2)
    x[[0, 10]] = 0
    found = class_separation(x, y)
    assert found.value == pytest.approx(quadruple_sum(x, y, cosine_distance), abs=1e-13)
    assert any("2 of 15 feature rows are zero" in warning for warning in found.warnings)
    assert not any("zero" in warning for warning in class_separation(x, y, "euclidean").warnings)


def test_a_row_at_the_mean_counts_as_zero_when_centered() -> None:
    # The mean of these rows is (0.1, 0.2) only up to rounding: the leftover must not become a direction.
    x = np.array([[0.1, 0.2], [0.4, 0.5], [-0.2, -0.1], [0.1, 0.2], [0.1 + 0.3, 0.2], [0.1 - 0.3, 0.2]])
    found = class_separation(x, [0, 0, 0, 1, 1, 1], "centered_cosine")
    assert any("2 of 6" in warning for warning in found.warnings)
    # Each class: a zero row and two opposite directions. Both class means are zero.
    assert found.value == pytest.approx(0, abs=1e-13)


@pytest.mark.parametrize("distance", ["cosine", "centered_cosine", "euclidean"])
def test_collapsed_classes_are_fully_separated(distance: Distance) -> None:
    # Neural collapse: each class one vertex of a simplex.
    x = np.repeat(np.eye(4) - 1 / 4, 5, axis=0)
    assert class_separation(x, np.repeat(np.arange(4), 5), distance).value == pytest.approx(1, abs=1e-14)


def test_collapse_is_measured_to_its_last_digits() -> None:
    """1 - R² = W/(W + B) is known in closed form; a single pass would lose it to cancellation."""
    # Two classes at ±1 on the first axis, ±ε on the second, at a distance of 1e6 from the origin.
    epsilon = 1e-4
    x = np.array([[1, epsilon], [1, -epsilon], [-1, epsilon], [-1, -epsilon]]) + 1e6
    value = class_separation(x, [0, 0, 1, 1], "euclidean").value
    assert 1 - value == pytest.approx(epsilon**2 / (1 + epsilon**2), rel=1e-5)


def test_equal_class_means_are_not_separated() -> None:
    x = [[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]
    assert class_separation(x, [0, 0, 1, 1]).value == 0


def test_random_labels_give_the_null_value() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(200, 16)), np.repeat(np.arange(20), 10)
    values = [class_separation(x, generator.permutation(y), "euclidean").value for _ in range(60)]
    found = class_separation(x, y)
    assert found.details["null"] == 19 / 199
    assert np.mean(values) == pytest.approx(19 / 199, abs=4 * np.std(values) / 60**0.5)
    assert any("0.10 on average" in warning for warning in found.warnings)
    assert class_separation(x, y % 2).warnings == ()


def test_cosine_ignores_lengths_and_all_ignore_rotations() -> None:
    x, y = unbalanced(3)
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))[0]
    scale = np.random.default_rng(1).uniform(0.1, 1e5, size=(15, 1))
    assert class_separation(x * scale, y).value == pytest.approx(class_separation(x, y).value, abs=1e-13)
    for distance in ("cosine", "centered_cosine", "euclidean"):
        expected = class_separation(x, y, distance).value  # type: ignore[arg-type]
        assert class_separation(x @ rotation, y, distance).value == pytest.approx(expected, abs=1e-12)  # type: ignore[arg-type]


def test_cosine_and_euclidean_agree_on_unit_features() -> None:
    # W Table E.1: the cosine softmax row has .6406 for both, which holds for *squared* distances alone.
    x, y = unbalanced(4)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    assert class_separation(x, y).value == pytest.approx(class_separation(x, y, "euclidean").value, abs=1e-13)


def test_copies_of_a_class_change_nothing() -> None:
    # Every class weighs alike, however many samples it has.
    x, y = unbalanced(5)
    more = np.concatenate([x, x[y == 7], x[y == 7]])
    labels = np.concatenate([y, [7] * (2 * (y == 7).sum())])
    assert class_separation(more, labels).value == pytest.approx(class_separation(x, y).value, abs=1e-13)


@pytest.mark.parametrize("distance", ["cosine", "centered_cosine", "euclidean"])
def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch, distance: Distance) -> None:
    x, y = unbalanced(6)
    whole = class_separation(x, y, distance).value
    monkeypatch.setattr(arrays, "_CHUNK_ELEMENTS", 11)  # two rows of five
    assert class_separation(x, y, distance).value == pytest.approx(whole, abs=1e-14)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("count", [2, 3, 7])
def test_equal_points_are_undefined(distance: Distance, count: int) -> None:
    with pytest.raises(UndefinedError, match="0/0"):
        class_separation(np.full((2 * count, 3), 0.1), np.repeat([0, 1], count), distance)


def test_one_class_is_undefined() -> None:
    with pytest.raises(UndefinedError, match="at least two classes"):
        class_separation(np.eye(3), [1, 1, 1])


def test_an_unknown_distance_is_named() -> None:
    with pytest.raises(InputError, match="did you mean 'euclidean'"):
        class_separation(np.eye(3), [0, 1, 1], "euclidian")  # type: ignore[arg-type]


@pytest.mark.parametrize("distance", ["cosine", "centered_cosine", "euclidean"])
@settings(max_examples=60, deadline=None)
@given(elements=st.integers(1, 100), seed=st.integers(0, 2**16), spread=st.sampled_from([1.0, 1e-2, 1e-4]))
def test_any_order_and_chunk_size(distance: Distance, elements: int, seed: int, spread: float) -> None:
    # With a small spread around the class means, W takes its second pass.
    x, y = unbalanced(7)
    x = spread * x + np.stack([np.roll([5.0, 1, 0, 0, 2], label) for label in y])
    oracle = squared_distance if distance == "euclidean" else cosine_distance
    expected = quadruple_sum(x - x.mean(axis=0) if distance == "centered_cosine" else x, y, oracle)
    order = np.random.default_rng(seed).permutation(len(x))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "_CHUNK_ELEMENTS", elements)
        assert class_separation(x[order], y[order], distance).value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("spread", [0.3, 3e-2, 1.2e-2, 1e-2, 1e-3, 1e-5])
@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_one_pass_keeps_the_digits_of_collapse(distance: Distance, spread: float) -> None:
    """1 - R² from either side of the switch to the second pass, against W and B taken apart."""
    generator = np.random.default_rng(0)
    y = np.repeat(np.arange(4), 25)
    x = np.eye(8)[y] + spread * generator.normal(size=(100, 8))
    points = x / np.linalg.norm(x, axis=1, keepdims=True) if distance == "cosine" else x
    means = np.stack([points[y == k].mean(axis=0) for k in range(4)])
    within = np.mean([((points[y == k] - means[k]) ** 2).sum(axis=1).mean() for k in range(4)])
    between = ((means - means.mean(axis=0)) ** 2).sum(axis=1).mean()
    found = 1 - class_separation(x, y, distance).value
    assert found == pytest.approx(within / (within + between), rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("distance", ["cosine", "centered_cosine"])
def test_huge_tiny_and_zero_rows_together(distance: Distance) -> None:
    x, y = unbalanced(8)
    if distance == "centered_cosine":
        for scale in (1e200, 1e-140):
            assert class_separation(x * scale, y, distance).value == pytest.approx(
                class_separation(x, y, distance).value, abs=1e-12
            )
        return
    expected = class_separation(x, y).value
    scale = np.where(np.arange(15) % 2, 1e200, 1e-150)[:, None]
    assert class_separation(x * scale, y).value == pytest.approx(expected, abs=1e-12)
    with pytest.raises(InputError, match="squared lengths are finite"):
        class_separation(x * 1e200, y, "euclidean")


def test_layers_are_flattened_one_by_one() -> None:
    generator = np.random.default_rng(0)
    y = np.repeat(np.arange(3), [5, 6, 7])
    maps = generator.normal(size=(18, 4, 3, 3)) + y[:, None, None, None]
    layers = {"block1": torch.from_numpy(maps).to(memory_format=torch.channels_last), "last": maps.mean(axis=(2, 3))}
    found = separation_by_layer(layers, y, "centered_cosine", split="train")
    assert list(found) == ["block1", "last"]
    for name, x in (("block1", maps.reshape(18, -1)), ("last", layers["last"])):
        expected = quadruple_sum(x - x.mean(axis=0), y, cosine_distance)
        assert found[name].value == pytest.approx(expected, abs=1e-12)
        assert (found[name].split, found[name].n) == ("train", 18)


def test_layers_that_are_refused_are_named() -> None:
    with pytest.raises(InputError, match="at least one layer"):
        separation_by_layer({}, [0, 1])
    with pytest.raises(InputError, match=r"layers\['b'\]"):
        separation_by_layer({"b": np.full((2, 3), np.nan)}, [0, 1])
    with pytest.raises(UndefinedError, match="Layer 'b'.*0/0"):
        separation_by_layer({"b": np.ones((2, 3))}, [0, 1], "euclidean")
    with pytest.raises(InputError, match="did you mean 'cosine'"):
        separation_by_layer({"b": np.ones((2, 3))}, [0, 1], "cosin")  # type: ignore[arg-type]
