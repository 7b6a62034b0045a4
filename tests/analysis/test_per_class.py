"""Accuracy class by class against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, recall_score

from logitlab.analysis import balanced_accuracy, per_class_accuracy
from logitlab.config.errors import InputError


def test_equals_scikit_learn() -> None:
    generator = np.random.default_rng(5)
    labels = generator.choice(6, 400, p=[0.5, 0.3, 0.1, 0.05, 0.04, 0.01])
    scores = generator.normal(size=(400, 6)) + 2 * np.eye(6)[labels]
    predicted = scores.argmax(axis=1)
    np.testing.assert_allclose(
        per_class_accuracy(scores, labels), recall_score(labels, predicted, average=None), rtol=1e-12
    )
    found = balanced_accuracy(scores, labels, split="test")
    assert found.value == pytest.approx(balanced_accuracy_score(labels, predicted), rel=1e-12)
    assert (found.n, found.split, found.warnings) == (400, "test", ())


def test_a_class_without_samples_is_left_out() -> None:
    found = per_class_accuracy(torch.eye(3), [0, 1, 1])
    assert found[:2].tolist() == [1.0, 0.5]
    assert found[2].isnan()
    mean = balanced_accuracy(torch.eye(3), [0, 1, 1])
    assert mean.value == 0.75
    assert "1 of 3 classes" in mean.warnings[0]


def test_labels_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="0 to 2"):
        per_class_accuracy(torch.eye(3), [0, 1, 3])
