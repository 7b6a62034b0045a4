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


@pytest.mark.parametrize("k", [0, 4, 1.5, True])
def test_k_out_of_range(k: int) -> None:
    with pytest.raises(InputError, match="'k' from 1 to 3"):
        accuracy(np.eye(3), [0, 1, 2], k)


def test_nan_is_refused() -> None:
    with pytest.raises(InputError, match=r"without NaN.*row 2"):
        accuracy([[0.0, 1.0], [1.0, 0.0], [math.nan, 0.0]], [0, 0, 0])


@pytest.mark.parametrize("k", [1, 2, 4])
def test_a_class_mask_is_the_accuracy_of_its_columns(k: int) -> None:
    generator = np.random.default_rng(3)
    # Ties in plenty.
    scores = generator.integers(0, 4, size=(400, 12)).astype(float)
    chosen = np.array([1, 4, 5, 9, 11])
    within = generator.integers(0, 5, 400)
    found = accuracy(scores, chosen[within], k, classes=chosen)
    order = np.argsort(-scores[:, chosen], axis=1, kind="stable")
    assert found.value == (order[:, :k] == within[:, None]).any(axis=1).mean()
    assert found.convention == f"top-{k} among 5 of 12 classes, ties to the lower index"
    if k == 1:
        assert found.value == accuracy_score(chosen[within], chosen[scores[:, chosen].argmax(axis=1)])
        # Other classes are often ahead: without the mask fewer are right.
        assert accuracy(scores, chosen[within]).value < found.value


def test_a_class_mask_in_any_form() -> None:
    generator = np.random.default_rng(4)
    scores, y = generator.normal(size=(60, 6)), generator.choice([0, 2, 5], 60)
    expected = accuracy(scores, y, classes=[0, 2, 5]).value
    flags = np.isin(np.arange(6), [0, 2, 5])
    for classes in (
        [5, 0, 2],
        np.array([2, 5, 0]),
        torch.tensor([0, 2, 5]),
        flags,
        torch.tensor(flags),
        flags.tolist(),
    ):
        assert accuracy(scores, y, classes=classes).value == expected
    assert accuracy(scores, y, classes=range(6)).value == accuracy(scores, y).value
    assert accuracy(scores, np.full(60, 2), classes=[2]).value == 1


@pytest.mark.parametrize(
    ("classes", "k", "message"),
    [
        ([0, 1], 1, "'y' to hold only 'classes'.*Got class 2 in row 2"),
        ([0, 1, 2, 2], 1, "each of 'classes' once"),
        ([0, 1, 2, 3], 1, "'classes' in 0 to 2"),
        ([0, 1, -1], 1, "'classes' in 0 to 2"),
        ([], 1, r"'classes' of shape \[S\], not empty"),
        ([[0, 1, 2]], 1, r"'classes' of shape \[S\], not empty. Got \[1, 3\]"),
        ([0.0, 1.0, 2.0], 1, "'classes' to hold class indices"),
        (7, 1, "'classes' as indices or booleans. Got 7"),
        (["cat"], 1, "'classes' as indices or booleans"),
        ([True, True], 1, r"'classes' of shape \[3\]"),
        ([False, False, False], 1, "at least one class"),
        ([True, True, True], 4, "'k' from 1 to 3"),
    ],
)
def test_a_class_mask_that_does_not_fit(classes: object, k: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        accuracy(np.eye(3), [0, 1, 2], k, classes=classes)


def test_k_counts_the_chosen_classes() -> None:
    with pytest.raises(InputError, match="'k' from 1 to 2"):
        accuracy(np.eye(3), [0, 1, 1], 3, classes=[0, 1])
