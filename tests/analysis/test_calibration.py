"""NLL and ECE against scikit-learn, a literal transcription of Guo et al. (2017), and closed forms."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import special
from sklearn.metrics import log_loss

from logitlab.analysis import arrays, expected_calibration_error, negative_log_likelihood
from logitlab.config.errors import InputError


def guo(p: np.ndarray, y: np.ndarray, bins: int) -> float:
    """Bins (lo, hi] one by one, gaps weighted by their size."""
    confidence, right = p.max(axis=1), p.argmax(axis=1) == y
    borders = np.linspace(0, 1, bins + 1)
    total = 0.0
    for low, high in itertools.pairwise(borders):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total


def random_case(seed: int, n: int = 400, c: int = 7) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    p = special.softmax(2 * generator.normal(size=(n, c)), axis=1)
    return p, np.array([generator.choice(c, p=row**0.5 / (row**0.5).sum()) for row in p])


@pytest.mark.parametrize("bins", [1, 2, 15, 40])
def test_ece_equals_the_sum_over_bins(bins: int) -> None:
    p, y = random_case(0)
    found = expected_calibration_error(p, y, bins, split="test")
    assert found.value == pytest.approx(guo(p, y, bins), abs=1e-14)
    assert (found.n, found.split) == (400, "test")
    assert f"{bins} bins" in found.convention


def test_ece_of_one_bin_is_the_gap_of_the_means() -> None:
    p, y = random_case(1)
    expected = abs((p.argmax(axis=1) == y).mean() - p.max(axis=1).mean())
    assert expected_calibration_error(p, y, bins=1).value == pytest.approx(expected, abs=1e-14)


def test_ece_by_hand() -> None:
    # Five at confidence .75, three right: |.6 - .75| = .15. Five at 1.0, all right: no gap.
    p = [[0.75, 0.25]] * 5 + [[0.0, 1.0]] * 5
    y = [0, 0, 0, 1, 1] + [1] * 5
    assert expected_calibration_error(p, y).value == pytest.approx(0.075, abs=1e-15)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_confidence_on_a_border_belongs_to_the_bin_below(dtype: torch.dtype) -> None:
    # Five bins: 0.6 closes (0.4, 0.6]. With [lo, hi) it would share a bin with 0.7, and their gaps would cancel.
    p = torch.tensor([[0.6, 0.4], [0.7, 0.3]], dtype=dtype)
    y = torch.tensor([1, 0])
    assert expected_calibration_error(p, y, bins=5).value == pytest.approx((0.6 + 0.3) / 2, abs=1e-6)
    # Only a hair above the border is in the next bin: there the gaps -0.6 and +0.3 do cancel.
    p[0] = torch.tensor([0.6001, 0.3999], dtype=dtype)
    assert expected_calibration_error(p, y, bins=5).value == pytest.approx((0.6001 - 0.3) / 2, abs=1e-6)


def test_confidence_one_has_no_bin_of_its_own() -> None:
    # Fifteen bins: 0.95 and 1.0 lie in one; gaps of opposite sign cancel (torchmetrics keeps them apart).
    p = [[0.95, 0.05], [1.0, 0.0]]
    assert expected_calibration_error(p, [0, 1]).value == pytest.approx(abs(0.05 - 1.0) / 2, abs=1e-15)


def test_perfect_and_worst() -> None:
    assert expected_calibration_error(np.eye(3), [0, 1, 2]).value == 0
    assert expected_calibration_error(np.eye(3), [1, 2, 0]).value == 1
    assert expected_calibration_error(np.eye(3, dtype=np.int64), [1, 2, 0]).value == 1


def test_nll_equals_scikit_learn() -> None:
    p, y = random_case(2)
    found = negative_log_likelihood(p, y, split="test")
    assert found.value == pytest.approx(log_loss(y, p, labels=list(range(7))), rel=1e-13)
    assert (found.n, found.split, found.warnings) == (400, "test", ())


def test_nll_of_logarithms_keeps_what_underflows() -> None:
    logits = np.array([[0.0, 800.0, 3.0], [2000.0, 0.0, -5.0], [1.0, 2.0, 3.0]])
    logarithms = special.log_softmax(logits, axis=1)
    y = [0, 2, 1]
    expected = float(np.mean([800.0, 2005.0, -logarithms[2, 1]]))
    assert negative_log_likelihood(logarithms, y, log_probabilities=True).value == pytest.approx(expected)
    found = negative_log_likelihood(np.exp(logarithms), y)
    assert found.value == math.inf
    assert "2 samples have probability zero" in found.warnings[0]
    assert found.to_json()["value"] is None


def test_nll_of_a_masked_class() -> None:
    logarithms = [[0.0, -math.inf], [math.log(0.5), math.log(0.5)]]
    assert negative_log_likelihood(logarithms, [0, 1], log_probabilities=True).value == pytest.approx(math.log(2) / 2)
    assert negative_log_likelihood(logarithms, [1, 1], log_probabilities=True).value == math.inf


def test_nll_of_certainty_is_zero_and_not_negative() -> None:
    value = negative_log_likelihood(np.eye(2), [0, 1]).value
    assert value == 0
    assert math.copysign(1, value) == 1
    over = torch.tensor([[1 + 1e-7, 0.0]], dtype=torch.float64)
    assert negative_log_likelihood(over, [0]).value == 0


@pytest.mark.parametrize("measure", [negative_log_likelihood, expected_calibration_error])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_rounded_probabilities_are_probabilities(measure, dtype: torch.dtype) -> None:  # type: ignore[no-untyped-def]
    p, y = random_case(3, n=50, c=1000)
    rounded = torch.from_numpy(p).to(dtype)
    expected = measure(p, y).value
    assert measure(rounded, y).value == pytest.approx(expected, rel=0.02, abs=0.02)


@pytest.mark.parametrize("measure", [negative_log_likelihood, expected_calibration_error])
@pytest.mark.parametrize(
    ("p", "got"),
    [
        ([[2.0, -1.0], [0.5, 0.5]], "negative"),
        ([[0.5, 0.5], [0.5, 0.6]], "1.1"),
        ([[0.2, 0.3], [0.5, 0.5]], "0.5"),
        ([[0.5, 0.5], [math.nan, 0.5]], "row 1"),
        ([[0.5, 0.5], [math.inf, 0.5]], "row 1"),
    ],
)
def test_what_is_no_probability_is_refused(measure, p: list[list[float]], got: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=got):
        measure(p, [0, 1])


def test_what_is_no_logarithm_is_refused() -> None:
    for bad in ([[0.5, 0.5]], [[-math.inf, -math.inf]], [[math.nan, 0.0]]):
        with pytest.raises(InputError, match="'p'"):
            negative_log_likelihood(bad, [0], log_probabilities=True)


def test_no_bins() -> None:
    with pytest.raises(InputError, match="'bins'"):
        expected_calibration_error([[0.5, 0.5]], [0], bins=0)


@pytest.mark.parametrize("measure", [negative_log_likelihood, expected_calibration_error])
def test_chunks_change_nothing(measure, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    p, y = random_case(4)
    whole = measure(p, y).value
    monkeypatch.setattr(arrays, "_CHUNK_ELEMENTS", 50)
    assert measure(p, y).value == pytest.approx(whole, abs=1e-14)
