"""OOD average precision against a count by hand and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from logitlab.analysis import UndefinedError, ood_ap
from logitlab.config.errors import InputError


def test_by_hand() -> None:
    # Ranked: right .9, OOD .8, right .7, right .5, OOD .1; the mistake of .85 is no one's business.
    found = ood_ap([0.9, 0.85, 0.7, 0.5], [True, False, True, True], [0.8, 0.1])
    assert found.value == pytest.approx((1 / 1 + 2 / 3 + 3 / 4) / 3)
    # Of 3 x 2 pairs the right one is surer in 5 - 1 = 4: .9 beats both, .7 and .5 beat .1 alone.
    assert found.details["auroc"] == pytest.approx(4 / 6)
    assert found.details["base_rate"] == 3 / 5
    assert found.n == 5


@pytest.mark.parametrize("kind", ["torch", "numpy", "list"])
def test_equals_scikit_learn(kind: str) -> None:
    generator = np.random.default_rng(3)
    # Rounded, so that many are tied.
    inside, outside = generator.normal(1, 1, 300).round(1), generator.normal(0, 1, 200).round(1)
    correct = generator.random(300) < 0.8
    give = {"torch": torch.tensor, "numpy": np.array, "list": np.ndarray.tolist}[kind]
    found = ood_ap(give(inside), give(correct), give(outside), split="test")
    positive = np.r_[np.ones(correct.sum()), np.zeros(200)]
    scores = np.r_[inside[correct], outside]
    assert found.value == pytest.approx(average_precision_score(positive, scores), rel=1e-12)
    assert found.details["auroc"] == pytest.approx(roc_auc_score(positive, scores), rel=1e-12)
    false, true, _ = roc_curve(positive, scores, drop_intermediate=False)
    assert found.details["fpr95"] == pytest.approx(false[true >= 0.95][0], abs=1e-15)
    assert found.details["base_rate"] == pytest.approx(positive.mean(), abs=1e-15)
    assert found.split == "test"


def test_mistakes_change_nothing_but_their_own_count() -> None:
    sure = ood_ap([0.9, 0.2, 0.99], [True, True, False], [0.5])
    unsure = ood_ap([0.9, 0.2, -5.0], [True, True, False], [0.5])
    assert sure.value == unsure.value == ood_ap([0.9, 0.2], [True, True], [0.5]).value


def test_equal_confidences_give_the_base_rate_and_a_warning() -> None:
    found = ood_ap([1.0, 1.0], [True, True], [1.0, 1.0, 1.0])
    assert found.value == pytest.approx(0.4)
    assert found.details["auroc"] == 0.5
    assert "base rate" in found.warnings[0]


def test_what_cannot_be_measured_is_told() -> None:
    with pytest.raises(UndefinedError, match="Got none"):
        ood_ap([0.5], [False], [0.1])
    with pytest.raises(InputError, match="confidence_ood"):
        ood_ap([0.5], [True], [float("nan")])
    with pytest.raises(InputError, match="confidence_id"):
        ood_ap([0.5, float("nan")], [True, False], [0.1])
    with pytest.raises(InputError, match="correct_id"):
        ood_ap([0.5, 0.4], [True], [0.1])
    with pytest.raises(InputError, match="confidence_ood"):
        ood_ap([0.5], [True], [])
