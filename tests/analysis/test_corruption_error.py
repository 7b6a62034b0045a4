"""Mean corruption error against its formula and the published baseline."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logitlab.analysis import ALEXNET_ERRORS, CorruptionError, UndefinedError, mean_corruption_error
from logitlab.config.errors import InputError
from logitlab.data.corruptions import CORRUPTIONS


def random_errors(seed: int = 0, levels: int = 5) -> dict[str, list[float]]:
    generator = np.random.default_rng(seed)
    return {name: generator.random(levels).tolist() for name in CORRUPTIONS}


def test_alexnet_is_one_hundred() -> None:
    found = mean_corruption_error({name: [error] * 5 for name, error in ALEXNET_ERRORS.items()}, split="test")
    assert isinstance(found, CorruptionError)
    assert found.value == pytest.approx(100, abs=1e-9)
    assert found.by_corruption == pytest.approx(dict.fromkeys(CORRUPTIONS, 100.0), abs=1e-9)
    assert found.warnings == ()
    assert (found.n, found.split) == (75, "test")
    assert found.mean_error == pytest.approx(100 * np.mean(list(ALEXNET_ERRORS.values())), abs=1e-9)


def test_the_baselines_are_of_the_fifteen_corruptions() -> None:
    assert tuple(ALEXNET_ERRORS) == CORRUPTIONS
    # Published as shares of the 5 x 50,000 images of a corruption: whole numbers of mistakes, typed here once more.
    mistakes = [
        221607,
        223617,
        230660,
        204970,
        206567,
        196487,
        199590,
        216704,
        206643,
        204831,
        141148,
        213301,
        161514,
        179460,
        151625,
    ]
    assert [250_000 * error for error in ALEXNET_ERRORS.values()] == pytest.approx(mistakes, abs=1e-6)


def test_equals_the_formula() -> None:
    errors = random_errors()
    matrix = np.array([errors[name] for name in CORRUPTIONS])
    alexnet = np.repeat([[ALEXNET_ERRORS[name]] for name in CORRUPTIONS], 5, axis=1)
    expected = 100 * (matrix.sum(axis=1) / alexnet.sum(axis=1))
    found = mean_corruption_error(errors)
    assert found.value == pytest.approx(expected.mean(), abs=1e-9)
    np.testing.assert_allclose(list(found.by_corruption.values()), expected, atol=1e-9)
    # Neither the ratio of the means nor the mean of ratios by severity.
    assert found.value != pytest.approx(100 * matrix.sum() / alexnet.sum(), abs=0.01)


def test_a_baseline_of_ones_own() -> None:
    errors, softmax = random_errors(1, 3), random_errors(2, 3)
    found = mean_corruption_error(errors, baseline=softmax)
    expected = [100 * sum(errors[name]) / sum(softmax[name]) for name in CORRUPTIONS]
    assert found.value == pytest.approx(np.mean(expected), abs=1e-9)
    means = {name: float(np.mean(values)) for name, values in softmax.items()}
    assert mean_corruption_error(errors, baseline=means).value == pytest.approx(found.value, abs=1e-9)
    assert "relative to a baseline of the caller's" in found.convention
    assert mean_corruption_error(softmax, baseline=softmax).value == pytest.approx(100, abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.lists(st.floats(0, 1), min_size=5, max_size=5), min_size=15, max_size=15), st.permutations(range(15))
)
def test_order_does_not_matter_and_scale_is_scale(matrix: list[list[float]], order: list[int]) -> None:
    errors = dict(zip(CORRUPTIONS, matrix))
    value = mean_corruption_error(errors).value
    shuffled = {CORRUPTIONS[place]: matrix[place][::-1] for place in order}
    assert mean_corruption_error(shuffled).value == pytest.approx(value, abs=1e-9)
    half = {name: [rate / 2 for rate in rates] for name, rates in errors.items()}
    assert mean_corruption_error(half).value == pytest.approx(value / 2, abs=1e-9)


def test_without_baseline_it_is_the_mean_error_and_says_so() -> None:
    errors = random_errors(3)
    found = mean_corruption_error(errors, baseline=None)
    assert found.name == "unnormalized_mean_corruption_error"
    assert "relative to nothing" in found.convention
    assert found.value == found.mean_error == pytest.approx(100 * np.mean(list(errors.values())), abs=1e-9)
    assert str(found).startswith("unnormalized_mean_corruption_error ")


def test_fewer_corruptions_or_severities_are_said() -> None:
    errors = {name: rates[:2] for name, rates in random_errors().items() if name != "frost"}
    found = mean_corruption_error(errors)
    assert "mean of 14 corruptions at 2 severities" in found.convention
    assert found.n == 28
    assert "Only 14 of the 15" in found.warnings[0]
    assert "2 severities instead of 5" in found.warnings[1]
    one = mean_corruption_error({"fog": [0.5]}, baseline={"fog": 0.25, "snow": 0.3})
    assert one.value == 200
    assert "1 corruption at 1 severity" in one.convention


def test_prints_and_goes_to_json() -> None:
    found = mean_corruption_error({name: [error / 4] * 5 for name, error in ALEXNET_ERRORS.items()}, split="test")
    assert str(found) == (
        "mean_corruption_error 25.0 % (mean of 15 corruptions at 5 severities, relative to AlexNet on ImageNet-C; "
        "test, n = 75)"
    )
    restored = json.loads(json.dumps(found.to_json()))
    assert restored["by_corruption"]["fog"] == pytest.approx(25)
    assert restored["value"] == found.value


@pytest.mark.parametrize(
    ("errors", "baseline", "message"),
    [
        ({}, "alexnet", "at least one corruption"),
        ({"fog": []}, "alexnet", "'fog' at one severity or more"),
        ({"fog": [0.1, 1.2]}, "alexnet", r"fractions in \[0, 1\]. Got 1.2. Divide"),
        ({"fog": [-0.1]}, "alexnet", r"fractions in \[0, 1\]. Got -0.1.$"),
        ({"fog": [math.nan]}, "alexnet", r"fractions in \[0, 1\]. Got nan"),
        ({"fog": 0.3}, "alexnet", "as numbers, one a severity. Got 0.3"),
        ({"fog": ["x"]}, "alexnet", "as numbers, one a severity"),
        ({"fog": [0.1], "snow": [0.1, 0.2]}, "alexnet", "as many severities.*fog 1, snow 2"),
        ({"elastic": [0.1]}, "alexnet", "Got 'elastic'. Did you mean 'elastic_transform'?"),
        ({"fog": [0.1]}, {"snow": 0.3}, "Expected corruptions among snow. Got 'fog'"),
        ({"fog": [0.1, 0.2]}, {"fog": [0.1, 0.2, 0.3]}, "one mean or as 2 errors.*Got 3"),
        ({"fog": [0.1]}, {"fog": 30.0}, "'fog of the baseline' as fractions.*30"),
        ({"fog": [0.1]}, "resnet", "'alexnet', None or a mapping. Got 'resnet'"),
    ],
)
def test_nonsense_is_refused(errors: object, baseline: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        mean_corruption_error(errors, baseline=baseline)  # type: ignore[arg-type]


def test_a_perfect_baseline_is_undefined() -> None:
    with pytest.raises(UndefinedError, match="no error on 'fog'"):
        mean_corruption_error({"fog": [0.1]}, baseline={"fog": [0.0]})
