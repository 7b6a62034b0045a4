"""The linear probe against scikit-learn's Newton solver started cold, autograd, and closed forms."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.model_selection import PredefinedSplit
from torch.nn import functional as F

from logitlab.analysis import LinearProbe, UndefinedError, linear_probe
from logitlab.config.errors import InputError

Array = NDArray[Any]

STRENGTHS = np.logspace(-6, 5, 45)


def problem(kind: str) -> tuple[Array, Array, Array, Array]:
    """Features and labels to fit to, and to hold out."""
    generator = np.random.default_rng(3)
    shares = {"unbalanced": [0.55, 0.3, 0.1, 0.05]}.get(kind, [0.25] * 4)
    width = {"wide": 64, "separable": 24}.get(kind, 8)
    count = {"wide": 72, "separable": 100}.get(kind, 240)
    index = generator.choice(4, size=count, p=shares)
    x = 0.6 * generator.normal(size=(4, width))[index] + generator.normal(size=(count, width))
    if kind == "duplicated":
        x = np.hstack([x, x, x[:, :2]])
    if kind == "offset":
        x = 100 + x * np.logspace(0, -2, width)
    y = np.array([7, -2, 0, 31])[index]  # gaps, no order
    cut = count // 4
    return x[cut:], y[cut:], x[:cut], y[:cut]


def oracle(x: Array, y: Array, strength: float) -> LogisticRegression:
    """Newton with exact Hessians, from W = 0; L-BFGS, where it is used, is not the one of this package."""
    model = LogisticRegression(C=1 / strength, solver="newton-cholesky", tol=1e-12, max_iter=100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # rounding ends its line searches
        warnings.simplefilter("ignore", UserWarning)
        return model.fit(x, y)


@pytest.mark.parametrize("kind", ["balanced", "unbalanced", "duplicated", "offset", "separable", "wide"])
def test_path_equals_cold_newton_at_every_strength(kind: str) -> None:
    x, y, x_held, y_held = problem(kind)
    found = linear_probe(x, y, x_held, y_held, x_validation=x_held, y_validation=y_held)
    assert found.converged.all()
    assert found.refit_converged
    np.testing.assert_allclose(found.strengths, STRENGTHS, rtol=1e-12)
    expected = [oracle(x, y, strength).score(x_held, y_held) for strength in STRENGTHS]
    np.testing.assert_allclose(found.validation_accuracy, expected, atol=1e-12)


def test_separable_features_are_separable() -> None:
    # Else the two kinds above would not test what they are there for.
    for kind in ("separable", "wide"):
        x, y, *_ = problem(kind)
        assert oracle(x, y, 1e-4).score(x, y) == 1.0
        assert (len(x) < x.shape[1]) == (kind == "wide")


@pytest.mark.parametrize("kind", ["unbalanced", "wide", "offset"])
@pytest.mark.parametrize("strength", [1e-3, 1.0, 1e3])
def test_solution_equals_newton(kind: str, strength: float) -> None:
    x, y, x_held, y_held = problem(kind)
    found = linear_probe(x, y, x_held, y_held, variant="kobayashi", strengths=strength, tolerance=1e-14)
    model = oracle(x, y, strength)
    assert found.value == pytest.approx(model.score(x_held, y_held), abs=1e-12)
    assert found.classes.tolist() == model.classes_.tolist() == [-2, 0, 7, 31]
    scale = np.abs(model.coef_).max()
    np.testing.assert_allclose(found.weight, model.coef_, atol=1e-6 * scale)
    ours, theirs = x_held @ found.weight.numpy().T + found.bias.numpy(), model.decision_function(x_held)
    center = theirs.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(
        ours - ours.mean(axis=1, keepdims=True), theirs - center, atol=1e-6 * np.abs(theirs).max()
    )


@pytest.mark.parametrize("kind", ["unbalanced", "wide", "duplicated"])
@pytest.mark.parametrize("strength", [1e-6, 1e-2, 10.0])
def test_gradient_of_the_solution_is_zero(kind: str, strength: float) -> None:
    x, y, x_held, y_held = problem(kind)
    found = linear_probe(x, y, x_held, y_held, variant="kobayashi", strengths=[strength], tolerance=1e-14)
    features = torch.from_numpy(x - x.mean(axis=0))
    target = torch.searchsorted(found.classes, torch.from_numpy(y))
    norms = []
    for start in (False, True):
        weight = (found.weight * (not start)).requires_grad_()
        bias = ((found.bias + found.weight @ torch.from_numpy(x.mean(axis=0))) * (not start)).requires_grad_()
        loss = (
            F.cross_entropy(features @ weight.T + bias, target, reduction="sum") + strength / 2 * weight.square().sum()
        )
        gradients = torch.autograd.grad(loss, (weight, bias))
        norms.append(float(torch.cat([part.reshape(-1) for part in gradients]).norm()))
    assert norms[0] / norms[1] < 2e-10
    assert float(found.gradient_norm[0]) == pytest.approx(norms[0] / norms[1], rel=1e-3, abs=1e-14)


def test_strong_penalty_leaves_the_priors() -> None:
    x, y, x_held, y_held = problem("unbalanced")
    found = linear_probe(x, y, x_held, y_held, variant="kobayashi", strengths=1e12, tolerance=1e-13)
    priors = np.array([(y == label).mean() for label in (-2, 0, 7, 31)])
    np.testing.assert_allclose(found.bias.softmax(dim=0), priors, atol=1e-8)
    assert found.weight.abs().max() < 1e-8
    assert found.value == (y_held == 7).mean()


def test_equals_logistic_regression_cv_with_refit() -> None:
    x, y, x_held, y_held = problem("unbalanced")
    x_test, y_test = np.roll(x_held, 1, axis=1), y_held
    found = linear_probe(x, y, x_test, y_test, x_validation=x_held, y_validation=y_held)
    fold = np.r_[np.full(len(y), -1), np.zeros(len(y_held), dtype=int)]
    model = LogisticRegressionCV(
        Cs=1 / found.strengths.numpy(),
        cv=PredefinedSplit(fold),
        tol=1e-8,
        max_iter=10_000,
        scoring="accuracy",
        l1_ratios=(0,),
        use_legacy_attributes=False,
    )
    model.fit(np.vstack([x, x_held]), np.r_[y, y_held])
    np.testing.assert_allclose(found.validation_accuracy, model.scores_.ravel(), atol=1e-12)
    best = found.validation_accuracy == found.validation_accuracy.max()
    # scikit-learn takes the first of the tied, this package the last.
    assert float(found.strengths[best][0]) == pytest.approx(1 / model.C_)
    assert found.strength == float(found.strengths[best][-1])
    assert found.tied.tolist() == found.strengths[best].tolist()
    refitted = oracle(np.vstack([x, x_held]), np.r_[y, y_held], found.strength)
    assert found.value == pytest.approx(refitted.score(x_test, y_test), abs=1e-12)
    np.testing.assert_allclose(found.weight, refitted.coef_, atol=1e-5 * np.abs(refitted.coef_).max())
    assert found.n == len(y_test)
    assert found.validation_count == len(y_held)


def test_two_classes_have_a_row_each() -> None:
    generator = np.random.default_rng(0)
    y = generator.integers(0, 2, size=200)
    x = generator.normal(size=(200, 3)) + y[:, None]
    found = linear_probe(x, y, x, y, variant="kobayashi", strengths=3.0)
    # Softmax over two rows ±w/2: the penalty of the difference w is half of scikit-learn's for one row.
    model = LogisticRegression(C=2 / 3.0, tol=1e-10).fit(x, y)
    np.testing.assert_allclose((found.weight[1] - found.weight[0]), model.coef_[0], atol=1e-5)
    np.testing.assert_allclose(float(found.bias[1] - found.bias[0]), model.intercept_[0], atol=1e-5)


@pytest.mark.parametrize("kind", ["list", "torch", "float32", "memmap"])
def test_takes_any_array(kind: str, tmp_path: Path) -> None:
    x, y, x_held, y_held = problem("unbalanced")
    x, x_held = (a.astype(np.float32).astype(np.float64) for a in (x, x_held))
    expected = linear_probe(x, y, x_held, y_held, strengths=[0.1, 1.0])
    given: list[Any] = [x, y, x_held, y_held]
    if kind == "memmap":
        np.save(tmp_path / "x.npy", x.astype(np.float32))
        given[0] = np.load(tmp_path / "x.npy", mmap_mode="r")
    else:
        make = {"list": np.ndarray.tolist, "torch": torch.from_numpy, "float32": lambda a: a.astype(np.float32)}[kind]
        given[0], given[2] = make(x), make(x_held)
    before = x.copy()
    found = linear_probe(*given, strengths=(1.0, 0.1))  # the order given does not count
    assert np.array_equal(x, before)  # which the tensor shares
    assert found.value == expected.value
    assert torch.equal(found.weight, expected.weight)
    assert torch.equal(found.strengths, expected.strengths)


def test_largest_of_the_tied_is_taken() -> None:
    # Far apart: every strength but the largest tells all of them apart.
    x, y = np.repeat([[-5.0], [5.0]], 20, axis=0), np.repeat([0, 1], 20)
    found = linear_probe(x, y, x, y, strengths=[1e-3, 1e-1, 10.0])
    assert found.tied.tolist() == [1e-3, 1e-1, 10.0]
    assert found.strength == 10.0
    assert found.at_edge
    assert "edge" in found.warnings[0]
    assert "3 strengths from 0.001 to 10 share" in found.warnings[1]


def test_inner_choice_is_not_at_the_edge() -> None:
    x, y, x_held, y_held = problem("separable")
    found = linear_probe(x, y, x_held, y_held, x_validation=x_held, y_validation=y_held)
    assert not found.at_edge
    assert found.strengths[0] < found.strength < found.strengths[-1]


def test_no_unconverged_run_is_called_converged() -> None:
    x, y, x_held, y_held = problem("separable")
    found = linear_probe(x, y, x_held, y_held, strengths=[1e-4, 1e-3, 1e3], max_iterations=4)
    assert found.converged.tolist()[:2] == [False, False]
    assert found.iterations.max() == 4
    assert "at strength 0.0001, 0.001" in found.warnings[0]
    assert not linear_probe(x, y, x_held, y_held, strengths=[1e-4], max_iterations=4).refit_converged
    alone = linear_probe(x, y, x_held, y_held, strengths=1e-4, max_iterations=4, variant="kobayashi")
    assert not alone.refit_converged
    assert len(alone.warnings) == 1
    assert "Not converged" in str(alone)


def test_hold_out_draws_from_each_class_and_leaves_one() -> None:
    generator = np.random.default_rng(0)
    y = np.repeat([0, 1, 2, 3], [100, 50, 2, 1])
    x = generator.normal(size=(153, 3)) + y[:, None]
    runs = [linear_probe(x, y, x, y, seed=seed, strengths=[0.1, 1.0]) for seed in (0, 0, 1, 2, 3)]
    assert torch.equal(runs[0].validation_accuracy, runs[1].validation_accuracy)
    assert len({tuple(run.validation_accuracy.tolist()) for run in runs}) > 1
    # 20 + 10 of the large classes, one or none of the pair, none of the single one.
    assert {run.validation_count for run in runs} <= {30, 31}
    assert not any("not fitted" in warning for run in runs for warning in run.warnings)


def test_classes_that_were_not_fitted_are_said() -> None:
    x, y, x_held, y_held = problem("balanced")
    some = y != 31
    found = linear_probe(x[some], y[some], x_held, y_held, x_validation=x_held, y_validation=y_held, strengths=[1.0])
    assert found.classes.tolist() == [-2, 0, 7, 31]  # the last fit has them all
    assert f"{(y_held == 31).sum()} of 60 held-out samples have a class that was not fitted (31)" in found.warnings[0]
    expected = oracle(x[some], y[some], 1.0).score(x_held, y_held)
    assert float(found.validation_accuracy[0]) == pytest.approx(expected, abs=1e-12)
    found = linear_probe(x[some], y[some], x_held, y_held, strengths=1.0, variant="kobayashi")
    assert "test samples" in found.warnings[0]
    assert found.value == pytest.approx(expected, abs=1e-12)


def test_constant_features_leave_the_most_frequent_class() -> None:
    y = np.repeat([4, 9], [10, 30])
    found = linear_probe(np.ones((40, 3)), y, np.ones((4, 3)), [4, 9, 9, 9], strengths=[1e-3, 1.0])
    assert found.value == 0.75
    assert found.converged.all()
    balanced = linear_probe(np.zeros((40, 3)), np.arange(40) % 2, np.zeros((4, 3)), [1, 0, 0, 0], variant="kobayashi")
    assert balanced.value == 0.75  # all logits equal: the lower class
    assert balanced.refit_iterations == 0
    assert balanced.refit_converged


def test_kobayashi_has_no_path() -> None:
    x, y, x_held, y_held = problem("balanced")
    found = linear_probe(x, y, x_held, y_held, variant="kobayashi", split="test")
    assert found.strengths.tolist() == [1.0]
    assert found.validation_accuracy.isnan().all()
    assert found.validation_count == 0
    assert not found.at_edge
    assert found.value == pytest.approx(oracle(x, y, 1.0).score(x_held, y_held), abs=1e-12)
    assert str(found).startswith("linear_probe 0.")
    assert "no path; test, n = 60" in str(found)


def test_json() -> None:
    x, y, x_held, y_held = problem("balanced")
    found = linear_probe(x, y, x_held, y_held, strengths=[0.1, 1.0])
    entry = json.loads(json.dumps(found.to_json()))
    assert isinstance(found, LinearProbe)
    assert entry["value"] == found.value
    assert entry["strengths"] == [0.1, 1.0]
    assert entry["converged"] == [True, True]
    assert "weight" not in entry
    assert "bias" not in entry


X, Y = np.arange(12.0).reshape(6, 2), np.array([0, 0, 0, 1, 1, 1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"x_train": np.where(X == 3, np.nan, X)},
            "Expected 'x_train' with finite values. Got NaN or infinity in row 1",
        ),
        ({"x_train": X[:, 0]}, "Expected 'x_train' of shape"),
        ({"x_train": X[:0]}, "Expected 'x_train' of shape"),
        ({"x_train": X * 1e40}, "Expected features up to 1e\\+30"),
        ({"y_train": Y[:5]}, "Expected 'y_train' of shape \\[6\\]"),
        ({"y_train": Y / 2}, "Expected 'y_train' to hold class indices"),
        ({"x_test": X[:, :1]}, "Expected 'x_test' with 2 columns as 'x_train'. Got 1"),
        ({"y_test": Y + 5}, "Expected labels in 'y_test' that occur in 'y_train'"),
        ({"x_validation": X}, "'x_validation' and 'y_validation' together"),
        ({"x_validation": X[:, :1], "y_validation": Y}, "Expected 'x_validation' with 2 columns as 'x_train'. Got 1"),
        ({"x_validation": X, "y_validation": Y, "variant": "kobayashi"}, "Expected no 'x_validation'"),
        ({"validation_fraction": 1.0}, "Expected 'validation_fraction' between 0 and 1. Got 1.0"),
        ({"y_train": np.arange(6)}, "enough samples to hold out a part of 0.2. Got 6 samples of 6 classes"),
        ({"variant": "kornblit"}, "did you mean 'kornblith'"),
        ({"strengths": [0.0, 1.0]}, "Expected 'strengths' above 0 and finite"),
        ({"strengths": []}, "at least one"),
        ({"strengths": [1.0, 1.0]}, "Expected 'strengths' that differ"),
        ({"strengths": [1.0, 2.0], "variant": "kobayashi"}, "Expected one strength for the variant 'kobayashi'"),
        ({"tolerance": 0.0}, "Expected 'tolerance' between 0 and 1"),
        ({"max_iterations": 0}, "Expected 'max_iterations' of at least 1"),
        ({"device": "mps"}, "computes in float64"),
    ],
)
def test_bad_input_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        linear_probe(**{"x_train": X, "y_train": Y, "x_test": X, "y_test": Y, **arguments})


@pytest.mark.parametrize("variant", ["kornblith", "kobayashi"])
def test_one_class_is_refused(variant: Any) -> None:
    with pytest.raises(UndefinedError, match="at least two classes in 'y_train'. Got one, 3"):
        linear_probe(X, np.full(6, 3), X, np.full(6, 3), variant=variant)
