"""The sample with the largest κ* against a search by brute force; Eq. (29) against the softmax that it promises."""

import math

import numpy as np
import pytest

from logitlab.analysis import UndefinedError, sparse_kappa, sparse_softmax
from logitlab.config.errors import InputError


def softmax(values: np.ndarray) -> np.ndarray:
    raised = np.exp(values - values.max())
    return raised / raised.sum()


def brute_force(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """κ* of each row: twenty candidates, e^-2 to e^5, evenly spaced in the logarithm (TS Eq. (30))."""
    candidates = np.exp(np.linspace(-2, 5, 20))
    found = []
    for feature in x:
        cosine = weight @ feature
        energies = [((feature - softmax(kappa * cosine) @ weight) ** 2).sum() for kappa in candidates]
        found.append(candidates[int(np.argmin(energies))])
    return np.array(found)


@pytest.mark.parametrize("seed", range(3))
def test_equals_brute_force(seed: int) -> None:
    generator = np.random.default_rng(seed)
    x, weight = generator.normal(size=(30, 40)), generator.normal(size=(25, 40))
    units = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (x, weight)]
    kappas = brute_force(*units)
    found = sparse_softmax(x, weight, split="test")
    assert found.value == pytest.approx(kappas.max(), rel=1e-12)
    assert found.index == int(np.flatnonzero(np.isclose(kappas, kappas.max()))[0])
    cosine = units[1] @ units[0][found.index]
    np.testing.assert_allclose(found.cosines, cosine, atol=1e-12)
    wanted = softmax(found.value * cosine)
    np.testing.assert_allclose(found.probabilities, wanted, atol=1e-12)
    order = np.argsort(-wanted)
    count = next(size for size in range(1, 26) if wanted[order[:size]].sum() >= 0.9)
    assert found.winners.tolist() == order[:count].tolist()
    rest = wanted[order[count:]].sum()
    asked = (math.log((1 - rest) / rest) + math.log((25 - count) / count)) / cosine.max()
    assert found.model_kappa == pytest.approx(asked, rel=1e-9)
    assert (found.n, found.split, found.warnings) == (30, "test", ())


@pytest.mark.parametrize(("cosine", "winners", "classes", "rest"), [(0.05, 3, 1000, 0.01), (1.0, 1, 2, 0.4)])
def test_the_kappa_of_the_model_makes_the_sparse_softmax(
    cosine: float, winners: int, classes: int, rest: float
) -> None:
    kappa = sparse_kappa(cosine, winners, classes, rest)
    found = softmax(kappa * cosine * (np.arange(classes) < winners))
    # Eq. (27): each of the m holds (1 - η)/m, each of the others η/(C - m).
    np.testing.assert_allclose(found[:winners], (1 - rest) / winners, rtol=1e-10)
    np.testing.assert_allclose(found[winners:], rest / (classes - winners), rtol=1e-10)


def test_a_zero_feature_is_passed_over() -> None:
    found = sparse_softmax([[0.0, 0.0], [1.0, 0.2]], np.eye(2))
    assert found.index == 1
    assert found.warnings == ("1 of 2 features are zero and were passed over.",)
    with pytest.raises(UndefinedError, match="Every feature is zero"):
        sparse_softmax(np.zeros((3, 2)), np.eye(2))


def test_without_an_answer_the_model_has_no_kappa() -> None:
    # Opposite to both weights: no cosine is positive.
    found = sparse_softmax([[-1.0, -1.0]], np.eye(2))
    assert math.isnan(found.model_kappa)
    assert found.to_json()["model_kappa"] is None
    # Equal cosines: all classes are needed to hold 90 %.
    assert found.winners.tolist() == [0, 1]
    assert "2 of 2 classes hold 90%" in str(found)


def test_bad_input_is_refused() -> None:
    with pytest.raises(UndefinedError, match="at least two rows in 'weight'"):
        sparse_softmax(np.eye(2), np.eye(2)[:1])
    for rest in (0.0, 1.0, math.nan):
        with pytest.raises(InputError, match=r"Expected 'remainder' in \(0, 1\)"):
            sparse_softmax(np.eye(2), np.eye(2), remainder=rest)
        with pytest.raises(InputError, match=r"Expected 'remainder' in \(0, 1\)"):
            sparse_kappa(0.1, 1, 3, rest)
    with pytest.raises(InputError, match="integer 'winners' from 1 to 2. Got 3"):
        sparse_kappa(0.1, 3, 3, 0.1)
    with pytest.raises(InputError, match=r"Expected 'cosine' in \(0, 1\]. Got 0"):
        sparse_kappa(0, 1, 3, 0.1)
    with pytest.raises(InputError, match="'num_classes' of at least 2. Got 1"):
        sparse_kappa(0.1, 1, 1, 0.1)
