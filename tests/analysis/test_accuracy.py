"""Top-k accuracy against scikit-learn and counted ties."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, top_k_accuracy_score

from logitlab.analysis import accuracy, arrays
from logitlab.config.errors import InputError


@pytest.mark.parametrize("k", [1, 2, 5, 8])
def test_equals_scikit_learn(k: int) -> None:
    generator = np.random.default_rng(0)
    scores, y = generator.normal(size=(300, 9)), generator.integers(0, 9, 300)
    found = accuracy(scores, y, k, split="test")
    assert found.value == top_k_accuracy_score(y, scores, k=k, labels=range(9))
    assert (found.n, found.split) == (300, "test")
    assert found.convention.startswith(f"top-{k}")


def test_ties_count_as_argmax_counts_them() -> None:
    generator = np.random.default_rng(1)
    scores, y = generator.integers(0, 3, size=(500, 6)), generator.integers(0, 6, 500)
    assert accuracy(scores, y).value == accuracy_score(y, scores.argmax(axis=1))
    order = np.argsort(-scores, axis=1, kind="stable")
    for k in range(1, 7):
        assert accuracy(scores, y, k).value == (order[:, :k] == y[:, None]).any(axis=1).mean()


def test_a_model_without_an_opinion_gains_nothing() -> None:
    assert accuracy(np.zeros((4, 4)), [0, 1, 2, 3], k=2).value == 0.5


def test_all_classes_hold_the_right_one() -> None:
    assert accuracy(np.eye(3), [2, 0, 1], k=3).value == 1


def test_probabilities_and_logits_agree_and_masks_pass() -> None:
    logits = torch.randn(50, 5, generator=torch.Generator().manual_seed(0))
    y = logits.argmax(dim=1)
    assert accuracy(logits, y).value == accuracy(logits.softmax(dim=1), y).value == 1.0
    logits[:, 0] = -math.inf
    assert accuracy(logits, torch.zeros(50, dtype=torch.long)).value == 0.0


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(2)
    scores, y = generator.normal(size=(31, 4)), generator.integers(0, 4, 31)
    whole = accuracy(scores, y).value
    monkeypatch.setattr(arrays, "_CHUNK_ELEMENTS", 1)
    assert accuracy(scores, y).value == whole


@pytest.mark.parametrize("k", [0, 4])
def test_k_out_of_range(k: int) -> None:
    with pytest.raises(InputError, match="'k' from 1 to 3"):
        accuracy(np.eye(3), [0, 1, 2], k)


def test_nan_is_refused() -> None:
    with pytest.raises(InputError, match=r"without NaN.*row 2"):
        accuracy([[0.0, 1.0], [1.0, 0.0], [math.nan, 0.0]], [0, 0, 0])
