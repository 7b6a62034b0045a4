"""Curves against scikit-learn, and counts threshold by threshold."""

import json
import math

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, precision_recall_curve

from logitlab.analysis import UndefinedError, misclassification_ap, precision_recall, risk_coverage
from logitlab.config.errors import InputError


def random_case(seed: int, *, tied: bool, n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    correct = generator.random(n) < 0.8
    confidence = generator.normal(size=n) + correct
    return (np.round(confidence, 1) if tied else confidence), correct


def risks(confidence: np.ndarray, correct: np.ndarray) -> tuple[list[float], list[float]]:
    """Coverage and risk, one threshold after the other."""
    coverage, risk = [], []
    for threshold in sorted(set(confidence), reverse=True):
        kept = confidence >= threshold
        coverage.append(kept.mean())
        risk.append((~correct[kept]).mean())
    return coverage, risk


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", ["torch", "numpy", "list", "float32"])
def test_precision_recall_equals_scikit_learn(tied: bool, kind: str) -> None:
    confidence, correct = random_case(0, tied=tied)
    if kind == "float32":
        confidence = confidence.astype(np.float32)
    give = {"torch": torch.tensor, "numpy": np.array, "list": np.ndarray.tolist, "float32": np.array}[kind]
    found = precision_recall(give(confidence), give(correct), split="test")
    # scikit-learn goes the other way, and adds the point (1, 0).
    precision, recall, thresholds = precision_recall_curve(correct, confidence)
    np.testing.assert_allclose(found.precision, precision[-2::-1], rtol=1e-14)
    np.testing.assert_allclose(found.recall, recall[-2::-1], rtol=1e-14)
    np.testing.assert_array_equal(found.thresholds, thresholds[::-1])
    assert found.value == pytest.approx(average_precision_score(correct, confidence), abs=1e-13)
    assert found.value == pytest.approx(misclassification_ap(confidence, correct).value, abs=1e-13)
    assert found.base_rate == correct.mean() == found.precision[-1]
    assert (found.n, found.split) == (300, "test")


def test_all_tied_is_one_point() -> None:
    found = precision_recall([0.5] * 10, np.arange(10) < 3)
    assert (found.precision.tolist(), found.recall.tolist(), found.thresholds.tolist()) == ([0.3], [1], [0.5])
    assert found.value == pytest.approx(0.3, abs=1e-15)
    assert found.warnings == risk_coverage([0.5] * 10, np.arange(10) < 3).warnings
    assert "All confidences are equal" in found.warnings[0]


@pytest.mark.parametrize("flags", [[True] * 3, [False] * 3])
def test_precision_needs_both_kinds(flags: list[bool]) -> None:
    with pytest.raises(UndefinedError, match=f"Got {sum(flags)} positives among 3"):
        precision_recall([0.1, 0.2, 0.3], flags)


@pytest.mark.parametrize("tied", [False, True])
def test_risk_coverage_equals_the_count(tied: bool) -> None:
    confidence, correct = random_case(1, tied=tied)
    found = risk_coverage(confidence, correct, split="test")
    coverage, risk = risks(confidence, correct)
    assert found.coverage.tolist() == pytest.approx(coverage, abs=1e-15)
    assert found.risk.tolist() == pytest.approx(risk, abs=1e-15)
    steps = np.diff(coverage, prepend=0)
    assert found.value == pytest.approx(float(steps @ risk), abs=1e-13)
    assert float(found.risk[-1]) == pytest.approx(1 - correct.mean(), abs=1e-15)
    # The best order is one of these answers: sure where right.
    best = risk_coverage(np.argsort(np.argsort(correct, kind="stable")), correct)
    assert found.excess == pytest.approx(found.value - best.value, abs=1e-13)
    assert best.excess == pytest.approx(0, abs=1e-15)
    assert (found.n, found.split) == (300, "test")


def test_without_ties_the_area_is_the_mean_of_the_risks() -> None:
    confidence, correct = random_case(2, tied=False)
    wrong = ~correct[np.argsort(-confidence)]
    expected = (wrong.cumsum() / np.arange(1, 301)).mean()
    assert risk_coverage(confidence, correct).value == pytest.approx(expected, abs=1e-13)


def test_the_best_area_nears_that_of_geifman() -> None:
    # Of many answers it is r + (1 - r) log(1 - r), with the error rate r.
    correct = np.arange(20_000) < 14_000
    best = risk_coverage(-np.arange(20_000), correct)
    assert best.value == pytest.approx(0.3 + 0.7 * math.log(0.7), abs=1e-4)
    assert best.excess == pytest.approx(0, abs=1e-13)


def test_risk_coverage_by_hand() -> None:
    # Wrong, right | wrong, right tied | right: risks 1, 1/2, 2/4, 2/5.
    found = risk_coverage([5, 4, 3, 3, 1], [0, 1, 0, 1, 1])
    assert found.coverage.tolist() == pytest.approx([0.2, 0.4, 0.8, 1])
    assert found.risk.tolist() == pytest.approx([1, 1 / 2, 1 / 2, 2 / 5])
    area = 0.2 * 1 + 0.2 / 2 + 0.4 / 2 + 0.2 * 2 / 5
    assert found.value == pytest.approx(area, abs=1e-15)
    assert found.excess == pytest.approx(area - (1 / 4 + 2 / 5) / 5, abs=1e-15)


@pytest.mark.parametrize(("flag", "area"), [(True, 0), (False, 1)])
def test_risk_is_defined_where_all_are_alike(flag: bool, area: float) -> None:
    found = risk_coverage([0.3, 0.1, 0.2], [flag] * 3)
    assert (found.value, found.excess) == (pytest.approx(area, abs=1e-15), pytest.approx(0, abs=1e-15))


@pytest.mark.parametrize("curve", [precision_recall, risk_coverage])
def test_thinning_keeps_ends_and_numbers(curve) -> None:  # type: ignore[no-untyped-def]
    confidence, correct = random_case(3, tied=False, n=1000)
    found = curve(confidence, correct)
    thin = found.thinned(50)
    assert len(thin.thresholds) == 50
    assert (thin.value, thin.n, thin.convention) == (found.value, found.n, found.convention)
    places = [found.thresholds.tolist().index(threshold) for threshold in thin.thresholds.tolist()]
    assert (places[0], places[-1]) == (0, 999)
    assert max(np.diff(places)) - min(np.diff(places)) <= 1
    for name in ("precision", "recall") if curve is precision_recall else ("coverage", "risk"):
        assert getattr(thin, name).tolist() == getattr(found, name)[places].tolist()
    assert len(found.thinned().thresholds) == 300
    assert found.thinned(1000) is found
    with pytest.raises(InputError, match="'points' of at least 2"):
        found.thinned(1)
    with pytest.raises(InputError, match="an integer 'points'"):
        found.thinned(2.5)


@pytest.mark.parametrize("curve", [precision_recall, risk_coverage])
def test_results_go_to_json_and_print(curve) -> None:  # type: ignore[no-untyped-def]
    found = curve([0.9, 0.8, 0.1], [True, False, True], split="test")
    written = json.loads(json.dumps(found.to_json()))
    assert written["thresholds"] == [0.9, 0.8, 0.1]
    assert written["value"] == found.value
    assert "test, n = 3" in str(found)


@pytest.mark.parametrize("curve", [precision_recall, risk_coverage])
def test_nonsense_is_refused(curve) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match="finite"):
        curve([0.1, math.nan], [True, False])
    with pytest.raises(InputError, match="true and false"):
        curve([0.1, 0.2], [0, 2])
    with pytest.raises(InputError, match=r"\[2\]"):
        curve([0.1, 0.2], [True])
    with pytest.raises(InputError, match="not empty"):
        curve([], [])
