"""MISS average precision against the definition, counted threshold by threshold."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_curve

from logitlab.analysis import UndefinedError, misclassification_ap
from logitlab.config.errors import InputError


def step_sum(confidence: np.ndarray, correct: np.ndarray) -> float:
    total, recall = 0.0, 0.0
    for threshold in sorted(set(confidence), reverse=True):
        kept = confidence >= threshold
        new_recall = correct[kept].sum() / correct.sum()
        total += (new_recall - recall) * correct[kept].mean()
        recall = new_recall
    return total


@pytest.mark.parametrize("tied", [False, True])
def test_equals_the_step_sum(tied: bool) -> None:
    generator = np.random.default_rng(0)
    correct = generator.random(200) < 0.8
    confidence = generator.normal(size=200) + correct
    confidence = np.round(confidence) if tied else confidence
    found = misclassification_ap(confidence, correct, split="test")
    assert found.value == pytest.approx(step_sum(confidence, correct), abs=1e-12)
    right, wrong = confidence[correct], confidence[~correct]
    pairs = (right[:, None] > wrong).mean() + 0.5 * (right[:, None] == wrong).mean()
    assert found.details["auroc"] == pytest.approx(pairs, abs=1e-12)
    assert found.details["base_rate"] == correct.mean()
    assert (found.n, found.split, found.warnings) == (200, "test", ())


@pytest.mark.parametrize("positives", [1, 2, 19, 20, 21, 39, 40, 60, 100, 173])
@pytest.mark.parametrize("tied", [False, True])
def test_fpr95_equals_the_roc_curve(positives: int, tied: bool) -> None:
    generator = np.random.default_rng(positives)
    correct = generator.permutation(np.arange(200) < positives)
    confidence = generator.normal(size=200) + correct
    confidence = np.round(confidence) if tied else confidence
    false, true, _ = roc_curve(correct, confidence, drop_intermediate=False)
    expected = false[true >= 0.95][0]
    assert misclassification_ap(confidence, correct).details["fpr95"] == pytest.approx(expected, abs=1e-15)


def test_fpr95_by_hand() -> None:
    # Of twenty right answers one may be refused: the threshold is the second smallest, which one of two mistakes ties.
    right, wrong = np.arange(20.0), [1.0, 0.5]
    found = misclassification_ap(np.r_[right, wrong], np.arange(22) < 20)
    assert found.details["fpr95"] == 0.5
    # Of nineteen none may.
    found = misclassification_ap(np.r_[right[1:], wrong], np.arange(21) < 19)
    assert found.details["fpr95"] == 0.5
    assert misclassification_ap([1, 1, 1], [1, 1, 0]).details["fpr95"] == 1
    assert misclassification_ap([2, 2, 1], [1, 1, 0]).details["fpr95"] == 0


def test_correct_answers_are_the_positives() -> None:
    # One mistake, ranked last: perfect. Ranked first: precision 1/2, 2/3, 3/4 at the three recalls.
    assert misclassification_ap([4, 3, 2, 1], [1, 1, 1, 0]).value == 1
    assert misclassification_ap([1, 2, 3, 4], [1, 1, 1, 0]).value == pytest.approx((1 / 2 + 2 / 3 + 3 / 4) / 3)


def test_tied_confidences_give_the_base_rate() -> None:
    found = misclassification_ap(torch.full((10,), 0.5), torch.arange(10) < 3)
    assert found.value == pytest.approx(0.3)
    assert "base rate" in found.warnings[0]


def test_scores_of_any_range_are_taken_as_they_are() -> None:
    # Libraries that pass scores outside [0, 1] through a sigmoid find feature norms around 40 all equal.
    confidence = np.array([45.0, 44.0, 39.0, 36.0, -3.0])
    correct = np.array([True, False, True, True, False])
    shifted = misclassification_ap(1000 * confidence + 7, correct).value
    assert misclassification_ap(confidence, correct).value == shifted == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)


@pytest.mark.parametrize("answers", [[True] * 3, [False] * 3])
def test_nothing_to_tell_apart(answers: list[bool]) -> None:
    with pytest.raises(UndefinedError, match=f"{sum(answers)} right ones among 3"):
        misclassification_ap([0.1, 0.2, 0.3], answers)


def test_nonsense_is_refused() -> None:
    with pytest.raises(InputError, match="finite"):
        misclassification_ap([0.1, math.nan], [True, False])
    with pytest.raises(InputError, match="true and false"):
        misclassification_ap([0.1, 0.2], [0, 2])
    with pytest.raises(InputError, match=r"\[2\]"):
        misclassification_ap([0.1, 0.2], [True])
    with pytest.raises(InputError, match=r"\[N\]"):
        misclassification_ap([[0.1, 0.2]], [True])
